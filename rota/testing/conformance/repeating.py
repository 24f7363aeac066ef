"""A finish whose reply was lost: saying it again must not refuse it, nor do it twice."""

from __future__ import annotations

from rota.core.ports import Repository
from rota.core.task import Ending, Stored
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    some_tasks,
)


class RepeatingContract(ContractBase):
    """``finish(…, repeated=True)``."""

    def test_a_repeated_outcome_that_had_been_written_counts_as_accepted(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        cases = {
            Ending.DONE: Stored.DONE,
            Ending.FAILED: Stored.FAILED,
            Ending.CANCELLED: Stored.CANCELLED,
            Ending.RETRY: Stored.SCHEDULED,
            Ending.AGAIN: Stored.SCHEDULED,
        }
        for kind, state in cases.items():
            task_id = self.put(repository, a_task())
            finish = ending(node.claim_only(), kind, delay=600)
            assert node.finish(finish) == [state]
            told = repository.attempts(task_id)
            assert node.finish(finish, repeated=True) == [state], kind
            assert repository.attempts(task_id) == told
            assert repository.states([task_id]) == {task_id: state}

    def test_a_repeated_outcome_that_had_not_been_written_is_written(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.DONE, Ending.RETRY, Ending.RELEASE):
            self.put(repository, a_task())
            finish = ending(node.claim_only(), kind, delay=600)
            assert node.finish(finish, repeated=True) != [None], kind

    def test_a_repeated_retry_does_not_touch_the_attempt_that_followed(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        finish = ending(node.claim_only(), Ending.RETRY)
        node.finish(finish)
        second = node.claim_one(task_id)
        (answer,) = node.finish(finish, repeated=True)
        assert answer is not None
        found = repository.get(task_id)
        assert found is not None
        assert (found.node, found.batch, found.attempt) == (node.id, second.batch, 2)
        assert node.end(second) is Stored.DONE

    def test_a_repeated_finish_tells_its_own_outcomes_from_foreign_ones(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(3))
        first, second, third = node.claim()
        node.end(first)
        repository.cancel(second.id, "stop")
        node.end(second, Ending.RELEASE)
        answers = node.finish(
            *[ending(claimed, Ending.DONE) for claimed in (first, second, third)], repeated=True
        )
        assert (answers[0], answers[2]) == (Stored.DONE, Stored.DONE)
        assert repository.states([second.id]) == {second.id: Stored.CANCELLED}

    def test_a_repeated_outcome_of_an_older_attempt_is_not_taken_for_the_last_one(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        repository.drop_lease(node.id, first.batch)
        node.end(node.claim_one(task_id), payload='"second"')
        before = repository.get(task_id)
        assert before is not None
        assert before.result == "second"
        for kind in Ending:
            assert node.finish(ending(first, kind), repeated=True) == [None], kind
            assert repository.get(task_id) == before

    def test_a_zombies_repeated_finish_is_still_refused(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        kinds = (Ending.DONE, Ending.RETRY, Ending.RELEASE)
        task_id = self.put(repository, a_task())
        zombie = node.claim_only()
        self.lose(repository, clock, node)
        before = repository.get(task_id)
        for kind in kinds:
            assert node.finish(ending(zombie, kind), repeated=True) == [None], kind
            assert repository.get(task_id) == before
        second = NodeHandle(repository)
        second.end(second.claim_one(task_id), payload='"second"')
        before = repository.get(task_id)
        assert before is not None
        assert before.result == "second"
        for kind in kinds:
            assert node.finish(ending(zombie, kind), repeated=True) == [None], kind
            assert repository.get(task_id) == before
