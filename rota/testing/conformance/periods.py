"""Period keys: taken for so long from when they were taken, whether their task ends or not."""

from __future__ import annotations

from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.task import Ending, Inserted, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task

DAY = 86_400
PERIOD = 600.0


class PeriodContract(ContractBase):
    """``insert`` with ``unique`` and ``period``."""

    def test_a_taken_period_key_is_answered_with_its_holder(self, repository: Repository) -> None:
        holder = self.put(repository, a_task(unique="k", period=PERIOD))
        for on_conflict in ("raise", "return"):
            other = a_task(unique="k", period=PERIOD, on_conflict=on_conflict)
            assert repository.insert([other]) == [Inserted(holder, False, Stored.SCHEDULED, True)]
            assert repository.get(other.id) is None
        assert self.put(repository, a_task(unique="other", period=PERIOD))

    def test_the_key_stays_taken_whatever_becomes_of_its_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        cases = [
            (Ending.DONE, Stored.DONE),
            (Ending.FAILED, Stored.FAILED),
            (Ending.CANCELLED, Stored.CANCELLED),
            (Ending.RETRY, Stored.SCHEDULED),
            (Ending.PARK, Stored.PARKED),
        ]
        for kind, state in cases:
            task = a_task(unique=kind.name, period=PERIOD)
            self.put(repository, task)
            claimed = node.claim_one(task.id)
            rival = a_task(unique=kind.name, period=PERIOD)
            assert repository.insert([rival]) == [Inserted(task.id, False, Stored.WORKING, True)]
            node.end(claimed, kind, delay=60)
            assert repository.insert([rival]) == [Inserted(task.id, False, state, True)]

    def test_the_key_is_free_when_its_period_is_over(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        first = self.put(repository, a_task(unique="k", period=PERIOD))
        node.end(node.claim_only())
        clock.advance(PERIOD - 100)
        assert repository.insert([a_task(unique="k", period=PERIOD)])[0].id == first
        clock.advance(200)
        second = a_task(unique="k", period=PERIOD)
        assert repository.insert([second]) == [Inserted(second.id, True, Stored.SCHEDULED)]
        clock.advance(PERIOD - 100)
        assert repository.insert([a_task(unique="k", period=PERIOD)])[0].id == second.id

    def test_a_period_that_is_over_frees_the_key_of_a_task_that_still_waits(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        first = self.put(repository, a_task(unique="k", period=PERIOD, delay=DAY))
        clock.advance(PERIOD + 100)
        second = self.put(repository, a_task(unique="k", period=PERIOD, delay=DAY))
        assert len(repository.states([first, second])) == 2

    def test_the_period_counts_from_now_and_not_from_when_the_task_is_due(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task(unique="k", period=PERIOD, delay=10 * PERIOD))
        clock.advance(PERIOD + 100)
        assert repository.insert([a_task(unique="k", period=PERIOD)])[0].created

    def test_an_insert_that_met_the_key_does_not_prolong_it(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task(unique="k", period=PERIOD))
        clock.advance(PERIOD - 100)
        assert not repository.insert([a_task(unique="k", period=PERIOD)])[0].created
        clock.advance(200)
        assert repository.insert([a_task(unique="k", period=PERIOD)])[0].created

    def test_of_two_alike_in_one_call_the_first_is_created(self, repository: Repository) -> None:
        first, free, second = (a_task(unique=key, period=PERIOD) for key in ("k", "free", "k"))
        assert repository.insert([first, free, second]) == [
            Inserted(first.id, True, Stored.SCHEDULED),
            Inserted(free.id, True, Stored.SCHEDULED),
            Inserted(first.id, False, Stored.SCHEDULED, True),
        ]

    def test_replace_changes_a_holder_that_waits_and_no_other(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k", period=PERIOD, delay=3600))
        new = a_task(unique="k", period=PERIOD, on_conflict="replace", params='{"n":2}')
        assert repository.insert([new]) == [Inserted(holder, False, Stored.SCHEDULED, True)]
        assert repository.get(new.id) is None
        claimed = node.claim_only()
        assert (claimed.id, claimed.params) == (holder, '{"n":2}')
        late = a_task(unique="k", period=PERIOD, on_conflict="replace", params='{"n":3}')
        assert repository.insert([late]) == [Inserted(holder, False, Stored.WORKING, True)]
        node.end(claimed)
        assert repository.insert([late]) == [Inserted(holder, False, Stored.DONE, True)]
        found = repository.get(holder)
        assert found is not None
        assert (found.state, found.params) == (TaskState.DONE, {"n": 2})

    def test_the_key_finds_its_task_until_that_has_ended(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        holder = self.put(repository, a_task(unique="k", period=PERIOD))
        assert repository.find_key("k") == holder
        claimed = node.claim_only()
        assert repository.find_key("k") == holder
        node.end(claimed)
        assert repository.find_key("k") is None

    def test_the_key_finds_nothing_when_its_period_is_over(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        holder = self.put(repository, a_task(unique="k", period=PERIOD, delay=DAY))
        clock.advance(PERIOD - 100)
        assert repository.find_key("k") == holder
        clock.advance(200)
        assert repository.find_key("k") is None
        assert self.state(repository, holder) is TaskState.SCHEDULED
        second = self.put(repository, a_task(unique="k", period=PERIOD, delay=DAY))
        assert repository.find_key("k") == second

    def test_a_holder_whose_history_has_gone_is_answered_as_done(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        holder = self.put(repository, a_task(unique="k", period=30.0 * DAY))
        node.end(node.claim_only())
        clock.advance(10 * DAY)
        repository.tidy()
        assert repository.get(holder) is None
        assert repository.insert([a_task(unique="k", period=60.0)]) == [
            Inserted(holder, False, Stored.DONE, True)
        ]
        clock.advance(25 * DAY)
        repository.tidy()
        assert repository.insert([a_task(unique="k", period=60.0)])[0].created

    def test_a_repeated_insert_recognises_its_own_task(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task = a_task(unique="k", period=PERIOD)
        self.put(repository, task)
        assert repository.insert([task], repeated=True)[0][:3] == (task.id, False, Stored.SCHEDULED)
        node.end(node.claim_only())
        assert repository.insert([task], repeated=True)[0][:3] == (task.id, False, Stored.DONE)
        assert node.claim() == []

    def test_a_repeated_insert_that_had_not_committed_creates(self, repository: Repository) -> None:
        task = a_task(unique="k", period=PERIOD)
        assert repository.insert([task], repeated=True) == [
            Inserted(task.id, True, Stored.SCHEDULED)
        ]

    def test_a_task_that_met_its_id_takes_no_key(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(given_id=True))
        again = a_task(id=task_id, given_id=True, unique="k", period=PERIOD)
        assert repository.insert([again])[0][:3] == (task_id, False, Stored.SCHEDULED)
        node.end(node.claim_only())
        assert repository.insert([again])[0][:3] == (task_id, False, Stored.DONE)
        assert repository.insert([a_task(unique="k", period=PERIOD)])[0].created

    def test_a_task_that_met_the_key_leaves_its_id_free(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task(unique="k", period=PERIOD))
        later = a_task(id=new_id(), given_id=True, unique="k", period=PERIOD)
        assert not repository.insert([later])[0].created
        clock.advance(PERIOD + 100)
        assert repository.insert([later]) == [Inserted(later.id, True, Stored.SCHEDULED)]
