"""Tasks whose work the claiming node did not know: they wait for one that does."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)


class ParkingContract(ContractBase):
    """``finish`` with ``PARK`` and ``claim_parked``."""

    def test_parking_costs_no_attempt_and_shows_as_parked(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        assert node.end(node.claim_only(), Ending.PARK) is Stored.PARKED
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.parked, found.status) == (TaskState.SCHEDULED, True, "parked")
        assert (found.attempt, found.losses) == (0, 0)
        assert repository.states([task_id]) == {task_id: Stored.PARKED}
        assert repository.attempts(task_id) == []

    def test_a_parked_task_is_offered_to_no_ordinary_claim(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK)
        assert make_node().claim(ahead=5, look_ahead=60) == []

    def test_a_node_that_knows_the_work_takes_it(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id = self.put(repository, a_task(work="rare", params='{"n":7}'))
        node.end(node.claim_only(), Ending.PARK)
        other = make_node()
        assert other.claim_parked("common") == []
        assert other.claim_parked() == []
        (claimed,) = other.claim_parked("common", "rare")
        assert (claimed.id, claimed.attempt, claimed.params) == (task_id, 1, '{"n":7}')
        assert other.end(claimed) is Stored.DONE

    def test_the_node_that_parked_it_may_take_it_once_it_knows_the_work(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK)
        assert ids(node.claim_parked("demo")) == [task_id]

    def test_what_a_node_ignored_is_kept_from_it_but_not_from_others(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK, keep_from=True)
        assert node.claim_parked("demo") == []
        assert ids(make_node().claim_parked("demo")) == [task_id]

    def test_a_parked_task_is_held_by_nobody_and_not_rescued(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK, keep_from=True)
        self.lose(repository, clock, node)
        assert repository.states([task_id]) == {task_id: Stored.PARKED}

    def test_claim_parked_takes_no_more_than_its_limit_and_higher_priority_first(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = [a_task(priority=priority) for priority in (0, 5, -5, 9)]
        self.put(repository, *tasks)
        taken = [claimed for task in tasks for claimed in node.claim(priority=task.priority)]
        node.finish(*[ending(claimed, Ending.PARK) for claimed in taken])
        first = node.claim_parked("demo", limit=2)
        assert sorted(claimed.priority for claimed in first) == [5, 9]
        assert sorted(claimed.priority for claimed in node.claim_parked("demo", limit=9)) == [-5, 0]

    def test_a_parked_task_keeps_the_attempts_it_had(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.RETRY)
        node.end(node.claim_one(task_id), Ending.PARK)
        found = repository.get(task_id)
        assert found is not None
        assert found.attempt == 1
        (claimed,) = node.claim_parked("demo")
        assert claimed.attempt == 2

    def test_a_parked_task_can_be_cancelled(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK)
        assert repository.cancel(task_id, "no") is Stored.PARKED
        assert self.state(repository, task_id) is TaskState.CANCELLED
        assert node.claim_parked("demo") == []

    def test_a_parked_task_can_be_changed_and_stays_parked(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK)
        changed = repository.update(task_id, {"params": '{"n":2}', "priority": 4}, None)
        assert (changed.parked, changed.priority) == (True, 4)
        (claimed,) = node.claim_parked("demo")
        assert (claimed.params, claimed.priority) == ('{"n":2}', 4)

    def test_strangers_are_the_parked_tasks_of_unknown_works(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        parked = [a_task(work=work) for work in ("known", "odd", "odder", "odder")]
        self.put(repository, *parked)
        node.finish(*[ending(claimed, Ending.PARK) for claimed in node.claim()])
        self.put(repository, a_task(work="waiting"))
        strange = {(task.id, task.work) for task in parked[1:]}
        assert set(repository.strangers(["known"], 10)) == strange
        assert len(repository.strangers(["known"], 2)) == 2
        assert len(repository.strangers([], 10)) == 4
        assert repository.strangers(["known", "odd", "odder"], 10) == []

    def test_counts_tell_waiting_working_and_parked_apart(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(6))
        taken = node.claim(3)
        node.end(taken[0], Ending.PARK)
        counts = repository.counts()
        assert {name: n for name, n in counts.items() if n} == {
            "scheduled": 3,
            "working": 2,
            "parked": 1,
        }
