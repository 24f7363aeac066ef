"""The change feed: each step of a task's life once, in order, from a cursor on."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Change, Ending, Stored
from rota.errors import InvalidArgument
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import a_definition, a_tick
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    OpenRepository,
    a_task,
    ending,
    some_tasks,
)

DAY = 86_400
PATIENCE = 30.0


class Follower:
    """One reader of the feed, with its cursor."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.cursor: str | None = None

    def read(self, limit: int = 100) -> list[Change]:
        """One page."""
        changes, self.cursor = self.repository.updated_since(self.cursor, limit)
        return changes

    def await_changes(self, count: int) -> list[tuple[str, Stored]]:
        """So many changes as (id, state), and whatever came with the last of them.

        A database may hold changes back while older transactions run, also those of
        others, so that this asks again until they are there.
        """
        told: list[Change] = []
        give_up = time.monotonic() + PATIENCE
        while len(told) < count and time.monotonic() < give_up:
            told += self.read()
        return [(change.task_id, change.state) for change in told]


class FeedContract(ContractBase):
    """``feed`` and ``updated_since``."""

    def test_the_feed_is_off_until_it_is_turned_on(self, repository: Repository) -> None:
        follower = Follower(repository)
        self.put(repository, a_task())
        assert follower.read() == []
        repository.feed(on=True)
        later = self.put(repository, a_task())
        assert follower.await_changes(1) == [(later, Stored.SCHEDULED)]
        assert Follower(repository).await_changes(1) == [(later, Stored.SCHEDULED)]

    def test_turned_off_it_keeps_what_it_has_and_writes_nothing(
        self, repository: Repository
    ) -> None:
        repository.feed(on=True)
        repository.feed(on=True)
        first = self.put(repository, a_task())
        repository.feed(on=False)
        untold = self.put(repository, a_task())
        repository.cancel(untold, "no")
        assert Follower(repository).await_changes(1) == [(first, Stored.SCHEDULED)]
        repository.feed(on=True)
        last = self.put(repository, a_task())
        assert Follower(repository).await_changes(2) == [
            (first, Stored.SCHEDULED),
            (last, Stored.SCHEDULED),
        ]

    def test_a_change_says_what_happened_and_when(self, repository: Repository) -> None:
        repository.feed(on=True)
        task_id = self.put(repository, a_task())
        follower = Follower(repository)
        assert follower.await_changes(1) == [(task_id, Stored.SCHEDULED)]
        (change,), _ = repository.updated_since(None, 10)
        assert change.at.utcoffset() == timedelta(0)
        assert abs(change.at - repository.now()) < timedelta(seconds=SLACK)

    def test_a_tasks_life_is_told_in_order_without_its_claims(self, repository: Repository) -> None:
        repository.feed(on=True)
        node = NodeHandle(repository)
        task_id = self.put(repository, a_task())
        for kind in (Ending.RETRY, Ending.AGAIN, Ending.RELEASE, Ending.PARK, Ending.DONE):
            node.end(node.claim_one(task_id), kind)
        waits = (task_id, Stored.SCHEDULED)
        assert Follower(repository).await_changes(6) == [
            waits,
            waits,
            waits,
            waits,
            (task_id, Stored.PARKED),
            (task_id, Stored.DONE),
        ]

    def test_every_way_to_end_is_told(self, repository: Repository, clock: FakeClock) -> None:
        repository.feed(on=True)
        node = NodeHandle(repository)
        tasks = [a_task(expires_in=100), a_task(), a_task(), a_task(), a_task()]
        expired, cancelled, failed, given_up, turned = (task.id for task in tasks)
        self.put(repository, *tasks)
        unknown = new_id()
        node.end(node.claim_one(failed), Ending.FAILED)
        node.end(node.claim_one(given_up), Ending.CANCELLED)
        repository.cancel(cancelled, "no")
        claimed = node.claim_one(turned)
        repository.cancel(turned, "stop")
        node.end(claimed, Ending.RETRY)
        repository.cancel(unknown, "never mind", tombstone=True)
        clock.advance(300)
        assert repository.expire(10) == [expired]
        follower = Follower(repository)
        told = follower.await_changes(11)
        assert sorted(told[:5]) == sorted((task.id, Stored.SCHEDULED) for task in tasks)
        assert told[5:] == [
            (failed, Stored.FAILED),
            (given_up, Stored.CANCELLED),
            (cancelled, Stored.CANCELLED),
            (turned, Stored.CANCELLED),
            (unknown, Stored.CANCELLED),
            (expired, Stored.CANCELLED),
        ]

    def test_what_is_taken_back_is_told(self, repository: Repository) -> None:
        repository.feed(on=True)
        tasks = [a_task(), a_task(options=Options(max_rescues=0).encode()), a_task()]
        self.put(repository, *tasks)
        follower = Follower(repository)
        follower.await_changes(3)
        node = NodeHandle(repository)
        waiting, lost, dropped = (node.claim_one(task.id) for task in tasks)
        assert repository.drop_lease(node.id, dropped.batch) == 1
        assert follower.await_changes(1) == [(dropped.id, Stored.SCHEDULED)]
        repository.leave(node.id)
        assert len(repository.rescue(10)) == 2
        assert sorted(follower.await_changes(2)) == sorted(
            [(waiting.id, Stored.SCHEDULED), (lost.id, Stored.FAILED)]
        )

    def test_tasks_of_the_house_itself_are_told_as_well(self, repository: Repository) -> None:
        repository.feed(on=True)
        at = repository.now()
        repository.put_recurring(a_definition(at))
        fire, child = a_tick(at)
        repository.fire([(fire, child)])
        assert child is not None
        follower = Follower(repository)
        assert follower.await_changes(1) == [(child.id, Stored.SCHEDULED)]
        follow = a_task()
        node = NodeHandle(repository)
        node.end(node.claim_one(child.id), follow=follow)
        assert sorted(follower.await_changes(2)) == sorted(
            [(child.id, Stored.DONE), (follow.id, Stored.SCHEDULED)]
        )

    def test_what_was_not_written_is_not_told(self, repository: Repository) -> None:
        repository.feed(on=True)
        node = NodeHandle(repository)
        task = a_task(unique="k", given_id=True)
        self.put(repository, task)
        repository.insert([a_task(unique="k"), task])
        claimed = node.claim_only()
        node.end(claimed)
        node.end(claimed, Ending.FAILED)
        node.finish(ending(claimed, Ending.DONE), repeated=True)
        repository.cancel(task.id, "late")
        last = self.put(repository, a_task())
        assert Follower(repository).await_changes(3) == [
            (task.id, Stored.SCHEDULED),
            (task.id, Stored.DONE),
            (last, Stored.SCHEDULED),
        ]

    def test_changes_of_what_waits_are_not_told(self, repository: Repository) -> None:
        repository.feed(on=True)
        task_id = self.put(repository, a_task(unique="k", delay=60))
        repository.update(task_id, {"priority": 3, "queue": "other", "params": '{"n":2}'}, None)
        repository.insert([a_task(unique="k", on_conflict="replace", priority=4)])
        repository.cancel(task_id, "no")
        assert Follower(repository).await_changes(2) == [
            (task_id, Stored.SCHEDULED),
            (task_id, Stored.CANCELLED),
        ]

    def test_a_cursor_of_something_else_is_refused_by_name(self, repository: Repository) -> None:
        for cursor in ("", "yesterday", "-1"):
            with pytest.raises(InvalidArgument) as met:
                repository.updated_since(cursor, 10)
            assert met.value.field == "cursor"

    def test_it_is_read_page_by_page(self, repository: Repository) -> None:
        repository.feed(on=True)
        order = [self.put(repository, a_task()) for _ in range(7)]
        assert len(Follower(repository).await_changes(7)) == 7
        follower = Follower(repository)
        pages = [follower.read(3) for _ in range(4)]
        assert [len(page) for page in pages] == [3, 3, 1, 0]
        assert [change.task_id for page in pages for change in page] == order

    def test_a_call_that_writes_many_is_told_in_pages_too(self, repository: Repository) -> None:
        repository.feed(on=True)
        tasks = some_tasks(250)
        self.put(repository, *tasks)
        told = Follower(repository).await_changes(250)
        assert sorted(told) == sorted((task.id, Stored.SCHEDULED) for task in tasks)

    def test_an_old_cursor_goes_on_after_what_was_read(self, repository: Repository) -> None:
        repository.feed(on=True)
        self.put(repository, a_task())
        follower = Follower(repository)
        follower.await_changes(1)
        cursor = follower.cursor
        assert follower.read() == []
        second = self.put(repository, a_task())
        assert follower.await_changes(1) == [(second, Stored.SCHEDULED)]
        changes, _ = repository.updated_since(cursor, 10)
        assert [change.task_id for change in changes] == [second]

    def test_another_handle_reads_on_from_the_cursor(
        self, repository: Repository, open_repository: OpenRepository
    ) -> None:
        repository.feed(on=True)
        other = Follower(open_repository())
        self.put(repository, a_task())
        follower = Follower(repository)
        follower.await_changes(1)
        second = self.put(other.repository, a_task())
        other.cursor = follower.cursor
        assert other.await_changes(1) == [(second, Stored.SCHEDULED)]

    def test_changes_are_kept_for_a_week(self, repository: Repository, clock: FakeClock) -> None:
        repository.feed(on=True)
        first = self.put(repository, a_task())
        follower = Follower(repository)
        follower.await_changes(1)
        clock.advance(5 * DAY)
        repository.tidy()
        second = self.put(repository, a_task())
        assert Follower(repository).await_changes(2)[0] == (first, Stored.SCHEDULED)
        clock.advance(5 * DAY)
        repository.tidy()
        assert Follower(repository).await_changes(1) == [(second, Stored.SCHEDULED)]
        assert follower.await_changes(1) == [(second, Stored.SCHEDULED)]
        clock.advance(10 * DAY)
        repository.tidy()
        third = self.put(repository, a_task())
        assert Follower(repository).await_changes(1) == [(third, Stored.SCHEDULED)]
        assert follower.await_changes(1) == [(third, Stored.SCHEDULED)]
