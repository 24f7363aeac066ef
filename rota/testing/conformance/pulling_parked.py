"""Claims of somebody who is no node, of tasks whose work the nodes did not know."""

from __future__ import annotations

from rota.core.ports import Repository
from rota.core.task import Ending, NewTask, Stored
from rota.testing.clock import FakeClock
from rota.testing.conformance.puller import BATCH, FIVE_MINUTES, Puller
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)


class ParkedPullingContract(ContractBase):
    """``claim_parked_until``."""

    def park(self, node: NodeHandle, *tasks: NewTask, **fields: object) -> list[str]:
        """Let a node that does not know their works claim and park them; their ids."""
        self.put(node.repository, *tasks)
        for task in tasks:
            node.end(node.claim_one(task.id), Ending.PARK, **fields)
        return [task.id for task in tasks]

    def test_what_a_node_parked_is_there_for_pullers_whatever_its_work(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        parked = self.park(node, *[a_task(work=work) for work in ("odd", "odder")])
        self.put(repository, a_task())
        puller = Puller(repository)
        assert not {*parked} & {*ids(Puller(repository).claim())}
        taken = puller.claim_parked()
        assert {*ids(taken)} == {*parked}
        assert [(one.attempt, one.batch) for one in taken] == [(1, BATCH)] * 2
        assert {one.params for one in taken} == {'{"n":1}'}
        assert Puller(repository).claim_parked() == []
        assert puller.finish(
            ending(taken[0], Ending.DONE), ending(taken[1], Ending.RETRY), over=[BATCH]
        ) == [Stored.DONE, Stored.SCHEDULED]

    def test_parked_tasks_are_pulled_from_the_named_queues_unless_paused(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        mine, _, held = self.park(node, *[a_task(queue=queue) for queue in ("a", "b", "c")])
        repository.pause_queue("c", "")
        assert ids(Puller(repository).claim_parked("a", "c")) == [mine]
        repository.resume_queue("c")
        assert ids(Puller(repository).claim_parked("a", "c")) == [held]
        assert len(Puller(repository).claim_parked()) == 1

    def test_parked_tasks_of_works_that_are_not_wanted_are_left(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = [a_task(work=work, priority=priority) for priority, work in enumerate("abcab")]
        self.park(node, *tasks)
        taken = Puller(repository).claim_parked(limit=2, but_not=["b", "d"])
        assert [one.work for one in taken] == ["a", "c"]
        assert [one.work for one in Puller(repository).claim_parked(but_not=["b"])] == ["a"]
        assert len(Puller(repository).claim_parked()) == 2

    def test_what_a_node_has_just_ignored_is_pulled_once_its_moment_is_over(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        (ignored,) = self.park(node, a_task(), keep_from=True, delay=100)
        assert Puller(repository).claim_parked() == []
        clock.advance(200)
        assert ids(Puller(repository).claim_parked()) == [ignored]

    def test_of_what_is_parked_the_highest_priority_is_pulled_first(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        kinds = [("a", 0), ("b", 7), ("a", 9), ("c", -3), ("b", 0)]
        self.park(node, *[a_task(work=work, priority=priority) for work, priority in kinds])
        assert Puller(repository).claim_parked(floor=10) == []
        taken = Puller(repository).claim_parked(limit=1)
        taken += Puller(repository).claim_parked(floor=1)
        assert [one.priority for one in taken] == [9, 7]
        rest = [one for _ in range(2) for one in Puller(repository).claim_parked(limit=2)]
        assert [one.priority for one in rest] == [0, 0, -3]

    def test_a_parked_task_that_was_pulled_is_taken_back_after_its_deadline(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        (task_id,) = self.park(node, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim_parked()
        clock.advance(FIVE_MINUTES - 100)
        assert repository.rescue(100) == []
        clock.advance(200)
        (rescued,) = repository.rescue(100)
        assert (rescued.id, rescued.state) == (task_id, Stored.SCHEDULED)
        assert puller.end(claimed) is None

    def test_parked_tasks_that_were_lost_are_pulled_alone(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        (lost,) = ids(Puller(repository).claim())
        clock.advance(FIVE_MINUTES + 100)
        repository.rescue(100)
        node.beat()
        node.end(node.claim_one(lost), Ending.PARK)
        self.park(node, *some_tasks(2))
        taken = Puller(repository).claim_parked()
        assert [one.id for one in taken if one.batch != BATCH] == [lost]
        assert len(taken) == 3
