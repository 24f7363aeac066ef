"""Verbs on what exists: cancel, update, expire."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState
from rota.errors import AlreadyClaimed, StaleVersion, TaskNotFound, WrongState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ids,
    some_tasks,
)


class ChangingContract(ContractBase):
    """``cancel``, ``update``, ``expire``."""

    def test_cancelling_a_waiting_task_ends_it_at_once(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        assert repository.cancel(task_id, "not needed") is Stored.SCHEDULED
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.CANCELLED, "not needed")
        assert found.finished_at is not None
        assert (found.work, found.params) == ("demo", {"n": 1})
        assert node.claim() == []
        assert repository.agenda(None) == []

    def test_cancelling_a_running_task_leaves_a_request(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.claim_only()
        assert repository.cancel(task_id, "stop") is Stored.WORKING
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.cancel_reason) == (TaskState.WORKING, "stop")

    def test_the_first_of_two_requests_stands(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        assert repository.cancel(task_id, "first") is Stored.WORKING
        assert repository.cancel(task_id, "second") is Stored.WORKING
        assert [notice.reason for notice in repository.cancels(node.id)] == ["first"]
        node.end(claimed, Ending.RETRY)
        found = repository.get(task_id)
        assert found is not None
        assert found.reason == "first"

    def test_a_requested_cancel_turns_every_way_back_into_cancelled(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.RETRY, Ending.AGAIN, Ending.RELEASE, Ending.PARK, Ending.CANCELLED):
            task_id = self.put(repository, a_task(unique="k"))
            claimed = node.claim_only()
            repository.cancel(task_id, "stop")
            assert node.end(claimed, kind) is Stored.CANCELLED, kind
            assert self.state(repository, task_id) is TaskState.CANCELLED
            assert repository.find_key("k") is None
            assert node.claim() == []
            assert node.claim_parked("demo") == []

    def test_a_retry_that_met_a_cancel_keeps_the_cancels_reason(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.cancel(task_id, "stop")
        node.end(claimed, Ending.RETRY, reason="exception")
        found = repository.get(task_id)
        assert found is not None
        assert found.reason == "stop"

    def test_a_task_that_ended_before_it_heard_of_its_cancel_stays_as_it_ended(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind, state in ((Ending.DONE, Stored.DONE), (Ending.FAILED, Stored.FAILED)):
            task_id = self.put(repository, a_task())
            claimed = node.claim_only()
            repository.cancel(task_id, "stop")
            assert node.end(claimed, kind) is state
            assert repository.states([task_id]) == {task_id: state}

    def test_dropping_a_lease_cancels_what_was_asked_to_stop(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        repository.cancel(task_id, "stop")
        repository.drop_lease(node.id, claimed.batch)
        assert self.state(repository, task_id) is TaskState.CANCELLED

    def test_cancelling_a_finished_task_answers_its_state_and_changes_nothing(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.DONE, Ending.FAILED, Ending.CANCELLED):
            task_id = self.put(repository, a_task())
            node.end(node.claim_only(), kind, reason="first")
            before = repository.get(task_id)
            assert repository.cancel(task_id, "late") is Stored(int(kind))
            assert repository.get(task_id) == before

    def test_cancelling_what_does_not_exist_answers_none(self, repository: Repository) -> None:
        assert repository.cancel(new_id(), "no") is None

    def test_cancelling_between_attempts_ends_the_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.end(node.claim_only(), Ending.RETRY)
        assert repository.cancel(task_id, "enough") is Stored.SCHEDULED
        assert [told.outcome for told in repository.attempts(task_id)] == ["retry"]

    def test_update_answers_the_task_as_it_is_now(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(delay=60))
        at = repository.now() + timedelta(days=1)
        changes = {"at": at, "priority": 7, "queue": "other", "params": '{"n":2}'}
        changed = repository.update(task_id, changes, None)
        assert (changed.run_at, changed.priority, changed.queue) == (at, 7, "other")
        assert (changed.params, changed.version) == ({"n": 2}, 2)
        assert repository.get(task_id) == changed

    def test_update_leaves_the_rest_as_it_was(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(delay=600, meta='{"m":1}', unique="k"))
        before = repository.get(task_id)
        after = repository.update(task_id, {"priority": 3}, None)
        assert before is not None
        assert (after.run_at, after.params, after.meta) == (
            before.run_at,
            before.params,
            before.meta,
        )
        assert (after.unique, after.priority) == ("k", 3)

    def test_update_moves_a_task_between_lanes(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        repository.update(task_id, {"queue": "other", "priority": 2}, None)
        assert node.claim() == []
        assert [lane[:2] for lane in repository.agenda(None)] == [("other", 2)]
        assert ids(node.claim(queue="other", priority=2)) == [task_id]

    def test_update_by_delay_counts_from_now(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        changed = repository.update(task_id, {"delay": 600.0}, None)
        assert abs(changed.run_at - repository.now() - timedelta(seconds=600)) < timedelta(
            seconds=SLACK
        )
        assert node.claim() == []
        repository.update(task_id, {"delay": 0}, None)
        assert ids(node.claim()) == [task_id]

    def test_update_to_the_past_makes_it_ready_now(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(delay=600))
        past = repository.now() - timedelta(days=1)
        changed = repository.update(task_id, {"at": past}, None)
        assert abs(changed.run_at - repository.now()) < timedelta(seconds=SLACK)
        assert ids(node.claim()) == [task_id]

    def test_update_with_the_expected_version_is_done_with_a_stale_one_refused(
        self, repository: Repository
    ) -> None:
        task_id = self.put(repository, a_task())
        repository.update(task_id, {"priority": 1}, 1)
        with pytest.raises(StaleVersion) as met:
            repository.update(task_id, {"priority": 2}, 1)
        assert (met.value.expected, met.value.found) == (1, 2)
        found = repository.get(task_id)
        assert found is not None
        assert (found.priority, found.version) == (1, 2)

    def test_update_of_what_runs_or_has_ended_is_refused(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        with pytest.raises(WrongState) as met:
            repository.update(task_id, {"params": '{"n":2}'}, None)
        assert met.value.state == "working"
        node.end(claimed)
        with pytest.raises(WrongState) as met:
            repository.update(task_id, {"params": '{"n":2}'}, None)
        assert met.value.state == "done"
        assert not isinstance(met.value, AlreadyClaimed)
        found = repository.get(task_id)
        assert found is not None
        assert found.params == {"n": 1}
        with pytest.raises(TaskNotFound):
            repository.update(new_id(), {"priority": 1}, None)

    def test_waiting_tasks_past_their_expiry_are_cancelled(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        soon = a_task(expires_in=100, unique="k")
        later, never = a_task(expires_in=900), a_task()
        self.put(repository, soon, later, never)
        assert repository.expire(100) == []
        clock.advance(300)
        assert repository.expire(100) == [soon.id]
        assert repository.expire(100) == []
        found = repository.get(soon.id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.CANCELLED, "expired")
        assert repository.find_key("k") is None
        node.beat()
        assert sorted(ids(node.claim())) == sorted([later.id, never.id])

    def test_expiry_reaches_parked_tasks_and_paused_queues(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        parked, paused = a_task(expires_in=100), a_task(expires_in=100, queue="held")
        self.put(repository, parked, paused)
        node.end(node.claim_only(), Ending.PARK)
        repository.pause_queue("held", "")
        clock.advance(300)
        assert sorted(repository.expire(100)) == sorted([parked.id, paused.id])

    def test_what_runs_does_not_expire_but_its_next_attempt_does(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task(expires_in=100))
        claimed = node.claim_only()
        clock.advance(300)
        assert repository.expire(100) == []
        node.end(claimed, Ending.RETRY)
        assert repository.expire(100) == [task_id]

    def test_expire_takes_no_more_than_its_limit(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(5, expires_in=100))
        clock.advance(300)
        assert [len(repository.expire(2)) for _ in range(4)] == [2, 2, 1, 0]
