"""Queues, priorities and pauses: which lanes are offered, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.ports import Repository
from rota.core.task import Ending, Want
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ids,
    some_tasks,
)


def lanes(repository: Repository, *queues: str) -> set[tuple[str, int]]:
    return {(lane.queue, lane.priority) for lane in repository.agenda(queues or None)}


class LaneContract(ContractBase):
    """``agenda``, claims over several lanes, ``pause_queue``."""

    def test_an_empty_repository_has_an_empty_agenda(self, repository: Repository) -> None:
        assert repository.agenda(None) == []
        assert repository.agenda(["default"]) == []

    def test_the_agenda_has_one_lane_per_queue_and_priority(self, repository: Repository) -> None:
        for queue, priority in (("a", 0), ("a", 5), ("b", -3), ("a", 5)):
            self.put(repository, a_task(queue=queue, priority=priority))
        assert len(repository.agenda(None)) == 3
        assert lanes(repository) == {("a", 0), ("a", 5), ("b", -3)}
        assert lanes(repository, "a") == {("a", 0), ("a", 5)}
        assert lanes(repository, "b", "c") == {("b", -3)}
        assert lanes(repository, "c") == set()

    def test_within_a_queue_the_higher_priority_is_listed_first(
        self, repository: Repository
    ) -> None:
        for priority in (0, 7, -2, 100, -100):
            self.put(repository, a_task(priority=priority))
        assert [lane.priority for lane in repository.agenda(["default"])] == [100, 7, 0, -2, -100]

    def test_a_lane_says_when_its_first_task_is_due(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task(delay=900), a_task(delay=300))
        (lane,) = repository.agenda(None)
        assert abs(lane.due_in - 300) < SLACK
        clock.advance(200)
        (lane,) = repository.agenda(None)
        assert abs(lane.due_in - 100) < SLACK
        clock.advance(200)
        node.beat()
        (lane,) = repository.agenda(None)
        assert lane.due_in <= 0
        node.claim()
        (lane,) = repository.agenda(None)
        assert abs(lane.due_in - 500) < SLACK

    def test_working_parked_and_finished_tasks_are_not_on_the_agenda(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(3))
        first, second, _ = node.claim()
        node.end(first)
        node.end(second, Ending.PARK)
        assert repository.agenda(None) == []

    def test_a_claim_takes_from_the_lanes_it_names_only(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task(queue="a"), a_task(queue="b"), a_task(queue="a", priority=1))
        (claimed,) = node.claim(queue="a", priority=1)
        assert (claimed.queue, claimed.priority) == ("a", 1)
        assert node.claim(queue="c") == []
        assert lanes(repository) == {("a", 0), ("b", 0)}

    def test_one_claim_serves_several_lanes_each_by_its_own_want(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for queue, priority in (("a", 9), ("a", 0), ("b", 0)):
            self.put(repository, *some_tasks(5, queue=queue, priority=priority))
        taken = node.claim_wants([Want("a", 9, 2), Want("a", 0, 3), Want("b", 0, 1)])
        by_lane = [(claimed.queue, claimed.priority) for claimed in taken]
        assert sorted(by_lane) == [("a", 0)] * 3 + [("a", 9)] * 2 + [("b", 0)]

    def test_a_claim_without_wants_takes_nothing(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        assert node.claim_wants([]) == []
        assert node.claim().pop().id

    def test_a_paused_queue_offers_nothing_until_it_is_resumed(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        held, free = a_task(queue="held"), a_task(queue="free")
        self.put(repository, held, free)
        repository.pause_queue("held", "maintenance")
        assert repository.paused_queues() == {"held": "maintenance"}
        other = make_node()
        assert lanes(other.repository) == {("free", 0)}
        assert lanes(other.repository, "held") == set()
        wants = [Want("held", 0, 5), Want("free", 0, 5)]
        assert ids(other.claim_wants(wants)) == [free.id]
        assert other.repository.resume_queue("held")
        assert repository.paused_queues() == {}
        assert lanes(repository) == {("held", 0)}
        assert ids(other.claim_wants(wants)) == [held.id]

    def test_resuming_a_queue_that_was_not_paused_says_so(self, repository: Repository) -> None:
        assert repository.resume_queue("never") is False

    def test_pausing_again_replaces_the_reason(self, repository: Repository) -> None:
        repository.pause_queue("q", "one")
        repository.pause_queue("q", "two")
        assert repository.paused_queues() == {"q": "two"}
        assert repository.resume_queue("q")

    def test_a_paused_queue_still_lets_its_running_tasks_finish(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.pause_queue("default", "")
        assert node.end(claimed, Ending.RETRY) is not None
        assert node.claim() == []
        assert node.claim_one(task_id).attempt == 2

    def test_a_paused_queue_offers_no_parked_tasks(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        node.end(node.claim_only(), Ending.PARK)
        repository.pause_queue("default", "")
        assert node.claim_parked("demo") == []
        repository.resume_queue("default")
        assert len(node.claim_parked("demo")) == 1
