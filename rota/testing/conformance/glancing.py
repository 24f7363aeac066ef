"""A glance: whether there is anything to do, in one look that sees whatever was written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from rota.core.glance import Glance
from rota.core.ports import Repository
from rota.core.task import Ending, Want
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import HOUR, a_definition
from rota.testing.conformance.setting import (
    LEASE,
    SLACK,
    ContractBase,
    NodeHandle,
    a_task,
    ending,
)

MakeNode = Callable[[], NodeHandle]
PULLER = 4711


def seen(node: NodeHandle) -> Glance:
    """What the node sees now, lanes and times left out."""
    return _without_times(node.repository.glance(node.id, ()))


def _without_times(glance: Glance) -> Glance:
    return glance._replace(lanes=(), lease_left=None, fires_in=None, moment=None)


class GlanceContract(ContractBase):
    """``glance``; each thing there is to do is seen, and is not seen any more once it is done."""

    def test_where_there_is_nothing_nothing_is_seen(self, node: NodeHandle) -> None:
        glance = node.repository.glance(node.id, None)
        assert _without_times(glance) == Glance()
        assert not glance.lanes
        assert glance.lease_left is None
        assert glance.fires_in is None

    def test_what_waits_is_nothing_to_do_but_a_lane(self, node: NodeHandle) -> None:
        self.put(node.repository, a_task(expires_in=900.0), a_task(delay=900.0))
        assert seen(node) == Glance()

    def test_the_lanes_are_those_of_the_agenda(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        self.put(repository, a_task(queue="a"), a_task(queue="a", priority=5), a_task(queue="b"))
        self.put(repository, a_task(queue="c", delay=900.0), a_task(queue="held"))
        repository.pause_queue("held", "not now")
        for queues in (None, ["a", "c"], ["b", "held"], ["none"], ()):
            told = list(node.repository.glance(node.id, queues).lanes)
            wanted = repository.agenda(queues)
            assert [lane[:2] for lane in told] == [lane[:2] for lane in wanted]
            for lane, other in zip(told, wanted, strict=True):
                assert abs(lane.due_in - other.due_in) < SLACK

    def test_its_moment_is_the_databases(self, node: NodeHandle, clock: FakeClock) -> None:
        clock.advance(86_400)
        moment = node.repository.glance(node.id, ()).moment
        if moment is not None:
            assert abs(moment - node.repository.now().timestamp()) < SLACK

    def test_another_node_is_seen_until_it_leaves(
        self, node: NodeHandle, make_node: MakeNode
    ) -> None:
        other = make_node()
        assert seen(node) == Glance(peers=True)
        left = node.repository.glance(node.id, ()).lease_left
        assert left is not None
        assert 0 < left <= LEASE
        other.repository.leave(other.id)
        assert seen(node) == Glance()

    def test_a_lease_that_is_over_is_seen_until_its_node_is_buried(
        self, node: NodeHandle, make_node: MakeNode, clock: FakeClock
    ) -> None:
        late = make_node()
        assert seen(node) == Glance(peers=True)
        clock.advance(LEASE * 3)
        node.beat()
        assert seen(node) == Glance(peers=True, dead=True)
        assert node.repository.glance(node.id, ()).lease_left is None
        assert node.repository.bury(node.id, trusted=True) == [late.id]
        assert seen(node) == Glance()

    def test_a_node_that_goes_on_beating_is_not_seen_dead(
        self, node: NodeHandle, open_repository: Callable[[], Repository], clock: FakeClock
    ) -> None:
        # Some handles share what they have seen, some do not.
        others = [NodeHandle(node.repository), NodeHandle(open_repository())]
        for _ in range(4):
            clock.advance(LEASE * 0.6)
            for one in others:
                assert one.beat()
            assert seen(node) == Glance(peers=True)

    def test_the_nodes_own_lease_is_not_looked_at(self, node: NodeHandle, clock: FakeClock) -> None:
        clock.advance(LEASE * 3)
        assert seen(node) == Glance()

    def test_what_a_node_that_left_held_is_seen_until_it_is_rescued(
        self, node: NodeHandle, make_node: MakeNode
    ) -> None:
        gone = make_node()
        self.put(node.repository, a_task())
        gone.claim_only()
        assert seen(node) == Glance(peers=True)
        gone.repository.leave(gone.id)
        assert seen(node) == Glance(orphans=True)
        assert len(node.repository.rescue(10)) == 1
        assert seen(node) == Glance()

    def test_a_pulled_claim_is_seen_once_its_lease_is_over(
        self, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(node.repository, a_task())
        node.repository.claim_until(PULLER, 1, [Want("default", 0, 1)], 60.0)
        assert seen(node) == Glance()
        clock.advance(120)
        assert seen(node) == Glance(orphans=True)
        assert node.repository.extend(PULLER, 1, 60.0)
        assert seen(node) == Glance()

    def test_the_nodes_own_leases_are_seen_until_they_are_over(
        self, node: NodeHandle, make_node: MakeNode
    ) -> None:
        other = make_node()
        self.put(node.repository, a_task())
        claimed = node.claim_only()
        assert seen(node) == Glance(peers=True, mine=True)
        assert seen(other) == Glance(peers=True)
        node.repository.finish(node.id, [ending(claimed, Ending.DONE)], [claimed.batch])
        assert seen(node) == Glance(peers=True)

    def test_what_is_past_its_deadline_is_seen_while_it_waits(
        self, node: NodeHandle, clock: FakeClock
    ) -> None:
        self.put(node.repository, a_task(expires_in=60.0, queue="held"))
        node.repository.pause_queue("held", "not now")
        assert seen(node) == Glance()
        clock.advance(120)
        assert seen(node) == Glance(overdue=True)
        assert len(node.repository.expire(10)) == 1
        assert seen(node) == Glance()

    def test_what_works_may_be_past_its_deadline(self, node: NodeHandle, clock: FakeClock) -> None:
        self.put(node.repository, a_task(expires_in=60.0))
        claimed = node.claim_only()
        clock.advance(120)
        assert seen(node) == Glance(mine=True)
        node.end(claimed, Ending.RETRY)
        assert seen(node) == Glance(overdue=True)

    def test_what_has_ended_or_was_changed_is_not_past_its_deadline(
        self, node: NodeHandle, clock: FakeClock
    ) -> None:
        first = self.put(node.repository, a_task(expires_in=60.0))
        node.repository.cancel(first, "stop")
        clock.advance(120)
        assert seen(node) == Glance()

    def test_a_parked_task_is_seen_until_it_is_taken(self, node: NodeHandle) -> None:
        self.put(node.repository, a_task(work="strange"))
        node.end(node.claim_only(), Ending.PARK)
        assert seen(node) == Glance(parked=True)
        other = NodeHandle(node.repository)
        other.claim_parked("strange")
        assert not seen(node).parked

    def test_paused_works_are_seen_until_they_are_resumed(self, node: NodeHandle) -> None:
        repository = node.repository
        repository.pause_work("mail.send", "the relay is down")
        repository.pause_work("report", "")
        assert seen(node) == Glance(paused_works=frozenset({"mail.send", "report"}))
        assert set(repository.paused_works()) == {"mail.send", "report"}
        repository.resume_work("mail.send")
        assert seen(node) == Glance(paused_works=frozenset({"report"}))

    def test_the_first_fire_time_is_seen(self, node: NodeHandle, clock: FakeClock) -> None:
        repository = node.repository
        for name, hours in (("later", 3), ("sooner", 2), ("paused", 1)):
            repository.put_recurring(a_definition(repository.now() + hours * HOUR, id=name))
        repository.put_recurring(a_definition(None, id="over"))
        repository.pause_recurring("paused")
        assert self._fires_in(node) == 2 * HOUR
        clock.advance(3600)
        assert self._fires_in(node) == HOUR
        clock.advance(2 * 3600)
        assert self._fires_in(node) == -HOUR
        repository.remove_recurring("sooner")
        assert self._fires_in(node) == timedelta(0)

    @staticmethod
    def _fires_in(node: NodeHandle) -> timedelta:
        """To the minute: the database's clock runs on."""
        found = node.repository.glance(node.id, ()).fires_in
        assert found is not None
        return timedelta(minutes=round(found / 60))

    def test_what_others_write_is_seen_at_once(
        self, node: NodeHandle, open_repository: Callable[[], Repository]
    ) -> None:
        other, nobody = open_repository(), Glance()
        for n in range(5):
            assert seen(node) == nobody
            other.pause_work(f"work {n}", "")
            assert seen(node).paused_works == {f"work {n}"}
            other.resume_work(f"work {n}")

    def test_it_writes_nothing(
        self, node: NodeHandle, make_node: MakeNode, clock: FakeClock
    ) -> None:
        other = make_node()
        task_id = self.put(node.repository, a_task(expires_in=60.0))
        clock.advance(LEASE * 3)
        before = node.repository.get(task_id)
        assert seen(node).dead
        assert seen(node).overdue
        assert node.repository.get(task_id) == before
        assert other.beat()
