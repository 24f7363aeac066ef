"""Spawning, reporting, following up, pulling and period keys, each against a rival for the row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending, Inserted, NewTask, Stored, TaskState, Want
from rota.errors import LeaseLost
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task, ending
from tests.storage.postgres_contenders import Abandoned, Side, Waiter

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
Await = Callable[[], None]
LEASE = 30.0


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
def claimed(one: Side) -> Claimed:
    """A task that ``one`` works on."""
    one.repository.insert([a_task()])
    (claimed,) = one.claim()
    return claimed


def exists(side: Side, task_id: str) -> bool:
    return bool(side.repository.states([task_id]))


def one_more(side: Side, task: NewTask) -> bool:
    """Whether the task goes in at once, from a thread with a connection of its own."""
    answers: list[Inserted] = Waiter(lambda: side.repository.insert([task])).result()
    return answers[0].created


class TestSpawning:
    def test_a_spawn_before_a_rescue_counts(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        child = a_task(queue="other", parent=claimed.id, fence=one.fence(claimed))
        one.repository.leave(one.node)
        with one.hold(one.inserting(child)) as answers:
            waiter = Waiter(lambda: two.repository.rescue(10))
            await_blocked()
        assert answers[0].created
        assert [lost.id for lost in waiter.result()] == [claimed.id]

    def test_a_spawn_after_a_rescue_is_refused(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        child = a_task(queue="other", fence=one.fence(claimed))
        one.repository.leave(one.node)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.repository.insert([child]))
            await_blocked()
        with pytest.raises(LeaseLost):
            waiter.result()
        assert not exists(one, child.id)

    @pytest.mark.parametrize("kind", list(Ending))
    def test_a_spawn_after_the_parents_finish_is_refused(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await, kind: Ending
    ) -> None:
        child = a_task(queue="other", fence=one.fence(claimed))
        with one.hold(one.finishing(claimed, kind)):
            waiter = Waiter(lambda: two.repository.insert([a_task(), child]))
            await_blocked()
        with pytest.raises(LeaseLost):
            waiter.result()
        assert not exists(one, child.id)

    def test_a_spawn_after_a_finish_that_was_rolled_back_counts(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        child = a_task(queue="other", fence=one.fence(claimed))
        waiters: list[Waiter] = []
        with suppress(Abandoned), one.hold(one.finishing(claimed, Ending.DONE)):
            waiters.append(Waiter(lambda: two.repository.insert([child])))
            await_blocked()
            raise Abandoned
        assert waiters[0].result()[0].created

    def test_a_finish_waits_for_a_spawn(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        child = a_task(queue="other", fence=one.fence(claimed))
        two.node = one.node
        with one.hold(one.inserting(child)) as answers:
            waiter = Waiter(lambda: two.finish(claimed, Ending.DONE))
            await_blocked()
        assert (answers[0].created, waiter.result()) == (True, Stored.DONE)

    def test_siblings_do_not_wait_for_each_other(
        self, one: Side, two: Side, claimed: Claimed
    ) -> None:
        first, second = (a_task(queue="other", fence=one.fence(claimed)) for _ in range(2))
        with one.hold(one.inserting(first)):
            assert two.repository.insert([second])[0].created


class TestReporting:
    def test_a_report_before_a_rescue_is_kept(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        one.repository.leave(one.node)
        with one.hold(one.reporting(claimed)) as kept:
            waiter = Waiter(lambda: two.repository.rescue(10))
            await_blocked()
        assert kept is True
        assert len(waiter.result()) == 1
        report = two.repository.reported(claimed.id)
        assert report is not None
        assert report.n == 1

    def test_a_report_after_a_rescue_is_refused(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        one.repository.leave(one.node)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.report(claimed))
            await_blocked()
        with pytest.raises(LeaseLost):
            waiter.result()
        assert two.repository.reported(claimed.id) is None

    def test_of_two_reports_the_older_is_not_kept(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        two.node = one.node
        with one.hold(one.reporting(claimed, 2)):
            waiter = Waiter(lambda: two.report(claimed, 1))
            await_blocked()
        assert waiter.result() is False

    def test_two_first_reports_after_a_loss_both_count(
        self, one: Side, two: Side, clock: FakeClock, await_blocked: Await
    ) -> None:
        task = a_task()
        one.repository.insert([task])
        for _ in range(3):
            lost = Side(one.repository)
            lost.claim()
            lost.repository.leave(lost.node)
            one.repository.rescue(10)
        (claimed,) = one.claim()
        assert claimed.losses == 3
        two.node = one.node
        with one.hold(one.reporting(claimed, 1)):
            waiter = Waiter(lambda: two.report(claimed, 2))
            await_blocked()
        assert waiter.result() is True
        found = one.repository.get(task.id)
        assert found is not None
        assert found.losses == 1


class TestFollowing:
    def test_what_follows_a_refused_outcome_is_not_inserted(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await
    ) -> None:
        follow = a_task(queue="other")
        finish = ending(claimed, Ending.DONE, follow=follow)
        one.repository.leave(one.node)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.repository.finish(one.node, [finish]))
            await_blocked()
        assert waiter.result() == [None]
        assert not exists(two, follow.id)

    @pytest.mark.parametrize("kind", [Ending.RETRY, Ending.AGAIN, Ending.RELEASE])
    def test_what_follows_an_outcome_that_became_a_cancel_is_not_inserted(
        self, one: Side, two: Side, claimed: Claimed, await_blocked: Await, kind: Ending
    ) -> None:
        follow = a_task(queue="other")
        finish = ending(claimed, kind, follow=follow)
        with two.hold(two.cancelling(claimed.id)):
            waiter = Waiter(lambda: one.repository.finish(one.node, [finish]))
            await_blocked()
        assert waiter.result() == [Stored.CANCELLED]
        assert not exists(two, follow.id)

    def test_an_outcome_rolled_back_takes_what_follows_along(
        self, one: Side, claimed: Claimed
    ) -> None:
        follow = a_task(queue="other")
        with suppress(Abandoned), one.hold(one.finishing(claimed, Ending.DONE, follow=follow)):
            raise Abandoned
        assert not exists(one, follow.id)
        finish = ending(claimed, Ending.DONE, follow=follow)
        assert one.repository.finish(one.node, [finish]) == [Stored.DONE]
        assert exists(one, follow.id)


class TestPeriodKeys:
    @pytest.mark.parametrize("commits", [True, False])
    def test_a_period_key_waits_for_the_transaction_that_takes_it(
        self, one: Side, two: Side, await_blocked: Await, commits: bool
    ) -> None:
        holder, other = (a_task(unique="k", period=60.0) for _ in range(2))
        waiters: list[Waiter] = []
        with suppress(Abandoned), one.hold(one.inserting(holder)):
            waiters.append(Waiter(lambda: two.repository.insert([other])))
            await_blocked()
            if not commits:
                raise Abandoned
        (answer,) = waiters[0].result()
        winner = holder if commits else other
        assert (answer.id, answer.created, answer.by_key) == (winner.id, not commits, commits)
        assert two.repository.find_key("k") == winner.id

    def test_of_two_that_take_a_key_whose_time_is_over_one_wins(
        self, one: Side, two: Side, clock: FakeClock, await_blocked: Await
    ) -> None:
        first, second, third = (a_task(unique="k", period=60.0) for _ in range(3))
        one.repository.insert([first])
        clock.advance(61)
        with one.hold(one.inserting(second)) as answers:
            waiter = Waiter(lambda: two.repository.insert([third]))
            await_blocked()
        assert answers[0].created
        assert waiter.result()[0].id == second.id
        assert not exists(two, third.id)

    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_keys_are_taken_in_one_order_whatever_the_callers(
        self, one: Side, two: Side, await_blocked: Await, order: str
    ) -> None:
        holder, early = (a_task(unique=key, period=60.0) for key in "ab")
        late = [a_task(unique=key, period=60.0) for key in order]

        def put() -> list[Inserted]:
            # Without the impatient try, which would let go of what it has taken.
            with two.hold(two.inserting(*late)) as answers:
                found: list[Inserted] = answers
            return found

        with one.hold(one.inserting(holder)):
            waiter = Waiter(put)
            await_blocked()
            # Waiting for "a" it has not taken "b": so nobody can wait for it in turn.
            assert one_more(two, early)
        met = {"a": holder.id, "b": early.id}
        assert [answer.id for answer in waiter.result()] == [met[key] for key in order]


class TestPulling:
    @pytest.fixture
    def owner(self) -> int:
        return new_incarnation()

    @pytest.fixture
    def pulled(self, one: Side, owner: int, clock: FakeClock) -> Claimed:
        """A task claimed for ``LEASE`` seconds, which are over."""
        one.repository.insert([a_task()])
        (pulled,) = one.repository.claim_until(owner, 1, [Want("default", 0, 5)], LEASE)
        clock.advance(LEASE + 1)
        return pulled

    def test_a_rescue_passes_over_a_lease_being_extended(
        self, one: Side, two: Side, owner: int, pulled: Claimed
    ) -> None:
        with one.hold(one.extending(owner, LEASE)) as extended:
            assert two.repository.rescue(10) == []
        assert extended is True
        assert two.repository.rescue(10) == []

    def test_an_extension_after_a_rescue_says_that_the_lease_is_gone(
        self, one: Side, two: Side, owner: int, pulled: Claimed, await_blocked: Await
    ) -> None:
        with two.hold(two.rescuing()) as rescued:
            waiter = Waiter(lambda: one.repository.extend(owner, 1, LEASE))
            await_blocked()
        assert [lost.id for lost in rescued] == [pulled.id]
        assert waiter.result() is False

    def test_a_finish_after_the_deadline_counts_until_somebody_has_rescued(
        self, one: Side, two: Side, owner: int, pulled: Claimed, await_blocked: Await
    ) -> None:
        one.node = owner
        with one.hold(one.finishing(pulled, Ending.DONE)) as answers:
            waiter = Waiter(lambda: two.repository.rescue(10))
            await_blocked()
        assert answers == [Stored.DONE]
        assert waiter.result() == []

    def test_a_nodes_own_lease_gets_no_deadline(
        self, one: Side, two: Side, claimed: Claimed
    ) -> None:
        assert one.repository.extend(one.node, claimed.batch, LEASE) is False
        one.repository.leave(one.node)
        # With a deadline ahead it would have to wait for it.
        assert [lost.id for lost in two.repository.rescue(10)] == [claimed.id]

    def test_a_claim_and_a_pull_do_not_take_one_task(
        self, one: Side, two: Side, owner: int
    ) -> None:
        one.repository.insert([a_task()])
        with one.hold(one.pulling(owner, LEASE)) as pulled:
            assert two.claim() == []
            assert two.repository.rescue(10) == []
        assert len(pulled) == 1


class TestFinishingInTheCallersTransaction:
    """The finish stands in an open transaction of somebody's own, then commits or does not."""

    @pytest.fixture
    def finished(
        self, one: Side, claimed: Claimed, stranger: psycopg.Connection
    ) -> psycopg.Connection:
        one.repository.finish_in(stranger, one.node, ending(claimed, Ending.DONE))
        return stranger

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_rescue_leaves_it_alone_while_it_is_open(
        self, one: Side, two: Side, claimed: Claimed, finished: psycopg.Connection, commits: bool
    ) -> None:
        one.repository.leave(one.node)
        assert two.repository.rescue(10) == []
        (finished.commit if commits else finished.rollback)()
        expected = [] if commits else [claimed.id]
        assert [lost.id for lost in two.repository.rescue(10)] == expected

    @pytest.mark.parametrize("commits", [True, False])
    def test_another_finish_waits_for_it(
        self,
        one: Side,
        claimed: Claimed,
        finished: psycopg.Connection,
        await_blocked: Await,
        commits: bool,
    ) -> None:
        waiter = Waiter(lambda: one.finish(claimed, Ending.FAILED))
        await_blocked()
        (finished.commit if commits else finished.rollback)()
        assert waiter.result() is (None if commits else Stored.FAILED)

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_cancel_waits_for_it(
        self,
        two: Side,
        claimed: Claimed,
        finished: psycopg.Connection,
        await_blocked: Await,
        commits: bool,
    ) -> None:
        waiter = Waiter(lambda: two.repository.cancel(claimed.id, "stop"))
        await_blocked()
        (finished.commit if commits else finished.rollback)()
        assert waiter.result() is (Stored.DONE if commits else Stored.WORKING)

    def test_it_is_refused_after_a_rescue_it_waited_for(
        self,
        one: Side,
        two: Side,
        claimed: Claimed,
        stranger: psycopg.Connection,
        await_blocked: Await,
    ) -> None:
        one.repository.leave(one.node)
        finish = ending(claimed, Ending.DONE)
        with two.hold(two.rescuing()):
            waiter = Waiter(lambda: one.repository.finish_in(stranger, one.node, finish))
            await_blocked()
        with pytest.raises(LeaseLost):
            waiter.result()
        stranger.commit()
        found = two.repository.get(claimed.id)
        assert found is not None
        assert found.state is TaskState.SCHEDULED
