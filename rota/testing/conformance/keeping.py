"""How long history is kept, and what is past that."""

from __future__ import annotations

from datetime import timedelta

from rota.core.finding import TaskFilter
from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.retention import Keeping, Retention
from rota.core.task import Ending, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    ContractBase,
    NodeHandle,
    OpenRepository,
    a_task,
    some_tasks,
)

DAY = 86_400


class KeepingContract(ContractBase):
    """``tidy``: done and cancelled tasks for 7 days, failed ones for 30, or as was said."""

    def test_history_is_kept_for_its_time_and_no_longer(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        done, failed, cancelled = self._three_ends(repository, node)
        self.tidy(repository)
        clock.advance(5 * DAY)
        self.tidy(repository)
        assert self.state(repository, done) is TaskState.DONE
        assert self.state(repository, cancelled) is TaskState.CANCELLED
        clock.advance(5 * DAY)
        self.tidy(repository)
        assert repository.get(done) is None
        assert repository.get(cancelled) is None
        assert repository.attempts(cancelled) == []
        assert self.state(repository, failed) is TaskState.FAILED
        clock.advance(25 * DAY)
        self.tidy(repository)
        assert repository.get(failed) is None
        assert repository.states([done, failed, cancelled]) == {}

    def test_unfinished_tasks_are_kept_however_old(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        future = self.put(repository, a_task(delay=400 * DAY))
        self.put(repository, *some_tasks(3))
        working, retried, parked = node.claim()
        node.end(retried, Ending.RETRY, delay=300 * DAY)
        node.end(parked, Ending.PARK)
        clock.advance(100 * DAY)
        self.tidy(repository)
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
        self.tidy(repository)
        assert self.state(repository, claimed.id) is TaskState.DONE

    def test_what_was_said_of_it_holds_for_all_and_lasts(
        self, open_repository: OpenRepository
    ) -> None:
        first, second = open_repository(), open_repository()
        assert first.keeping() == Keeping(Retention(), archive=False)
        long = Retention(done=3 * DAY, failed=None)
        assert first.keep(long) == Keeping()
        assert second.keeping() == Keeping(long)
        assert second.keep(archive=True) == Keeping(long)
        assert first.keeping() == Keeping(long, archive=True)
        assert first.keep(Retention(), archive=False) == Keeping(long, archive=True)
        assert open_repository().keeping() == Keeping()

    def test_each_kind_is_kept_as_long_as_said(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        repository.keep(Retention(done=40 * DAY, failed=2 * DAY))
        done, failed, cancelled = self._three_ends(repository, node)
        clock.advance(4 * DAY)
        self.tidy(repository)
        assert repository.states([done, failed, cancelled]).keys() == {done, cancelled}
        clock.advance(35 * DAY)
        self.tidy(repository)
        assert len(repository.attempts(done)) == 2
        clock.advance(3 * DAY)
        self.tidy(repository)
        assert repository.states([done, cancelled]) == {}

    def test_what_is_kept_for_ever_is(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        repository.keep(Retention(done=None, failed=None))
        ended = self._three_ends(repository, node)
        clock.advance(4_000 * DAY)
        self.tidy(repository)
        assert repository.outdated() == []
        assert repository.states(ended).keys() == set(ended)
        assert len(repository.attempts(ended[0])) == 2

    def test_with_an_archive_nothing_is_dropped_but_told(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        repository.keep(archive=True)
        done, failed, cancelled = self._three_ends(repository, node)
        clock.advance(10 * DAY)
        later = self._three_ends(repository, node)
        self.tidy(repository)
        assert self._outdated(repository) == {done, cancelled}
        clock.advance(25 * DAY)
        self.tidy(repository)
        assert self._outdated(repository) == {done, failed, cancelled, later[0], later[2]}
        assert [one.outcome for one in repository.attempts(done)] == ["retry", "done"]
        assert repository.delete_many([done]) == {done}
        self.tidy(repository)
        assert self._outdated(repository) == {failed, cancelled, later[0], later[2]}
        repository.keep(archive=False)
        self.tidy(repository)
        assert repository.states([failed, cancelled, *later]).keys() == {later[1]}

    def test_what_has_ended_anew_since_is_not_deleted(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        done, failed, _ = self._three_ends(repository, node)
        clock.advance(DAY)
        before = repository.now()
        clock.advance(DAY)
        repository.retry_many([failed])
        assert repository.delete_many([failed], before) == set()
        node.end(node.claim_only())
        assert repository.delete_many([done, failed], before) == {done}
        assert self.state(repository, failed) is TaskState.DONE
        assert len(repository.attempts(failed)) == 2

    def test_attempts_of_many_are_those_of_each(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        ended, stranger = self._three_ends(repository, node), new_id()
        told = repository.attempts_of([*ended, stranger])
        assert told == {one: repository.attempts(one) for one in (*ended, stranger)}
        assert [len(told[one]) for one in (*ended, stranger)] == [2, 1, 1, 0]
        assert repository.attempts_of([]) == {}

    def tidy(self, repository: Repository) -> None:
        """All there is to be done."""
        while repository.tidy():
            pass

    def _three_ends(self, repository: Repository, node: NodeHandle) -> list[str]:
        """A task that is done at its second attempt, one that failed, one that was cancelled."""
        self.put(repository, *some_tasks(3))
        done, failed, cancelled = node.claim()
        node.end(done, Ending.RETRY)
        node.end(failed, Ending.FAILED)
        node.end(cancelled, Ending.CANCELLED)
        node.end(node.claim_only())
        return [done.id, failed.id, cancelled.id]

    def _outdated(self, repository: Repository) -> set[str]:
        """All that is past its retention, found by what the repository says of that."""
        found = set()
        for where in repository.outdated():
            assert where.finished_before is not None
            assert where.finished_before <= repository.now() - timedelta(days=7)
            page = repository.find(where, 100)
            found |= {task.id for task in page}
            assert not repository.find(TaskFilter(state="working"), 100)
        return found
