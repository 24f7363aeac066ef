"""Taking tasks to run: what is offered, when, and under which token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState, Want
from rota.errors import AlreadyClaimed, NodeDead, TaskNotFound, WrongState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    PLAIN,
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)

MICROS = 1_000_000


class ClaimingContract(ContractBase):
    """``claim`` and ``claim_one``."""

    def test_a_claim_carries_all_that_a_run_needs(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        parent = new_id()
        fire_at = repository.now() - timedelta(hours=1)
        task = a_task(
            params='{"text":"漢字 🦉"}',
            meta='{"m":1}',
            parent=parent,
            recurring="nightly",
            fire_at=fire_at,
            expires_in=3600.0,
        )
        self.put(repository, task)
        claimed = node.claim_only()
        assert (claimed.id, claimed.work, claimed.queue, claimed.priority) == (
            task.id,
            "demo",
            "default",
            0,
        )
        assert (claimed.attempt, claimed.losses) == (1, 0)
        assert (claimed.params, claimed.options) == (task.params, PLAIN)
        assert claimed.meta is not None
        assert (claimed.parent, claimed.recurring) == (parent, "nightly")
        assert claimed.fire_at == round(fire_at.timestamp() * MICROS)
        assert claimed.expires_in is not None
        assert abs(claimed.expires_in - 3600) < SLACK
        assert abs(claimed.due_in) < SLACK

    def test_a_claimed_task_is_working_under_its_token(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        found = repository.get(task_id)
        assert found is not None
        assert found.state is TaskState.WORKING
        assert (found.node, found.batch, found.attempt) == (node.id, claimed.batch, 1)

    def test_a_claimed_task_is_not_claimed_again(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        self.put(repository, *some_tasks(3))
        assert len(node.claim()) == 3
        assert node.claim() == []
        assert make_node().claim() == []

    def test_nothing_is_claimed_before_its_time(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task(delay=600))
        assert node.claim(ahead=10) == []
        clock.advance(500)
        node.beat()
        assert node.claim(ahead=10, look_ahead=1) == []
        clock.advance(100)
        node.beat()
        assert ids(node.claim()) == [task_id]

    def test_look_ahead_offers_what_is_due_soon_with_its_due_time(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        soon = self.put(repository, a_task(delay=100))
        self.put(repository, a_task(delay=400))
        (claimed,) = node.claim(ready=5, ahead=5, look_ahead=200)
        assert claimed.id == soon
        assert abs(claimed.due_in - 100) < SLACK

    def test_without_ahead_nothing_is_taken_early(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task(delay=100))
        assert node.claim(ready=5, ahead=0, look_ahead=200) == []

    def test_ready_and_ahead_are_counted_apart(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(5), *some_tasks(5, delay=100))
        taken = node.claim(ready=3, ahead=2, look_ahead=200)
        early = [claimed for claimed in taken if claimed.due_in > SLACK]
        assert (len(taken), len(early)) == (5, 2)

    def test_of_what_is_ready_the_longest_due_comes_first(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        order = [self.put(repository, a_task(delay=delay)) for delay in (300, 100, 400, 200)]
        clock.advance(500)
        node.beat()
        taken = [node.claim_only(ready=1).id for _ in order]
        assert taken == [order[1], order[3], order[0], order[2]]

    def test_no_more_than_wanted_is_taken(self, repository: Repository, node: NodeHandle) -> None:
        self.put(repository, *some_tasks(10))
        assert len(node.claim(4)) == 4
        assert node.claim(0) == []
        assert len(node.claim(100)) == 6

    def test_a_cursor_passes_over_what_lies_before_it(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        first = self.put(repository, a_task(delay=100))
        second = self.put(repository, a_task(delay=300))
        found = repository.get(second)
        assert found is not None
        cursor = round(found.run_at.timestamp() * MICROS)
        clock.advance(500)
        node.beat()
        assert ids(node.claim(cursor=cursor)) == [second]
        assert ids(node.claim()) == [first]

    def test_the_run_at_of_a_claim_serves_as_the_next_cursor(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, *[a_task(delay=100 + n) for n in range(10)])
        clock.advance(500)
        node.beat()
        first = node.claim(5)
        rest = node.claim(5, cursor=max(claimed.run_at for claimed in first))
        assert len({*ids(first), *ids(rest)}) == 10

    def test_an_update_of_params_is_seen_by_the_next_claim(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(params='{"n":1}'))
        repository.update(task_id, {"params": '{"n":2}'}, None)
        claimed = node.claim_only()
        assert (claimed.id, claimed.params) == (task_id, '{"n":2}')

    def test_every_claim_has_a_token_of_its_own(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(4))
        assert {claimed.batch for claimed in node.claim(2)}.isdisjoint(
            {claimed.batch for claimed in node.claim(2)}
        )

    def test_a_node_that_never_joined_is_refused(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task())
        with pytest.raises(NodeDead):
            repository.claim(12345, 1, [Want("default", 0, 1)], 0.0)
        with pytest.raises(NodeDead):
            repository.claim_one(12345, 2, task_id)
        with pytest.raises(NodeDead):
            repository.claim_parked(12345, 3, ["demo"], 1, 0.0)
        assert self.state(repository, task_id) is TaskState.SCHEDULED

    def test_a_buried_node_can_claim_nothing(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.lose(repository, clock, node)
        task_id = self.put(repository, a_task())
        with pytest.raises(NodeDead):
            node.claim()
        with pytest.raises(NodeDead):
            node.claim_one(task_id)
        assert self.state(repository, task_id) is TaskState.SCHEDULED

    def test_two_thousand_tasks_are_claimed_in_one_call(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = some_tasks(2000)
        self.put(repository, *tasks)
        taken = node.claim(2000)
        assert sorted(ids(taken)) == sorted(task.id for task in tasks)
        assert node.finish(*[ending(claimed, Ending.DONE) for claimed in taken]) == [
            Stored.DONE
        ] * len(taken)

    def test_claim_one_takes_a_task_before_its_time(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(delay=3600))
        claimed = node.claim_one(task_id)
        assert (claimed.id, claimed.attempt) == (task_id, 1)
        assert abs(claimed.due_in - 3600) < SLACK
        assert node.end(claimed) is Stored.DONE

    def test_claim_one_takes_a_parked_task(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK, keep_from=True)
        assert node.claim_one(task_id).id == task_id

    def test_claim_one_says_what_stands_in_its_way(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_one(task_id)
        with pytest.raises(AlreadyClaimed):
            node.claim_one(task_id)
        node.end(claimed)
        with pytest.raises(WrongState) as met:
            node.claim_one(task_id)
        assert met.value.state == "done"
        assert not isinstance(met.value, AlreadyClaimed)
        with pytest.raises(TaskNotFound):
            node.claim_one(new_id())
