"""Cancelling what is not there yet: whoever puts it in later meets the cancellation."""

from __future__ import annotations

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Inserted, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task

DAY = 86_400


class TombstoneContract(ContractBase):
    """``cancel`` with ``tombstone``."""

    def test_an_unknown_id_is_written_down_as_cancelled(self, repository: Repository) -> None:
        task_id = new_id()
        assert repository.cancel(task_id, "never mind", tombstone=True) is Stored.CANCELLED
        found = repository.get(task_id)
        assert found is not None
        assert (found.id, found.state, found.reason) == (
            task_id,
            TaskState.CANCELLED,
            "never mind",
        )
        assert (found.work, found.params, found.attempt) == ("", {}, 0)
        assert found.finished_at is not None
        assert repository.states([task_id]) == {task_id: Stored.CANCELLED}
        assert repository.attempts(task_id) == []
        assert repository.agenda(None) == []

    def test_without_being_asked_for_it_nothing_is_written(self, repository: Repository) -> None:
        task_id = new_id()
        assert repository.cancel(task_id, "no") is None
        assert repository.get(task_id) is None

    def test_a_later_insert_with_this_id_meets_it(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task = a_task(given_id=True, unique="k")
        other = a_task()
        repository.cancel(task.id, "never mind", tombstone=True)
        assert repository.insert([task, other]) == [
            Inserted(task.id, False, Stored.CANCELLED),
            Inserted(other.id, True, Stored.SCHEDULED),
        ]
        assert repository.find_key("k") is None
        assert [claimed.id for claimed in node.claim()] == [other.id]

    def test_what_exists_is_cancelled_as_without_it(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        waiting, working, done = (self.put(repository, a_task()) for _ in range(3))
        node.claim_one(working)
        node.end(node.claim_one(done))
        assert repository.cancel(waiting, "stop", tombstone=True) is Stored.SCHEDULED
        assert repository.cancel(working, "stop", tombstone=True) is Stored.WORKING
        assert repository.cancel(done, "stop", tombstone=True) is Stored.DONE
        assert repository.states([waiting, working, done]) == {
            waiting: Stored.CANCELLED,
            working: Stored.WORKING,
            done: Stored.DONE,
        }

    def test_a_parked_task_and_a_failed_one_are_not_unknown(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        parked, failed = (self.put(repository, a_task()) for _ in range(2))
        node.end(node.claim_one(parked), Ending.PARK)
        node.end(node.claim_one(failed), Ending.FAILED)
        assert repository.cancel(parked, "stop", tombstone=True) is Stored.PARKED
        assert repository.cancel(failed, "stop", tombstone=True) is Stored.FAILED

    def test_the_first_of_two_tombstones_stands(self, repository: Repository) -> None:
        task_id = new_id()
        repository.cancel(task_id, "first", tombstone=True)
        assert repository.cancel(task_id, "second", tombstone=True) is Stored.CANCELLED
        found = repository.get(task_id)
        assert found is not None
        assert found.reason == "first"

    def test_a_tombstone_goes_with_the_history(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        task = a_task(given_id=True)
        repository.cancel(task.id, "never mind", tombstone=True)
        clock.advance(10 * DAY)
        repository.tidy()
        assert repository.get(task.id) is None
        assert repository.insert([task]) == [Inserted(task.id, True, Stored.SCHEDULED)]
