"""Looking at many tasks: pages, filters, counts, failures, nodes and what they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from rota.core.finding import COUNT_LIMIT, Count, TaskFilter
from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Membership, Stored, TaskState, Want
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ids,
    some_tasks,
)

PARENT = new_id()
#: Each filter, and which of the tasks of ``the_sample`` it finds.
FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "waits retries parked works done failed cancelled"),
    ({"state": "scheduled"}, "waits retries parked"),
    ({"state": "retrying"}, "retries"),
    ({"state": "parked"}, "parked"),
    ({"state": ["parked", "retrying", TaskState.WORKING]}, "retries parked works"),
    ({"state": "working"}, "works"),
    ({"state": "done"}, "done"),
    ({"state": "failed"}, "failed"),
    ({"state": "cancelled"}, "cancelled"),
    ({"state": ["scheduled", "failed"]}, "waits retries parked failed"),
    ({"queue": "mail"}, "waits done"),
    ({"queue": ["mail", "other"]}, "waits done"),
    ({"queue": "mail", "state": "scheduled"}, "waits"),
    ({"queue": "mail", "state": "done"}, "done"),
    ({"work": "send"}, "parked failed"),
    ({"work": ["send", "none"], "state": "parked"}, "parked"),
    ({"work": "none"}, ""),
    ({"unique": "k"}, "waits"),
    ({"unique": "k", "state": "done"}, ""),
    ({"parent": PARENT}, "works done"),
    ({"parent": PARENT, "state": "done"}, "done"),
    ({"parent": new_id()}, ""),
    ({"recurring": "nightly"}, "failed cancelled"),
    ({"recurring": "nightly", "state": ["working", "failed"]}, "failed"),
    ({"meta": {"tenant": 7}}, "waits failed"),
    ({"meta": {"tenant": 7, 'o"dd.é': "ü"}}, "waits"),
    ({"meta": {"flag": True}}, "done"),
    ({"meta": {"flag": 1}}, ""),
    ({"meta": {"flag": None}}, "parked"),
    ({"meta": {"tenant": "7"}}, ""),
    ({"meta": {"tenant": 7}, "state": "failed", "work": "send"}, "failed"),
]


def the_sample(repository: Repository, node: NodeHandle) -> dict[str, str]:
    """Puts in a task for each word of ``FILTERS`` and brings it there."""
    later = {"delay": 900.0}
    asked: dict[str, dict[str, Any]] = {
        "waits": {"queue": "mail", "unique": "k", "meta": '{"tenant":7,"o\\"dd.\\u00e9":"\\u00fc"}'}
        | later,
        "retries": {},
        "parked": {"work": "send", "meta": '{"flag":null}'},
        "works": {"parent": PARENT},
        "done": {"queue": "mail", "parent": PARENT, "meta": '{"flag":true,"tenant":8}'},
        "failed": {"work": "send", "recurring": "nightly", "meta": '{"tenant":7.0}'},
        "cancelled": {"recurring": "nightly"} | later,
    }
    made = {name: a_task(**fields) for name, fields in asked.items()}
    repository.insert(list(made.values()))
    taken = {claimed.id: claimed for claimed in node.claim() + node.claim(queue="mail")}
    kinds = {
        "retries": Ending.RETRY,
        "parked": Ending.PARK,
        "done": Ending.DONE,
        "failed": Ending.FAILED,
    }
    for name, kind in kinds.items():
        delay = 900.0 if kind is Ending.RETRY else 0.0
        node.end(taken[made[name].id], kind, delay=delay)
    repository.cancel(made["cancelled"].id, "no")
    return {name: task.id for name, task in made.items()}


def every_page(repository: Repository, where: TaskFilter, limit: int, **how: Any) -> list[str]:
    """The ids of all pages, one after another."""
    found: list[str] = []
    after = None
    while True:
        page = repository.find(where, limit, after, **how)
        assert len(page) <= limit
        found += ids(page.tasks)
        after = page.next
        if after is None:
            return found


class FindingContract(ContractBase):
    """``find``, ``matching``, ``counts_by``, ``failures``, ``node_infos``, ``running``."""

    def test_every_filter_finds_what_fits_and_nothing_else(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        names = {task_id: name for name, task_id in the_sample(repository, node).items()}
        for given, expected in FILTERS:
            where = TaskFilter(**given)
            found = repository.find(where, 100)
            assert {names[task.id] for task in found} == set(expected.split()), given
            assert found.next is None
            assert repository.matching(where, 100).ids == ids(found.tasks), given

    def test_what_is_found_is_what_get_says(self, repository: Repository, node: NodeHandle) -> None:
        the_sample(repository, node)
        for task in repository.find(TaskFilter(), 100):
            assert task == repository.get(task.id)

    def test_times_include_after_and_exclude_before(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        tasks = []
        for _ in range(3):
            tasks.append(self.put(repository, a_task(delay=60.0)))
            node.end(node.claim_one(tasks[-1]))
            clock.advance(3 * SLACK)
        told = [repository.get(task_id) for task_id in tasks]
        for what, moment in (
            ("created", "created_at"),
            ("due", "due_at"),
            ("finished", "finished_at"),
        ):
            middle = getattr(told[1], moment)
            after = TaskFilter(**{f"{what}_after": middle})
            before = TaskFilter(**{f"{what}_before": middle})
            assert every_page(repository, after, 1, newest_first=False) == sorted(tasks[1:])
            assert every_page(repository, before, 100, newest_first=False) == tasks[:1], what
            both = TaskFilter(
                **{f"{what}_after": middle, f"{what}_before": middle + timedelta(microseconds=1)}
            )
            assert every_page(repository, both, 100) == tasks[1:2], what

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_pages_follow_each_other_by_id(
        self, repository: Repository, node: NodeHandle, newest_first: bool
    ) -> None:
        tasks = some_tasks(7)
        self.put(repository, *tasks)
        for claimed in node.claim(4):
            node.end(claimed, Ending.FAILED if claimed.id == tasks[1].id else Ending.DONE)
        expected = sorted(ids(tasks), reverse=newest_first)
        for limit in (1, 2, 3, 7, 8):
            found = every_page(repository, TaskFilter(), limit, newest_first=newest_first)
            assert found == expected, limit

    def test_tasks_that_move_between_pages_are_neither_skipped_nor_told_twice(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = some_tasks(20)
        self.put(repository, *tasks)
        found: list[str] = []
        after = None
        for _ in range(100):
            page = repository.find(TaskFilter(work="demo"), 3, after)
            found += ids(page.tasks)
            after = page.next
            if after is None:
                break
            for claimed in node.claim(2):
                kinds = (Ending.DONE, Ending.FAILED, Ending.PARK, Ending.RETRY)
                node.end(claimed, kinds[len(found) % 4], delay=0.0)
            repository.retry_many(found[-1:])
            repository.insert(some_tasks(1))
        # Those that were put in meanwhile may have an id of the same millisecond.
        here = set(ids(tasks))
        assert [one for one in found if one in here] == sorted(here, reverse=True)
        assert len(set(found)) == len(found)

    def test_counts_by_queue_and_by_work(self, repository: Repository, node: NodeHandle) -> None:
        the_sample(repository, node)
        assert repository.counts_by("queue", None) == {
            "mail": {Stored.SCHEDULED: Count(1), Stored.DONE: Count(1)},
            "default": {
                Stored.SCHEDULED: Count(1),
                Stored.PARKED: Count(1),
                Stored.WORKING: Count(1),
                Stored.FAILED: Count(1),
                Stored.CANCELLED: Count(1),
            },
        }
        by_work = repository.counts_by("work", None)
        assert by_work["send"] == {Stored.PARKED: Count(1), Stored.FAILED: Count(1)}
        assert by_work["demo"][Stored.SCHEDULED] == Count(2)

    def test_ends_stay_counted_whatever_becomes_of_the_tasks(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(5))
        for kind in (Ending.DONE, Ending.DONE, Ending.FAILED):
            (claimed,) = node.claim(1)
            node.end(claimed, kind, ago=1.0)
        (expiring,) = repository.insert([a_task(expires_in=-1.0)])
        assert repository.expire(10) == [expiring.id]
        ended = {Stored.DONE: Count(2), Stored.FAILED: Count(1), Stored.CANCELLED: Count(1)}
        waiting = {Stored.SCHEDULED: Count(2)}
        assert repository.counts_by("queue", None) == {"default": ended | waiting}
        repository.delete_many(repository.matching(TaskFilter(), 100).ids)
        for days in (1, 2):
            # Folded into minutes, then into hours.
            clock.advance(days * 86_400.0)
            repository.tidy()
            assert repository.counts_by("work", None) == {"demo": ended | waiting}
        since = repository.now()
        assert repository.counts_by("queue", since) == {"default": waiting}
        clock.advance(120.0)
        repository.cancel(repository.matching(TaskFilter(), 1).ids[0], "late")
        now = repository.counts_by("queue", since)["default"]
        assert now == {Stored.SCHEDULED: Count(1), Stored.CANCELLED: Count(1)}

    def test_what_waits_is_counted_up_to_a_limit(self, repository: Repository) -> None:
        few = self.put(repository, a_task(queue="few"))
        for start in range(0, COUNT_LIMIT + 1, 2_000):
            left = COUNT_LIMIT + 1 - start
            repository.insert(some_tasks(min(2_000, left), queue="many"))
        counted = repository.counts_by("queue", None)
        assert counted["few"] == {Stored.SCHEDULED: Count(1)}
        assert counted["many"] == {Stored.SCHEDULED: Count(COUNT_LIMIT, more=True)}
        assert str(counted["many"][Stored.SCHEDULED]) == "10,000+"
        # A look that no index leads ends after so many rows, and says where to go on.
        assert every_page(repository, TaskFilter(queue="few"), 10) == [few]

    def test_failures_are_grouped_by_work_and_error(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        errors: Sequence[tuple[str, str | None, str | None]] = [
            ("send", '{"type":"ValueError","message":"x"}', "ValueError: x"),
            ("send", '{"type":"ValueError","message":"y"}', "ValueError: y"),
            ("send", None, "lost"),
            ("bill", '{"type":"ValueError","message":"x"}', "x"),
            ("bill", "[1]", None),
        ]
        made = []
        for work, payload, reason in errors:
            made.append(self.put(repository, a_task(work=work)))
            (claimed,) = node.claim()
            node.end(claimed, Ending.FAILED, payload=payload, reason=reason)
            clock.advance(3 * SLACK)
        told = repository.failures(None, 10)
        assert [(one.work, one.error, one.n, one.example) for one in told] == [
            ("bill", "failed", 1, made[4]),
            ("bill", "ValueError", 1, made[3]),
            ("send", "lost", 1, made[2]),
            ("send", "ValueError", 2, made[1]),
        ]
        last = repository.get(made[1])
        assert last is not None
        assert told[3].last_at == last.finished_at
        assert repository.failures(None, 2) == told[:2]
        assert repository.failures(told[1].last_at, 10) == told[:2]
        assert repository.failures(repository.now(), 10) == []

    def test_nodes_and_what_each_runs(
        self, repository: Repository, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        repository.join(Membership(7, "büro", "host", 4711, 60.0, "1.2"))
        clock.advance(3 * SLACK)
        busy = make_node()
        self.put(repository, *some_tasks(5))
        taken = busy.claim(3)
        (pulled,) = repository.claim_until(99, 1, [Want("default", 0, 1)], 60.0)
        busy.end(taken[0])
        first, second = repository.node_infos()
        assert (first.id, first.name, first.host, first.pid) == (7, "büro", "host", 4711)
        assert (first.version, first.tasks, first.lease) == ("1.2", 0, 60.0)
        assert first.started_at < second.started_at
        assert first.lease_left < 0 < second.lease_left
        assert first.beat_age >= 2 * SLACK
        assert (second.id, second.tasks) == (busy.id, 2)
        mine = sorted(ids(taken[1:]))
        assert ids(repository.running(busy.id, 10)) == mine
        assert ids(repository.running(busy.id, 1)) == mine[:1]
        assert ids(repository.running(99, 10)) == [pulled.id]
        everything = repository.running(None, 10)
        assert ids(everything) == sorted([*mine, pulled.id])
        assert everything[0] == repository.get(everything[0].id)

    def test_works_are_paused_for_all_and_for_good(
        self, repository: Repository, open_repository: Callable[[], Repository]
    ) -> None:
        assert repository.paused_works() == {}
        repository.pause_work("invoice.send", "first")
        repository.pause_work("a", "")
        repository.pause_work("invoice.send", "the provider is down")
        repository.feed(on=False)
        other = open_repository()
        assert other.paused_works() == {"a": "", "invoice.send": "the provider is down"}
        assert other.resume_work("a")
        assert not other.resume_work("a")
        assert list(repository.paused_works()) == ["invoice.send"]
