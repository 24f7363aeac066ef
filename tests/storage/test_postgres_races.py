"""Two verbs at one row: the second waits for the first, and exactly one of them wins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from rota.core.task import Claimed, Ending, Stored, TaskState
from rota.errors import AlreadyClaimed, NodeDead, WrongState
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from tests.storage.postgres_contenders import Abandoned, Side, Waiter

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def one(open_postgres: Open, clock: FakeClock) -> Side:
    return Side(open_postgres(clock, statement_timeout=60.0))


@pytest.fixture
def two(open_postgres: Open, clock: FakeClock) -> Side:
    return Side(open_postgres(clock, statement_timeout=60.0))


@pytest.fixture
def task_id(one: Side) -> str:
    task = a_task()
    one.repository.insert([task])
    return task.id


def state(side: Side, task_id: str) -> TaskState:
    task = side.repository.get(task_id)
    assert task is not None
    return task.state


class TestWorking:
    """The task is held by ``one``."""

    @pytest.fixture
    def claimed(self, one: Side, task_id: str) -> Claimed:
        (claimed,) = one.claim()
        return claimed

    @pytest.mark.parametrize("kind", list(Ending))
    def test_the_first_of_two_finishes_wins(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        await_blocked: Callable[[], None],
        kind: Ending,
    ) -> None:
        late = Side(two.repository)
        late.node = one.node
        with one.hold(one.finishing(claimed, Ending.DONE)) as answer:
            waiter = Waiter(lambda: late.finish(claimed, kind))
            await_blocked()
        assert answer == [Stored.DONE]
        assert waiter.result() is None

    @pytest.mark.parametrize("kind", list(Ending))
    def test_a_finish_before_a_rescue_wins(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        await_blocked: Callable[[], None],
        kind: Ending,
    ) -> None:
        one.repository.leave(one.node)
        with one.hold(one.finishing(claimed, kind)) as answer:
            waiter = Waiter(lambda: two.repository.rescue(10))
            await_blocked()
        assert answer[0] is not None
        assert waiter.result() == []

    @pytest.mark.parametrize("kind", list(Ending))
    def test_a_rescue_before_a_finish_wins(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        await_blocked: Callable[[], None],
        kind: Ending,
    ) -> None:
        one.repository.leave(one.node)
        with two.hold(two.rescuing()) as rescued:
            waiter = Waiter(lambda: one.finish(claimed, kind))
            await_blocked()
        assert [lost.id for lost in rescued] == [claimed.id]
        assert waiter.result() is None
        assert [again.id for again in two.claim()] == [claimed.id]

    @pytest.mark.parametrize("kind", list(Ending))
    def test_a_cancel_before_a_finish_is_respected(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        await_blocked: Callable[[], None],
        kind: Ending,
    ) -> None:
        with two.hold(two.cancelling(claimed.id)) as met:
            waiter = Waiter(lambda: one.finish(claimed, kind))
            await_blocked()
        assert met is Stored.WORKING
        reported = kind in {Ending.DONE, Ending.FAILED}
        assert waiter.result() == (Stored(int(kind)) if reported else Stored.CANCELLED)

    @pytest.mark.parametrize(
        ("kind", "met", "ends"),
        [
            (Ending.DONE, Stored.DONE, TaskState.DONE),
            (Ending.RETRY, Stored.SCHEDULED, TaskState.CANCELLED),
            (Ending.PARK, Stored.PARKED, TaskState.CANCELLED),
        ],
    )
    def test_a_cancel_after_a_finish_meets_what_it_led_to(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        await_blocked: Callable[[], None],
        kind: Ending,
        met: Stored,
        ends: TaskState,
    ) -> None:
        with one.hold(one.finishing(claimed, kind)):
            waiter = Waiter(lambda: two.repository.cancel(claimed.id, "stop"))
            await_blocked()
        assert waiter.result() is met
        assert state(one, claimed.id) is ends

    def test_a_cancel_before_a_rescue_ends_the_task(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Callable[[], None]
    ) -> None:
        one.repository.leave(one.node)
        with one.hold(one.cancelling(claimed.id)) as met:
            waiter = Waiter(lambda: two.repository.rescue(10))
            await_blocked()
        assert met is Stored.WORKING
        assert [lost.id for lost in waiter.result()] == [claimed.id]
        assert state(two, claimed.id) is TaskState.CANCELLED

    def test_a_cancel_after_a_rescue_meets_a_waiting_task(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Callable[[], None]
    ) -> None:
        one.repository.leave(one.node)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.repository.cancel(claimed.id, "stop"))
            await_blocked()
        assert waiter.result() is Stored.SCHEDULED
        assert state(two, claimed.id) is TaskState.CANCELLED

    def test_an_update_after_a_release_changes_the_task(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Callable[[], None]
    ) -> None:
        with one.hold(one.finishing(claimed, Ending.RELEASE)):
            waiter = Waiter(lambda: two.repository.update(claimed.id, {"params": '{"n":2}'}, None))
            await_blocked()
        assert waiter.result().params == {"n": 2}
        assert [again.params for again in two.claim()] == ['{"n":2}']

    def test_an_update_after_a_rescue_changes_the_task(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Callable[[], None]
    ) -> None:
        one.repository.leave(one.node)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.repository.update(claimed.id, {"priority": 7}, None))
            await_blocked()
        assert (waiter.result().priority, waiter.result().losses) == (7, 1)

    def test_two_rescues_share_nothing(self, one: Side, two: Side, claimed: Claimed) -> None:
        one.repository.leave(one.node)
        with two.hold(two.rescuing()) as rescued:
            assert one.repository.rescue(10) == []
        assert [lost.id for lost in rescued] == [claimed.id]


class TestWaiting:
    """The task is scheduled."""

    def test_a_cancel_after_a_claim_leaves_its_reason(
        self, one: Side, two: Side, task_id: str, await_blocked: Callable[[], None]
    ) -> None:
        with one.hold(one.claiming()) as taken:
            waiter = Waiter(lambda: two.repository.cancel(task_id, "stop"))
            await_blocked()
        assert waiter.result() is Stored.WORKING
        assert one.finish(taken[0], Ending.RETRY) is Stored.CANCELLED

    def test_an_update_after_a_claim_is_refused(
        self, one: Side, two: Side, task_id: str, await_blocked: Callable[[], None]
    ) -> None:
        with one.hold(one.claiming()) as taken:
            waiter = Waiter(lambda: two.repository.update(task_id, {"priority": 1}, None))
            await_blocked()
        with pytest.raises(WrongState):
            waiter.result()
        assert one.finish(taken[0], Ending.DONE) is Stored.DONE

    @pytest.mark.parametrize("verb", ["cancelling", "updating"])
    def test_a_claim_passes_over_a_task_somebody_is_changing(
        self, one: Side, two: Side, task_id: str, verb: str
    ) -> None:
        with one.hold(getattr(one, verb)(task_id)):
            assert two.claim() == []
        later = two.claim()
        assert [claimed.params for claimed in later] == (
            [] if verb == "cancelling" else ['{"n":2}']
        )

    def test_of_two_claims_the_second_takes_nothing(
        self, one: Side, two: Side, task_id: str
    ) -> None:
        with one.hold(one.claiming()) as taken:
            assert two.claim() == []
        assert [claimed.id for claimed in taken] == [task_id]

    @pytest.mark.parametrize(
        ("verb", "refusal"), [("cancelling", WrongState), ("claiming", AlreadyClaimed)]
    )
    def test_claiming_one_waits_and_is_then_refused(
        self,
        one: Side,
        two: Side,
        task_id: str,
        await_blocked: Callable[[], None],
        verb: str,
        refusal: type[Exception],
    ) -> None:
        first = one.claiming() if verb == "claiming" else one.cancelling(task_id)
        with one.hold(first):
            waiter = Waiter(lambda: two.claim_one(task_id))
            await_blocked()
        with pytest.raises(refusal):
            waiter.result()

    def test_claiming_one_after_an_update_sees_the_new_params(
        self, one: Side, two: Side, task_id: str, await_blocked: Callable[[], None]
    ) -> None:
        with one.hold(one.updating(task_id)):
            waiter = Waiter(lambda: two.claim_one(task_id))
            await_blocked()
        assert waiter.result().params == '{"n":2}'

    def test_of_two_cancels_the_second_meets_a_cancelled_task(
        self, one: Side, two: Side, task_id: str, await_blocked: Callable[[], None]
    ) -> None:
        with one.hold(one.cancelling(task_id)) as met:
            waiter = Waiter(lambda: two.repository.cancel(task_id, "too"))
            await_blocked()
        assert (met, waiter.result()) == (Stored.SCHEDULED, Stored.CANCELLED)


class TestNodes:
    def test_a_claim_after_a_burial_finds_its_node_dead(
        self,
        one: Side,
        two: Side,
        task_id: str,
        clock: FakeClock,
        await_blocked: Callable[[], None],
    ) -> None:
        clock.advance(90)
        two.repository.beat(two.node, 30.0)
        with two.hold(two.burying()) as buried:
            waiter = Waiter(one.claim)
            await_blocked()
        assert buried == [one.node]
        with pytest.raises(NodeDead):
            waiter.result()
        assert state(two, task_id) is TaskState.SCHEDULED

    def test_a_node_in_the_middle_of_a_claim_is_not_buried(
        self, one: Side, two: Side, task_id: str, clock: FakeClock
    ) -> None:
        clock.advance(90)
        two.repository.beat(two.node, 30.0)
        with one.hold(one.claiming()):
            assert two.repository.bury(two.node, trusted=True) == []
        assert two.repository.bury(two.node, trusted=True) == [one.node]
        assert [lost.id for lost in two.repository.rescue(10)] == [task_id]

    def test_a_beat_after_a_burial_says_so(
        self, one: Side, two: Side, clock: FakeClock, await_blocked: Callable[[], None]
    ) -> None:
        clock.advance(90)
        two.repository.beat(two.node, 30.0)
        with two.hold(two.burying()):
            waiter = Waiter(lambda: one.repository.beat(one.node, 30.0))
            await_blocked()
        assert waiter.result() is False


class TestUniqueKeys:
    @pytest.mark.parametrize("commits", [True, False])
    def test_an_insert_waits_for_a_stranger_with_the_same_key(
        self, one: Side, two: Side, await_blocked: Callable[[], None], commits: bool
    ) -> None:
        holder, other = a_task(unique="k"), a_task(unique="k")

        def put(session: Session) -> object:
            return one.repository._inserting.careful(session, [holder], repeated=False)

        waiters: list[Waiter] = []
        with suppress(Abandoned), one.hold(put):
            waiters.append(Waiter(lambda: two.repository.insert([other])))
            await_blocked()
            if not commits:
                raise Abandoned
        (answer,) = waiters[0].result()
        assert (answer.id, answer.created) == ((holder.id, False) if commits else (other.id, True))
