"""The change feed keeps the order of commits: who commits late is neither skipped nor repeated."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from rota.core.task import Ending, Stored
from rota.errors import InvalidArgument
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task, ids, some_tasks
from tests.storage.postgres_contenders import PATIENCE, Side

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
DAY = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def one(open_postgres: Open, clock: FakeClock) -> Side:
    side = Side(open_postgres(clock))
    side.repository.feed(on=True)
    return side


@pytest.fixture
def repository(one: Side, open_postgres: Open, clock: FakeClock) -> PostgresRepository:
    """Another handle, for whoever reads the feed."""
    return open_postgres(clock)


def settle(repository: PostgresRepository) -> None:
    """Return when every transaction begun before has ended, the server's own included."""
    deadline = time.monotonic() + PATIENCE
    with repository._connections.session() as session:
        ((mine,),) = session.rows("select pg_current_xact_id()::text::bigint")
        while time.monotonic() < deadline:
            query = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            if session.rows(query)[0][0] > mine:
                return
    pytest.fail("a transaction stays open")


def told(repository: PostgresRepository, cursor: str | None = None) -> tuple[list[str], str]:
    """The tasks of the changes after the cursor, once nothing is open any more."""
    settle(repository)
    changes, cursor = repository.updated_since(cursor, 100)
    return [change.task_id for change in changes], cursor


class TestCommitOrder:
    def test_who_commits_late_is_told_late_and_nobody_is_skipped(
        self, one: Side, repository: PostgresRepository
    ) -> None:
        first, slow, quick = some_tasks(3)
        one.repository.insert([first])
        seen, cursor = told(repository)
        assert seen == [first.id]
        with one.hold(one.inserting(slow)):
            repository.insert([quick])
            # The quick one is committed, but what comes before it may still be added to.
            assert repository.updated_since(cursor, 100) == ([], cursor)
        seen, cursor = told(repository, cursor)
        assert seen == [slow.id, quick.id]
        assert told(repository, cursor) == ([], cursor)

    def test_a_transaction_of_somebody_else_holds_the_feed_up_no_longer_than_it_is_open(
        self, one: Side, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        task = a_task()
        stranger.execute("create temp table mine (n integer)")
        one.repository.insert([task])
        assert repository.updated_since(None, 100)[0] == []
        stranger.rollback()
        assert told(repository)[0] == [task.id]

    def test_what_was_rolled_back_to_a_savepoint_is_not_told_and_the_rest_is(
        self, one: Side, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        kept, undone, last = some_tasks(3)
        repository.insert_in(stranger, [kept])
        with stranger.transaction(force_rollback=True):
            repository.insert_in(stranger, [undone])
        repository.insert_in(stranger, [last])
        stranger.commit()
        assert told(repository)[0] == [kept.id, last.id]

    def test_pages_neither_skip_nor_repeat(self, one: Side, repository: PostgresRepository) -> None:
        tasks = some_tasks(7)
        one.repository.insert(tasks)
        seen: list[str] = []
        cursor: str | None = None
        settle(repository)
        while True:
            changes, cursor = repository.updated_since(cursor, 2)
            if not changes:
                break
            seen += [change.task_id for change in changes]
        assert sorted(seen) == sorted(ids(tasks))

    @pytest.mark.parametrize("cursor", ["", "7", "a:b", "1:-1", "1:2:3", "9" * 30 + ":1", "²:1"])
    def test_a_cursor_that_no_call_gave_is_refused(
        self, repository: PostgresRepository, cursor: str
    ) -> None:
        with pytest.raises(InvalidArgument) as refused:
            repository.updated_since(cursor, 10)
        assert refused.value.field == "cursor"


class TestWhatIsTold:
    def test_a_life_with_every_turn(
        self, one: Side, repository: PostgresRepository, clock: FakeClock
    ) -> None:
        task = a_task()
        one.repository.insert([task])
        for kind in (Ending.RETRY, Ending.AGAIN, Ending.RELEASE):
            (claimed,) = one.claim()
            one.finish(claimed, kind)
            clock.advance(1)
        (claimed,) = one.claim()
        one.repository.leave(one.node)
        repository.rescue(10)
        two = Side(repository)
        (claimed,) = two.claim()
        two.finish(claimed, Ending.PARK)
        repository.cancel(task.id, "enough")
        settle(repository)
        changes, _ = repository.updated_since(None, 100)
        assert {change.task_id for change in changes} == {task.id}
        assert [change.state for change in changes] == [
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.SCHEDULED,
            Stored.PARKED,
            Stored.CANCELLED,
        ]
        assert [change.at for change in changes] == sorted(change.at for change in changes)

    def test_expiry_and_loss_are_ends(self, one: Side, repository: PostgresRepository) -> None:
        expired = a_task(queue="other", expires_in=-1.0)
        failed = a_task(options='{"max_rescues":0}')
        one.repository.insert([expired, failed])
        one.claim()
        one.repository.leave(one.node)
        _, cursor = told(repository)
        assert repository.expire(10) == [expired.id]
        assert [lost.lost for lost in repository.rescue(10)] == [True]
        settle(repository)
        changes, _ = repository.updated_since(cursor, 100)
        assert [(change.task_id, change.state) for change in changes] == [
            (expired.id, Stored.CANCELLED),
            (failed.id, Stored.FAILED),
        ]

    def test_off_it_is_told_nothing_and_keeps_what_it_has(
        self, one: Side, repository: PostgresRepository
    ) -> None:
        before, meanwhile, after = some_tasks(3)
        one.repository.insert([before])
        repository.feed(on=False)
        one.repository.insert([meanwhile])
        one.repository.cancel(meanwhile.id, "no")
        repository.feed(on=True)
        one.repository.insert([after])
        assert told(repository)[0] == [before.id, after.id]


class TestUpkeep:
    def test_changes_are_forgotten_after_a_week(
        self, one: Side, repository: PostgresRepository, clock: FakeClock
    ) -> None:
        old, new = some_tasks(2)
        one.repository.insert([old])
        clock.advance(5 * DAY)
        one.repository.insert([new])
        repository.tidy()
        assert told(repository)[0] == [old.id, new.id]
        clock.advance(3 * DAY)
        repository.tidy()
        assert told(repository)[0] == [new.id]

    def test_period_keys_are_forgotten_when_their_time_is_over(
        self,
        one: Side,
        repository: PostgresRepository,
        clock: FakeClock,
        stranger: psycopg.Connection,
    ) -> None:
        short, long = a_task(unique="s", period=60.0), a_task(unique="l", period=600.0)
        one.repository.insert([short, long])
        clock.advance(61)
        repository.tidy()
        assert stranger.execute("select key from rota_unique").fetchall() == [("l",)]

    def test_a_report_goes_with_the_body(
        self,
        one: Side,
        repository: PostgresRepository,
        clock: FakeClock,
        stranger: psycopg.Connection,
    ) -> None:
        one.repository.insert(some_tasks(2))
        ended, working = one.claim()
        assert one.report(ended)
        assert one.report(working)
        one.finish(ended, Ending.DONE)
        clock.advance(9 * DAY)
        repository.tidy()
        assert repository.reported(ended.id) is None
        assert repository.reported(working.id) is not None
        assert stranger.execute("select count(*) from rota_body").fetchone() == (1,)
