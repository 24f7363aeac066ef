"""Taking back what a dead node held: nothing is lost, and nobody's outcome counts twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Ending, Stored, TaskState
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


class RescuingContract(ContractBase):
    """``rescue``, losses, and the zombies that come back."""

    def test_what_a_dead_node_held_can_be_claimed_by_another(
        self, repository: Repository, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        dead, heir = make_node(), make_node()
        task_id = self.put(repository, a_task())
        dead.claim_only()
        clock.advance(dead.lease * 3)
        heir.beat()
        assert heir.repository.bury(heir.id, trusted=True) == [dead.id]
        (rescued,) = heir.repository.rescue(100)
        assert (rescued.id, rescued.work, rescued.queue) == (task_id, "demo", "default")
        assert (rescued.priority, rescued.node, rescued.lost) == (0, dead.id, False)
        claimed = heir.claim_only()
        assert (claimed.id, claimed.attempt, claimed.losses) == (task_id, 1, 1)
        assert heir.end(claimed) is Stored.DONE

    def test_nothing_is_rescued_while_its_node_is_there(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        clock.advance(node.lease * 100)
        assert repository.rescue(100) == []
        assert node.end(claimed) is Stored.DONE

    def test_a_rescue_happens_once(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        node.claim_only()
        self.lose(repository, clock, node)
        assert repository.rescue(100) == []

    def test_a_rescue_takes_as_many_leases_as_it_is_told(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(6))
        batches = [ids(node.claim(2)) for _ in range(3)]
        repository.leave(node.id)
        counts = [len(repository.rescue(2)) for _ in range(3)]
        assert counts == [4, 2, 0]
        assert set(repository.states([one for batch in batches for one in batch]).values()) == {
            Stored.SCHEDULED
        }

    def test_a_zombies_outcome_is_refused_after_the_rescue(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        self.lose(repository, clock, node)
        before = repository.get(task_id)
        assert before is not None
        assert before.state is TaskState.SCHEDULED
        for kind in Ending:
            assert node.end(claimed, kind, payload='"zombie"') is None, kind
            assert repository.get(task_id) == before

    def test_a_zombies_outcome_does_not_disturb_the_new_attempt(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        zombie = node.claim_only()
        self.lose(repository, clock, node)
        heir = NodeHandle(repository)
        claimed = heir.claim_only()
        before = repository.get(task_id)
        for kind in Ending:
            assert node.end(zombie, kind) is None, kind
            assert repository.get(task_id) == before
        assert heir.end(claimed, payload='"heir"') is Stored.DONE
        found = repository.get(task_id)
        assert found is not None
        assert found.result == "heir"

    def test_finished_and_retried_tasks_of_a_dead_nodes_lease_are_left_alone(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        dead, other = make_node(), make_node()
        self.put(repository, *some_tasks(4))
        done, retried, elsewhere, lost = dead.claim()
        for claimed, kind in ((done, Ending.DONE), (retried, Ending.RETRY)):
            repository.finish(dead.id, [ending(claimed, kind)])
        repository.finish(dead.id, [ending(elsewhere, Ending.RELEASE)])
        held = other.claim_one(elsewhere.id)
        repository.leave(dead.id)
        assert ids(repository.rescue(100)) == [lost.id]
        assert self.state(repository, done.id) is TaskState.DONE
        waiting = repository.get(retried.id)
        assert waiting is not None
        assert (waiting.attempt, waiting.losses) == (1, 0)
        assert other.end(held) is Stored.DONE

    def test_a_loss_gives_the_attempt_back_and_is_told_in_the_history(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        task_id = self.put(repository, a_task())
        claimed = node.claim_only()
        self.lose(repository, clock, node)
        found = repository.get(task_id)
        assert found is not None
        assert (found.attempt, found.losses, found.node, found.batch) == (0, 1, None, None)
        (told,) = repository.attempts(task_id)
        assert (told.attempt, told.outcome) == (1, "lost")
        assert (told.node, told.batch) == (node.id, claimed.batch)

    def test_a_rescued_task_is_due_no_earlier_than_it_was(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        late = self.put(repository, a_task(delay=7200))
        now = self.put(repository, a_task())
        before = repository.get(late)
        node.claim_one(late)
        node.claim_one(now)
        self.lose(repository, clock, node)
        after, ready = repository.get(late), repository.get(now)
        assert before is not None
        assert after is not None
        assert ready is not None
        assert after.run_at == before.run_at
        assert abs(ready.run_at - repository.now()) < timedelta(seconds=SLACK)

    def test_tasks_that_were_lost_are_claimed_alone(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(3))
        lost = set(ids(node.claim()))
        repository.leave(node.id)
        repository.rescue(100)
        self.put(repository, *some_tasks(3))
        heir = NodeHandle(repository)
        taken = heir.claim()
        assert len(taken) == 6
        for claimed in taken:
            company = [other for other in taken if other.batch == claimed.batch]
            assert len(company) == (1 if claimed.id in lost else 3)
        held = {batch: len(held_ids) for batch, held_ids in repository.held(heir.id)}
        assert sorted(held.values()) == [1, 1, 1, 3]
        answers = [heir.end(claimed) for claimed in taken]
        assert answers == [Stored.DONE] * 6

    def test_batches_of_lost_tasks_stay_within_what_was_reserved(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(5))
        node.claim()
        repository.leave(node.id)
        repository.rescue(100)
        heir = NodeHandle(repository)
        first, second = heir.claim(3), heir.claim(2)
        assert len(first) == 3
        assert len({claimed.batch for claimed in (*first, *second)}) == 5

    def test_a_loss_in_company_counts_once_however_often_it_was_lost_before(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        options = Options(max_rescues=1).encode()
        self.put(repository, *some_tasks(3, options=options))
        node.claim()
        repository.leave(node.id)
        assert [rescued.lost for rescued in repository.rescue(100)] == [False] * 3

    def test_losses_while_alone_beyond_max_rescues_fail_the_task_as_lost(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task = a_task(options=Options(max_rescues=2).encode(), unique="k")
        bystander = a_task()
        self.put(repository, task, bystander)
        node.claim()
        repository.leave(node.id)
        assert [one.lost for one in repository.rescue(100)] == [False, False]
        assert self.lose_alone(repository, task.id) is False
        assert self.lose_alone(repository, task.id) is True
        found = repository.get(task.id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.FAILED, "lost")
        assert repository.find_key("k") is None
        assert self.state(repository, bystander.id) is TaskState.SCHEDULED

    @pytest.mark.parametrize("damaged", ["{", '{"max_rescues":"x"}', '{"on_failed":{}}', "[]"])
    def test_options_that_cannot_be_read_stand_in_no_rescues_way(
        self,
        repository: Repository,
        make_node: Callable[[], NodeHandle],
        clock: FakeClock,
        damaged: str,
    ) -> None:
        written = [self.put(repository, a_task(options=damaged)), self.put(repository, a_task())]
        for _ in range(2):
            node = make_node()
            assert node.claim(10)
            self.lose(repository, clock, node)
        assert set(repository.states(written).values()) == {Stored.SCHEDULED}
        assert repository.get(written[0]) is not None

    def test_without_max_rescues_a_task_is_never_failed_as_lost(
        self, repository: Repository
    ) -> None:
        task_id = self.put(repository, a_task(options=Options(max_rescues=None).encode()))
        assert [self.lose_alone(repository, task_id) for _ in range(10)] == [False] * 10
        assert self.state(repository, task_id) is TaskState.SCHEDULED

    def test_an_outcome_that_tries_again_sets_the_losses_back(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        for kind in (Ending.RETRY, Ending.AGAIN):
            task_id = self.put(repository, a_task(options=Options(max_rescues=1).encode()))
            assert self.lose_alone(repository, task_id) is False
            node.end(node.claim_one(task_id), kind)
            found = repository.get(task_id)
            assert found is not None
            assert found.losses == 0
            assert self.lose_alone(repository, task_id) is False
            assert self.lose_alone(repository, task_id) is True

    def test_a_release_keeps_the_losses(self, repository: Repository, node: NodeHandle) -> None:
        task_id = self.put(repository, a_task(options=Options(max_rescues=1).encode()))
        self.lose_alone(repository, task_id)
        node.end(node.claim_one(task_id), Ending.RELEASE)
        assert self.lose_alone(repository, task_id) is True

    def test_a_task_that_was_asked_to_stop_is_cancelled_by_the_rescue(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task(unique="k"))
        node.claim_only()
        repository.cancel(task_id, "stop")
        repository.leave(node.id)
        repository.rescue(100)
        found = repository.get(task_id)
        assert found is not None
        assert (found.state, found.reason) == (TaskState.CANCELLED, "stop")
        assert repository.find_key("k") is None

    def test_a_rescue_tells_what_became_of_each_task(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        back, lost, stopped = (a_task(options=Options(max_rescues=1).encode()) for _ in range(3))
        self.put(repository, back, lost, stopped)
        assert self.lose_alone(repository, lost.id) is False
        nodes = [make_node() for _ in range(3)]
        for node, task in zip(nodes, (back, lost, stopped), strict=True):
            node.claim_one(task.id)
        repository.cancel(stopped.id, "stop")
        for node in nodes:
            repository.leave(node.id)
        told = {one.id: (one.node, one.state) for one in repository.rescue(100)}
        assert told == {
            back.id: (nodes[0].id, Stored.SCHEDULED),
            lost.id: (nodes[1].id, Stored.FAILED),
            stopped.id: (nodes[2].id, Stored.CANCELLED),
        }
        assert repository.states(list(told)) == {one: state for one, (_, state) in told.items()}

    @pytest.mark.parametrize("how", ["rescued", "given up", "lease dropped"])
    def test_an_ending_that_no_attempt_wrote_is_taken_for_no_attempts_own(
        self, repository: Repository, how: str
    ) -> None:
        task_id = self.put(repository, a_task(options=Options(max_rescues=0).encode()))
        node = NodeHandle(repository)
        zombie = node.claim_only()
        if how != "given up":
            repository.cancel(task_id, "stop")
        if how == "lease dropped":
            assert repository.drop_lease(node.id, zombie.batch) == 1
        else:
            repository.leave(node.id)
            assert ids(repository.rescue(100)) == [task_id]
        ended = repository.get(task_id)
        assert ended is not None
        expected = (
            (TaskState.FAILED, "lost") if how == "given up" else (TaskState.CANCELLED, "stop")
        )
        assert (ended.state, ended.reason) == expected
        assert (ended.attempt, ended.node, ended.batch) == (1, None, None)
        (told,) = repository.attempts(task_id)
        assert (told.attempt, told.outcome, told.reason) == (1, "lost", None)
        assert (told.node, told.batch) == (node.id, zombie.batch)
        for kind in Ending:
            for reason in (None, "lost", "stop"):
                late = ending(zombie, kind, reason=reason)
                assert node.finish(late, repeated=True) == [None], kind
        assert repository.get(task_id) == ended

    def test_an_attempt_may_give_lost_as_its_own_reason(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task())
        finish = ending(node.claim_only(), Ending.FAILED, reason="lost")
        assert node.finish(finish) == [Stored.FAILED]
        assert node.finish(finish, repeated=True) == [Stored.FAILED]

    def test_a_request_to_stop_comes_before_one_loss_too_many(self, repository: Repository) -> None:
        task_id = self.put(repository, a_task(options=Options(max_rescues=1).encode()))
        assert self.lose_alone(repository, task_id) is False
        node = NodeHandle(repository)
        node.claim_one(task_id)
        repository.cancel(task_id, "stop")
        repository.leave(node.id)
        repository.rescue(100)
        assert self.state(repository, task_id) is TaskState.CANCELLED

    def test_lost_tasks_are_claimed_alone_also_when_they_were_parked(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(3))
        node.claim()
        repository.leave(node.id)
        repository.rescue(100)
        heir = NodeHandle(repository)
        heir.finish(*[ending(claimed, Ending.PARK) for claimed in heir.claim()])
        taken = heir.claim_parked("demo")
        assert [claimed.losses for claimed in taken] == [1, 1, 1]
        assert len({claimed.batch for claimed in taken}) == 3

    def lose_alone(self, repository: Repository, task_id: str) -> bool:
        """Claim it on a node that then is gone; whether that was one loss too many."""
        node = NodeHandle(repository)
        node.claim_one(task_id)
        repository.leave(node.id)
        (rescued,) = repository.rescue(100)
        assert rescued.id == task_id
        return rescued.lost
