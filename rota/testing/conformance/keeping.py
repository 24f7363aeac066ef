"""How long history is kept."""

from __future__ import annotations

from rota.core.ports import Repository
from rota.core.task import Ending, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task, some_tasks

DAY = 86_400


class KeepingContract(ContractBase):
    """``tidy``: done and cancelled tasks for 7 days, failed ones for 30."""

    def test_history_is_kept_for_its_time_and_no_longer(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(3))
        done, failed, cancelled = node.claim()
        node.end(done)
        node.end(failed, Ending.FAILED)
        node.end(cancelled, Ending.CANCELLED)
        repository.tidy()
        clock.advance(5 * DAY)
        repository.tidy()
        assert self.state(repository, done.id) is TaskState.DONE
        assert self.state(repository, cancelled.id) is TaskState.CANCELLED
        clock.advance(5 * DAY)
        repository.tidy()
        assert repository.get(done.id) is None
        assert repository.get(cancelled.id) is None
        assert repository.attempts(done.id) == []
        assert self.state(repository, failed.id) is TaskState.FAILED
        clock.advance(25 * DAY)
        repository.tidy()
        assert repository.get(failed.id) is None
        assert repository.states([done.id, failed.id, cancelled.id]) == {}

    def test_unfinished_tasks_are_kept_however_old(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        future = self.put(repository, a_task(delay=400 * DAY))
        self.put(repository, *some_tasks(3))
        working, retried, parked = node.claim()
        node.end(retried, Ending.RETRY, delay=300 * DAY)
        node.end(parked, Ending.PARK)
        clock.advance(100 * DAY)
        repository.tidy()
        for task_id in (future, working.id, retried.id, parked.id):
            found = repository.get(task_id)
            assert found is not None
            assert found.params == {"n": 1}
        assert self.state(repository, working.id) is TaskState.WORKING

    def test_tasks_that_finish_after_a_long_time_are_kept_from_then_on(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        clock.advance(60 * DAY)
        node.end(claimed)
        repository.tidy()
        assert self.state(repository, claimed.id) is TaskState.DONE
