"""Claims of somebody who is no node: they end by themselves unless they are extended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState, Want
from rota.errors import LeaseLost, WrongState
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


class PullingContract(ContractBase):
    """``claim_until``, ``extend``, and the verbs that take a puller's token."""

    def test_a_puller_takes_what_is_due_and_writes_its_outcomes(
        self, repository: Repository
    ) -> None:
        self.put(repository, *some_tasks(3, params='{"n":7}'))
        puller = Puller(repository)
        taken = puller.claim(ready=2)
        assert [(one.params, one.attempt, one.batch) for one in taken] == [
            ('{"n":7}', 1, BATCH)
        ] * 2
        found = repository.get(taken[0].id)
        assert found is not None
        assert (found.state, found.node, found.batch) == (TaskState.WORKING, puller.id, BATCH)
        answers = puller.finish(
            ending(taken[0], Ending.DONE, payload='"ok"'),
            ending(taken[1], Ending.RETRY, delay=60),
            over=[BATCH],
        )
        assert answers == [Stored.DONE, Stored.SCHEDULED]
        assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is False
        assert repository.nodes() == []

    def test_what_is_not_due_yet_or_paused_is_not_taken(self, repository: Repository) -> None:
        due = self.put(repository, a_task())
        self.put(repository, a_task(delay=100), a_task(queue="held"))
        repository.pause_queue("held", "")
        taken = Puller(repository).claim(Want("default", 0, 10, 10), Want("held", 0, 10))
        assert ids(taken) == [due]

    def test_several_lanes_are_served_each_by_its_own_want(self, repository: Repository) -> None:
        for queue, priority in (("a", 9), ("a", 0), ("b", 0)):
            self.put(repository, *some_tasks(5, queue=queue, priority=priority))
        taken = Puller(repository).claim(Want("a", 9, 2), Want("b", 0, 1))
        assert sorted((one.queue, one.priority) for one in taken) == [
            ("a", 9),
            ("a", 9),
            ("b", 0),
        ]

    def test_pullers_and_nodes_do_not_share_tasks(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(6))
        first, second = Puller(repository), Puller(repository)
        taken = [*first.claim(ready=2), *second.claim(ready=2), *node.claim(2)]
        assert len(set(ids(taken))) == 6
        assert second.end(taken[0]) is None
        assert node.end(taken[0]) is None
        assert repository.states([taken[0].id]) == {taken[0].id: Stored.WORKING}

    def test_a_claim_that_found_nothing_leaves_nothing(self, repository: Repository) -> None:
        puller = Puller(repository)
        assert puller.claim() == []
        assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is False

    def test_until_its_deadline_a_pulled_claim_is_not_taken_back(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        clock.advance(FIVE_MINUTES - 100)
        assert repository.rescue(100) == []
        assert puller.end(claimed) is Stored.DONE

    def test_after_its_deadline_anybody_takes_it_back(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        clock.advance(FIVE_MINUTES + 100)
        (rescued,) = repository.rescue(100)
        assert (rescued.id, rescued.node, rescued.lost) == (task_id, puller.id, False)
        assert repository.rescue(100) == []
        assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is False
        assert puller.end(claimed) is None
        (told,) = repository.attempts(task_id)
        assert (told.outcome, told.node, told.batch) == ("lost", puller.id, BATCH)
        node.beat()
        again = node.claim_only()
        assert (again.id, again.attempt, again.losses) == (task_id, 1, 1)
        assert puller.end(claimed) is None
        assert node.end(again) is Stored.DONE

    def test_a_late_outcome_counts_while_nobody_has_taken_it_back(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        clock.advance(FIVE_MINUTES * 10)
        assert puller.end(claimed) is Stored.DONE
        assert repository.rescue(100) == []
        assert self.state(repository, claimed.id) is TaskState.DONE

    def test_an_extended_claim_ends_later(self, repository: Repository, clock: FakeClock) -> None:
        self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        for _ in range(3):
            clock.advance(FIVE_MINUTES - 100)
            assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is True
            assert repository.rescue(100) == []
        assert repository.extend(puller.id, BATCH, 1000.0) is True
        clock.advance(900)
        assert repository.rescue(100) == []
        clock.advance(200)
        assert ids(repository.rescue(100)) == [claimed.id]

    def test_a_claim_that_is_late_may_still_be_extended_until_it_is_taken_back(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        puller = Puller(repository)
        puller.claim()
        clock.advance(FIVE_MINUTES * 10)
        assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is True
        assert repository.rescue(100) == []

    def test_only_the_claims_own_lease_is_extended(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(2))
        first, second = Puller(repository), Puller(repository)
        first.claim(ready=1)
        (left,) = second.claim(ready=1)
        clock.advance(FIVE_MINUTES - 100)
        assert repository.extend(first.id, BATCH + 1, FIVE_MINUTES) is False
        assert repository.extend(first.id, BATCH, FIVE_MINUTES) is True
        clock.advance(200)
        assert ids(repository.rescue(100)) == [left.id]

    def test_a_pulled_claim_can_be_given_back(self, repository: Repository) -> None:
        self.put(repository, *some_tasks(3))
        puller = Puller(repository)
        taken = puller.claim()
        puller.finish(ending(taken[0], Ending.DONE))
        assert repository.drop_lease(puller.id, BATCH) == 2
        assert repository.extend(puller.id, BATCH, FIVE_MINUTES) is False
        assert sorted(repository.states(ids(taken)).values()) == [
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.DONE,
        ]
        again = Puller(repository).claim()
        assert [(one.attempt, one.losses) for one in again] == [(1, 0), (1, 0)]

    def test_a_puller_reports_under_its_token(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task())
        puller = Puller(repository)
        puller.claim()
        assert repository.report(puller.id, task_id, BATCH, 1, '"half"') is True
        found = repository.reported(task_id)
        assert found is not None
        assert found.data == '"half"'

    def test_a_puller_hears_that_its_task_is_to_stop(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        assert repository.cancel(task_id, "stop") is Stored.WORKING
        (notice,) = repository.cancels(puller.id)
        assert (notice.id, notice.batch, notice.reason) == (task_id, BATCH, "stop")
        assert puller.end(claimed, Ending.RELEASE) is Stored.CANCELLED

    def test_a_task_that_was_to_stop_is_cancelled_when_it_is_taken_back(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        Puller(repository).claim()
        repository.cancel(task_id, "stop")
        clock.advance(FIVE_MINUTES + 100)
        repository.rescue(100)
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.CANCELLED, "stop")

    def test_tasks_that_were_lost_are_pulled_alone(
        self, repository: Repository, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(2))
        lost = set(ids(Puller(repository).claim()))
        clock.advance(FIVE_MINUTES + 100)
        repository.rescue(100)
        self.put(repository, *some_tasks(2))
        puller = Puller(repository)
        taken = puller.claim()
        assert len(taken) == 4
        for claimed in taken:
            company = [other for other in taken if other.batch == claimed.batch]
            assert len(company) == (1 if claimed.id in lost else 2)
            assert BATCH <= claimed.batch <= BATCH + 100
        for batch in {claimed.batch for claimed in taken}:
            assert repository.extend(puller.id, batch, FIVE_MINUTES * 3) is True
        clock.advance(FIVE_MINUTES + 100)
        assert repository.rescue(100) == []
        assert {puller.end(one) for one in taken if one.id in lost} == {Stored.DONE}

    def test_a_living_nodes_leases_do_not_end_by_themselves(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, *some_tasks(2))
        (mine,) = node.claim(1)
        (pulled,) = Puller(repository).claim()
        clock.advance(FIVE_MINUTES * 10)
        assert ids(repository.rescue(100)) == [pulled.id]
        assert node.end(mine) is Stored.DONE

    @pytest.mark.parametrize("kind", list(Ending))
    def test_an_outcome_under_somebody_elses_token_changes_nothing(
        self,
        repository: Repository,
        node: NodeHandle,
        make_node: Callable[[], NodeHandle],
        kind: Ending,
    ) -> None:
        self.put(repository, *some_tasks(2))
        puller, other = Puller(repository), Puller(repository)
        (pulled,) = puller.claim(ready=1)
        mine = node.claim_only()
        before = [repository.get(one.id) for one in (pulled, mine)]
        foreign = [ending(pulled, kind), ending(mine, kind)]
        wrong = [one._replace(batch=one.batch + 50) for one in foreign]
        for repeated in (False, True):
            for who in (other.id, make_node().id):
                assert repository.finish(who, foreign, repeated=repeated) == [None, None]
            for who in (puller.id, node.id):
                assert repository.finish(who, wrong, repeated=repeated) == [None, None]
            assert repository.finish(node.id, foreign[:1], repeated=repeated) == [None]
            assert repository.finish(puller.id, foreign[1:], repeated=repeated) == [None]
        assert [repository.get(one.id) for one in (pulled, mine)] == before
        assert [repository.attempts(one.id) for one in (pulled, mine)] == [[], []]
        assert (puller.end(pulled), node.end(mine)) == (Stored.DONE, Stored.DONE)

    def test_a_task_that_is_being_worked_on_cannot_be_changed(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2))
        (pulled,), mine = Puller(repository).claim(ready=1), node.claim_only()
        for one in (pulled, mine):
            before = repository.get(one.id)
            for changes in ({"priority": 9}, {"params": '{"n":2}'}, {"delay": 60.0}):
                with pytest.raises(WrongState) as met:
                    repository.update(one.id, changes, None)
                assert met.value.state == "working"
            assert repository.get(one.id) == before

    def test_after_its_end_a_puller_can_neither_report_nor_end_again(
        self, repository: Repository
    ) -> None:
        task_id = self.put(repository, a_task())
        puller = Puller(repository)
        (claimed,) = puller.claim()
        assert puller.end(claimed) is Stored.DONE
        before = repository.get(task_id)
        assert puller.end(claimed, Ending.FAILED) is None
        assert puller.end(claimed) is None
        with pytest.raises(LeaseLost):
            repository.report(puller.id, task_id, BATCH, 1, "1")
        assert repository.reported(task_id) is None
        assert repository.get(task_id) == before
        assert len(repository.attempts(task_id)) == 1
