"""Changing many tasks at once: cancel, reschedule, retry, delete."""

from __future__ import annotations

from rota.core.finding import TaskFilter
from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Lane, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    ids,
    some_tasks,
)


class MatchingContract(ContractBase):
    """``cancel_many``, ``reschedule_many``, ``retry_many``, ``delete_many``."""

    def test_cancelling_many_answers_what_each_was_met_in(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = some_tasks(3)
        self.put(repository, *tasks)
        works, ends = sorted(node.claim(2), key=lambda claimed: claimed.id)
        node.end(ends)
        (waits,) = set(ids(tasks)) - {works.id, ends.id}
        met = repository.cancel_many([*ids(tasks), new_id()], "enough")
        assert met == {waits: Stored.SCHEDULED, works.id: Stored.WORKING, ends.id: Stored.DONE}
        assert self.state(repository, waits) is TaskState.CANCELLED
        assert [notice.id for notice in repository.cancels(node.id)] == [works.id]
        assert repository.cancel_many([], "nothing") == {}

    def test_rescheduling_many_changes_only_what_waits(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        tasks = some_tasks(3, delay=900.0, priority=5)
        self.put(repository, *tasks)
        works = node.claim_one(tasks[0].id)
        lanes = repository.reschedule_many([*ids(tasks), new_id()], {"delay": 0.0})
        assert lanes.keys() == set(ids(tasks[1:]))
        assert all(lane[:2] == ("default", 5) and lane.due_in < SLACK for lane in lanes.values())
        assert set(ids(node.claim(priority=5))) == set(ids(tasks[1:]))
        assert node.end(works) is Stored.DONE

    def test_a_retried_task_is_the_same_one_from_its_beginning(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(
            repository,
            a_task(queue="mail", priority=3, unique="k", meta='{"a":1}', expires_in=3600.0),
        )
        node.end(node.claim_only(queue="mail", priority=3), Ending.RETRY, reason="once")
        claimed = node.claim_only(queue="mail", priority=3)
        node.end(claimed, Ending.FAILED, payload='{"type":"E"}', reason="twice", ago=1.0)
        failed = repository.get(task_id)
        clock.advance(3 * SLACK)
        assert repository.retry_many([task_id]) == {task_id: Lane("mail", 3, 0.0)}
        waits = repository.get(task_id)
        assert failed is not None
        assert waits is not None
        assert (waits.state, waits.attempt, waits.losses) == (TaskState.SCHEDULED, 0, 0)
        assert (waits.unique, waits.expires_at, waits.finished_at) == (None, None, None)
        assert (waits.error, waits.reason, waits.node, waits.batch) == (None, None, None, None)
        assert (waits.params, waits.meta) == (failed.params, failed.meta)
        assert waits.created_at == failed.created_at
        assert waits.run_at > failed.run_at
        assert waits.version > failed.version
        told = repository.attempts(task_id)
        assert [(one.attempt, one.outcome, one.reason) for one in told] == [
            (1, "retry", "once"),
            (2, "failed", "twice"),
        ]
        assert told[1].error == {"type": "E"}
        assert (told[1].node, told[1].batch) == (node.id, claimed.batch)
        assert told[1].finished_at == failed.finished_at
        again = node.claim_only(queue="mail", priority=3)
        assert (again.id, again.attempt) == (task_id, 1)
        assert node.end(again) is Stored.DONE
        assert len(repository.attempts(task_id)) == 3

    def test_only_failed_and_cancelled_tasks_are_retried_and_only_once(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        done, failed, works = self._claimed(repository, node, 3)
        node.finish(ending(done, Ending.DONE), ending(failed, Ending.FAILED))
        waits, cancelled = some_tasks(2, delay=900.0)
        self.put(repository, waits, cancelled)
        repository.cancel(cancelled.id, "no")
        every = [done.id, failed.id, works.id, waits.id, cancelled.id, new_id()]
        repository.feed(on=True)
        assert repository.retry_many(every).keys() == {failed.id, cancelled.id}
        changes, _ = repository.updated_since(None, 10)
        assert {(one.task_id, one.state) for one in changes} == {
            (failed.id, Stored.SCHEDULED),
            (cancelled.id, Stored.SCHEDULED),
        }
        assert repository.retry_many(every) == {}
        assert [one.outcome for one in repository.attempts(cancelled.id)] == ["cancelled"]
        assert set(ids(node.claim())) == {failed.id, cancelled.id}

    def test_the_attempt_that_had_failed_cannot_speak_again_after_a_retry(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        (claimed,) = self._claimed(repository, node, 1)
        node.end(claimed, Ending.FAILED)
        repository.retry_many([claimed.id])
        assert node.end(claimed) is None
        assert self.state(repository, claimed.id) is TaskState.SCHEDULED

    def test_deleting_removes_finished_tasks_with_all_that_is_known_of_them(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        first, second, works = self._claimed(repository, node, 3)
        repository.report(node.id, first.id, first.batch, 1, "1")
        node.finish(ending(first, Ending.RETRY), ending(second, Ending.FAILED))
        (again,) = node.claim()
        node.end(again)
        waits = self.put(repository, a_task(delay=900.0))
        every = [first.id, second.id, works.id, waits, new_id()]
        assert repository.delete_many(every) == {first.id, second.id}
        assert repository.delete_many(every) == set()
        for task_id in (first.id, second.id):
            assert repository.get(task_id) is None
            assert repository.attempts(task_id) == []
            assert repository.reported(task_id) is None
            assert repository.bodies([task_id]) == {}
        left = repository.find(TaskFilter(), 10)
        assert set(ids(left.tasks)) == {works.id, waits}
        # What is gone is not in the way of an id that is used again, nor of the retention.
        clock.advance(10 * 86_400.0)
        assert repository.insert([a_task(id=first.id, given_id=True)])[0].created
        repository.tidy()
        assert self.state(repository, first.id) is TaskState.SCHEDULED

    def test_a_task_that_waits_again_outlives_the_day_it_had_failed_on(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        (claimed,) = self._claimed(repository, node, 1)
        node.end(claimed, Ending.FAILED)
        repository.retry_many([claimed.id])
        clock.advance(40 * 86_400.0)
        repository.tidy()
        assert self.state(repository, claimed.id) is TaskState.SCHEDULED
        assert repository.bodies([claimed.id]) != {}

    def _claimed(self, repository: Repository, node: NodeHandle, n: int) -> list[Claimed]:
        self.put(repository, *some_tasks(n))
        return sorted(node.claim(n), key=lambda claimed: claimed.id)
