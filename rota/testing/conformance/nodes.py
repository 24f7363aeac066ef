"""A node's life: joining, beating, leaving, being buried; its leases and notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ids import new_incarnation
from rota.core.ports import Repository
from rota.core.task import CancelNotice, Ending, Membership, Stored, TaskState
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import (
    LEASE,
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
    some_tasks,
)


def known(repository: Repository) -> set[int]:
    return {view.id for view in repository.nodes()}


class NodeContract(ContractBase):
    """``join``, ``beat``, ``leave``, ``nodes``, ``bury``, ``held``, ``drop_lease``, ``cancels``."""

    def test_a_joined_node_is_seen_by_all(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        first, second = make_node(), make_node()
        assert known(repository) == known(second.repository) == {first.id, second.id}

    def test_a_node_is_seen_as_it_described_itself(self, repository: Repository) -> None:
        incarnation = new_incarnation()
        repository.join(Membership(incarnation, "büro-1", "host.example", 4711, 120.0))
        (view,) = repository.nodes()
        assert (view.id, view.name, view.host) == (incarnation, "büro-1", "host.example")
        assert (view.pid, view.lease) == (4711, 120.0)
        assert abs(view.lease_left - 120) < SLACK

    def test_a_beat_extends_the_lease(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        clock.advance(LEASE * 10)
        (view,) = repository.nodes()
        assert view.lease_left < 0
        assert node.beat()
        (view,) = repository.nodes()
        assert view.lease_left > 0

    def test_an_expired_lease_does_not_kill(self, node: NodeHandle, clock: FakeClock) -> None:
        clock.advance(LEASE * 100)
        assert node.beat()
        assert node.claim() == []

    def test_a_late_node_may_still_finish_what_nobody_took(
        self, repository: Repository, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(repository, a_task())
        claimed = node.claim_only()
        clock.advance(LEASE * 100)
        assert node.end(claimed) is Stored.DONE

    def test_a_node_that_left_is_gone(self, repository: Repository, node: NodeHandle) -> None:
        repository.leave(node.id)
        assert known(repository) == set()
        assert not node.beat()

    def test_what_a_node_that_left_still_held_is_rescued(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        node.claim_only()
        repository.leave(node.id)
        assert [rescued.id for rescued in repository.rescue(10)] == [task_id]
        assert self.state(repository, task_id) is TaskState.SCHEDULED

    def test_a_living_node_is_not_buried(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        living, witness = make_node(), make_node()
        assert repository.bury(witness.id, trusted=True) == []
        assert living.beat()

    def test_a_node_whose_lease_is_over_is_buried_by_a_trusted_witness(
        self, repository: Repository, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        late, witness = make_node(), make_node()
        clock.advance(LEASE * 3)
        witness.beat()
        assert repository.bury(witness.id, trusted=True) == [late.id]
        assert known(repository) == {witness.id}
        assert not late.beat()
        assert repository.bury(witness.id, trusted=True) == []

    def test_the_word_of_an_untrusted_witness_buries_nobody(
        self, make_node: Callable[[], NodeHandle], clock: FakeClock
    ) -> None:
        late, witness = make_node(), make_node()
        clock.advance(LEASE * 3)
        witness.beat()
        assert witness.repository.bury(witness.id, trusted=False) == []
        assert late.beat()

    def test_a_node_does_not_bury_itself(self, node: NodeHandle, clock: FakeClock) -> None:
        clock.advance(LEASE * 3)
        assert node.repository.bury(node.id, trusted=True) == []
        assert node.beat()

    def test_each_node_is_judged_by_its_own_lease(
        self, open_repository: Callable[[], Repository], clock: FakeClock
    ) -> None:
        witness = NodeHandle(open_repository(), lease=3600.0)
        patient = NodeHandle(open_repository(), lease=3600.0)
        hasty = NodeHandle(open_repository(), lease=60.0)
        clock.advance(600)
        assert witness.repository.bury(witness.id, trusted=True) == [hasty.id]
        assert patient.beat()

    def test_held_lists_the_nodes_own_leases(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        node, other = make_node(), make_node()
        self.put(repository, *some_tasks(5))
        first, second = node.claim(2), node.claim(2)
        other.claim(1)
        held = {batch: sorted(held_ids) for batch, held_ids in repository.held(node.id)}
        assert held == {
            taken[0].batch: sorted(claimed.id for claimed in taken) for taken in (first, second)
        }

    def test_a_claim_that_found_nothing_leaves_no_lease(self, node: NodeHandle) -> None:
        assert node.claim() == []
        assert node.repository.held(node.id) == []

    def test_a_batch_that_is_over_is_no_longer_held(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(2))
        first, second = node.claim()
        repository.finish(node.id, [ending(first, Ending.DONE)])
        assert [batch for batch, _ in repository.held(node.id)] == [first.batch]
        repository.finish(node.id, [ending(second, Ending.RETRY)], [second.batch])
        assert repository.held(node.id) == []

    def test_dropping_a_lease_gives_its_tasks_back_without_cost(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, *some_tasks(3))
        taken = node.claim()
        repository.finish(node.id, [ending(taken[0], Ending.DONE)])
        assert repository.drop_lease(node.id, taken[0].batch) == 2
        assert repository.held(node.id) == []
        for claimed in taken[1:]:
            found = repository.get(claimed.id)
            assert found is not None
            assert (found.state, found.attempt, found.losses) == (TaskState.SCHEDULED, 0, 0)
            assert repository.attempts(claimed.id) == []
        assert node.end(taken[1]) is None
        assert len(node.claim()) == 2

    def test_dropping_a_lease_leaves_other_leases_alone(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        node, other = make_node(), make_node()
        self.put(repository, *some_tasks(2))
        mine, theirs = node.claim_only(ready=1), other.claim_only(ready=1)
        assert repository.drop_lease(other.id, mine.batch + 1000) == 0
        assert repository.drop_lease(node.id, mine.batch) == 1
        assert repository.drop_lease(node.id, mine.batch) == 0
        assert other.end(theirs) is Stored.DONE

    def test_dropping_a_lease_does_not_touch_what_was_claimed_anew(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        task_id = self.put(repository, a_task())
        first = node.claim_only()
        repository.finish(node.id, [ending(first, Ending.RETRY)])
        second = node.claim_one(task_id)
        assert repository.drop_lease(node.id, first.batch) == 0
        assert node.end(second) is Stored.DONE

    def test_a_node_hears_which_of_its_running_tasks_are_to_stop(
        self, repository: Repository, make_node: Callable[[], NodeHandle]
    ) -> None:
        node, other = make_node(), make_node()
        self.put(repository, *some_tasks(3))
        first, second = node.claim(2)
        other.claim_only()
        assert node.repository.cancels(node.id) == []
        assert repository.cancel(first.id, "why not") is Stored.WORKING
        assert node.repository.cancels(node.id) == [CancelNotice(first.id, first.batch, "why not")]
        assert repository.cancels(other.id) == []
        node.end(first, Ending.CANCELLED)
        assert node.repository.cancels(node.id) == []
        assert node.end(second) is Stored.DONE

    def test_a_chore_is_done_by_one_at_a_time(
        self, open_repository: Callable[[], Repository], clock: FakeClock
    ) -> None:
        first, second = open_repository(), open_repository()
        assert first.take_chore("tidy", 600)
        assert not second.take_chore("tidy", 600)
        assert not first.take_chore("tidy", 600)
        assert second.take_chore("fold", 600)
        clock.advance(700)
        assert second.take_chore("tidy", 600)
        assert not first.take_chore("tidy", 600)

    @pytest.mark.parametrize("taken", [0, 1])
    def test_closing_twice_is_safe(
        self, open_repository: Callable[[], Repository], taken: int
    ) -> None:
        keeper = open_repository()
        extra = open_repository()
        assert len(extra.insert(some_tasks(taken))) == taken
        extra.close()
        extra.close()
        assert keeper.durable in {True, False}
