"""Writing outcomes: what each does to its task, and that only the holder's counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Finish, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    some_tasks,
)

EVERY_ENDING = list(Ending)


class FinishingContract(ContractBase):
    """``finish`` and ``attempts``; the fence that keeps everybody else out."""

    def test_done_keeps_the_result(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task(params='{"n":1}'))
        assert node.end(node.claim_only(), payload='{"sum":[1,"漢"]}', ago=2.0) is Stored.DONE
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.result, found.attempt) == (TaskState.DONE, {"sum": [1, "漢"]}, 1)
        assert found.params == {"n": 1}
        assert found.finished_at is not None
        assert found.started_at is not None
        assert abs(found.finished_at - repository.now()) < timedelta(seconds=SLACK)
        assert abs(found.finished_at - found.started_at - timedelta(seconds=2)) < timedelta(
            milliseconds=10
        )

    def test_failed_keeps_reason_and_error(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task())
        error = '{"type":"ValueError","message":"bad"}'
        answer = node.end(node.claim_only(), Ending.FAILED, reason="exception", payload=error)
        assert answer is Stored.FAILED
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.FAILED, "exception")
        assert found.error == {"type": "ValueError", "message": "bad"}
        assert found.result is None

    def test_cancelled_keeps_its_reason(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task())
        assert node.end(node.claim_only(), Ending.CANCELLED, reason="no need") is Stored.CANCELLED
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.CANCELLED, "no need")

    def test_a_retry_waits_its_delay_and_counts_the_attempt(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        assert node.end(node.claim_only(), Ending.RETRY, delay=120) is Stored.SCHEDULED
        found = repository.get(task_id)
        assert found is not None
        assert (found.status, found.attempt) == ("retrying", 1)
        assert (found.node, found.batch) == (None, None)
        assert node.claim() == []
        clock.advance(121)
        node.beat()
        assert node.claim_only().attempt == 2

    def test_again_starts_the_attempts_anew_with_new_params(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task(params='{"n":1}'))
        node.end(node.claim_only(), Ending.RETRY)
        again = node.claim_one(task_id)
        assert node.end(again, Ending.AGAIN, params='{"n":2}', delay=60) is Stored.SCHEDULED
        found = repository.get(task_id)
        assert found is not None
        assert (found.attempt, found.params, found.status) == (0, {"n": 2}, "scheduled")
        clock.advance(61)
        node.beat()
        claimed = node.claim_only()
        assert (claimed.attempt, claimed.params) == (1, '{"n":2}')

    def test_again_without_params_keeps_them(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(params='{"n":1}'))
        node.end(node.claim_only(), Ending.AGAIN)
        assert node.claim_one(task_id).params == '{"n":1}'

    def test_a_release_costs_nothing(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        assert node.end(node.claim_only(), Ending.RELEASE, delay=60) is Stored.SCHEDULED
        found = repository.get(task_id)
        assert found is not None
        assert (found.attempt, found.losses, found.status) == (0, 0, "scheduled")
        assert repository.attempts(task_id) == []
        assert node.claim() == []
        clock.advance(61)
        node.beat()
        assert node.claim_only().attempt == 1

    def test_a_release_never_makes_a_task_due_earlier(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(delay=600))
        before = repository.get(task_id)
        node.end(node.claim_one(task_id), Ending.RELEASE)
        after = repository.get(task_id)
        assert before is not None
        assert after is not None
        assert after.run_at == before.run_at

    @pytest.mark.parametrize("keep_from", [False, True])
    def test_parking_waits_its_delay_and_makes_nothing_due_earlier(
        self, repository: Repository, node: NodeHandle, clock: FakeClock, keep_from: bool
    ) -> None:
        soon = self.put(repository, a_task())
        late = self.put(repository, a_task(delay=3600))
        before = repository.get(late)
        for task_id in (soon, late):
            node.end(node.claim_one(task_id), Ending.PARK, delay=60, keep_from=keep_from)
        after = repository.get(late)
        assert before is not None
        assert after is not None
        assert after.run_at == before.run_at
        other = NodeHandle(repository)
        assert other.claim_parked("demo") == []
        clock.advance(100)
        other.beat()
        assert [claimed.id for claimed in other.claim_parked("demo")] == [soon]

    def test_an_outcome_of_a_task_that_was_never_claimed_is_refused(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        before = repository.get(task_id)
        for kind in EVERY_ENDING:
            assert node.finish(Finish(task_id, 1, 1, kind)) == [None], kind
            assert node.finish(Finish(new_id(), 1, 1, kind)) == [None], kind
            assert repository.get(task_id) == before

    def test_another_nodes_outcome_is_refused(
        self, repository: Repository, node: NodeHandle, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        before = repository.get(task_id)
        other = make_node()
        for kind in EVERY_ENDING:
            assert other.end(claimed, kind) is None, kind
            assert repository.get(task_id) == before
        assert node.end(claimed) is Stored.DONE

    def test_a_second_outcome_of_the_same_attempt_is_refused(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        node.end(claimed, payload='"first"')
        before = repository.get(task_id)
        assert before is not None
        assert (before.state, before.result) == (TaskState.DONE, "first")
        for kind in EVERY_ENDING:
            assert node.end(claimed, kind, payload='"second"') is None, kind
            assert repository.get(task_id) == before

    def test_a_late_outcome_of_attempt_one_does_not_touch_attempt_two_on_the_same_node(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        node.end(first, Ending.RETRY)
        second = node.claim_one(task_id)
        before = repository.get(task_id)
        for kind in EVERY_ENDING:
            assert node.end(first, kind) is None, kind
            assert repository.get(task_id) == before
        assert node.end(second) is Stored.DONE

    def test_old_and_new_attempt_in_one_call_are_told_apart(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        node.end(first, Ending.RELEASE)
        second = node.claim_one(task_id)
        answers = node.finish(
            ending(first, Ending.FAILED), ending(second, Ending.DONE, payload='"new"')
        )
        assert answers == [None, Stored.DONE]
        found = repository.get(task_id)
        assert found is not None
        assert found.result == "new"

    def test_one_refused_outcome_leaves_its_neighbours_accepted(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(5))
        taken = node.claim()
        node.end(taken[2], Ending.FAILED)
        answers = node.finish(*[ending(claimed, Ending.DONE) for claimed in taken])
        done = Stored.DONE
        assert answers == [done, done, None, done, done]

    def test_one_call_may_hold_every_kind_of_outcome(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(len(EVERY_ENDING)))
        taken = node.claim()
        answers = node.finish(
            *[
                ending(claimed, kind, delay=60, payload='{"k":1}', reason="r")
                for claimed, kind in zip(taken, reversed(EVERY_ENDING), strict=True)
            ]
        )
        assert answers == [
            Stored.PARKED,
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.CANCELLED,
            Stored.FAILED,
            Stored.DONE,
        ]
        assert repository.states([claimed.id for claimed in taken]) == {
            claimed.id: answer for claimed, answer in zip(taken, answers, strict=True)
        }

    def test_attempts_tell_the_whole_story_oldest_first(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        error = '{"type":"OSError"}'
        first = node.claim_only()
        node.end(first, Ending.RETRY, reason="exception", payload=error, ago=1.5)
        clock.advance(5)
        node.beat()
        second = node.claim_one(task_id)
        node.end(second, Ending.DONE, payload="1", ago=0.5)
        told = repository.attempts(task_id)
        assert [(one.attempt, one.outcome) for one in told] == [(1, "retry"), (2, "done")]
        assert [(one.node, one.batch) for one in told] == [
            (node.id, first.batch),
            (node.id, second.batch),
        ]
        assert (told[0].reason, told[0].error) == ("exception", {"type": "OSError"})
        assert all(one.task_id == task_id for one in told)
        assert told[0].started_at is not None
        assert told[0].finished_at - told[0].started_at >= timedelta(seconds=1)

    def test_attempts_of_one_instant_are_told_in_the_order_they_ended(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        kinds = [Ending.RETRY, Ending.RETRY, Ending.AGAIN, Ending.RETRY, Ending.AGAIN, Ending.DONE]
        for kind in kinds:
            node.end(node.claim_one(task_id), kind)
        told = repository.attempts(task_id)
        assert [one.outcome for one in told] == [kind.name.lower() for kind in kinds]
        assert [one.attempt for one in told] == [1, 2, 3, 1, 2, 1]

    def test_attempts_of_one_instant_on_several_nodes_are_told_in_order(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        task_id, nodes = self.put(repository, a_task()), [make_node() for _ in range(3)]
        for node in (*nodes, *reversed(nodes)):
            node.end(node.claim_one(task_id), Ending.AGAIN)
        told = [one.node for one in repository.attempts(task_id)]
        assert told == [node.id for node in (*nodes, *reversed(nodes))]

    def test_a_task_that_never_ran_has_no_attempts(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task())
        assert repository.attempts(task_id) == []
        repository.cancel(task_id, "no")
        assert repository.attempts(task_id) == []

    def test_the_last_attempt_of_a_finished_task_is_its_outcome(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.FAILED, Ending.CANCELLED):
            task_id = self.put(repository, a_task())
            node.end(node.claim_only(), kind, reason="why", payload='{"e":1}')
            (told,) = repository.attempts(task_id)
            assert (told.outcome, told.reason) == (kind.name.lower(), "why")
            assert told.error == {"e": 1}

    def test_a_lease_that_still_has_working_tasks_is_not_over(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2))
        first, second = node.claim()
        repository.finish(node.id, [ending(first, Ending.DONE)], [first.batch])
        repository.leave(node.id)
        assert [rescued.id for rescued in repository.rescue(10)] == [second.id]

    def test_finishing_nothing_answers_nothing(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        assert node.finish() == []
        assert repository.finish(node.id, [], [1, 2]) == []
