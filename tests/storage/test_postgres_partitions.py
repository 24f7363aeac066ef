"""Whole days are dropped when they are past their retention, no sooner, and in nobody's way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rota.core.retention import Retention
from rota.core.task import Ending
from rota.storage.postgres import PostgresRepository, partitions
from rota.storage.postgres.connections import Session
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository(open_postgres: Open, clock: FakeClock) -> PostgresRepository:
    return open_postgres(clock)


@pytest.fixture
def node(repository: PostgresRepository) -> NodeHandle:
    return NodeHandle(repository)


def end(node: NodeHandle, count: int, kind: Ending = Ending.DONE) -> list[str]:
    node.repository.insert(some_tasks(count))
    claimed = node.claim(count)
    node.finish(*(ending(one, kind) for one in claimed))
    return [one.id for one in claimed]


def days_of(stranger: psycopg.Connection, table: str) -> set[str]:
    rows = stranger.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass", (table,)
    ).fetchall()
    stranger.commit()
    return {row[0].removeprefix(f"{table}_") for row in rows} - {"default"}


def bodies(stranger: psycopg.Connection) -> int:
    (count,) = stranger.execute("select count(*) from rota_body").fetchone() or (-1,)
    stranger.commit()
    return int(count)


def stamp(moment: datetime) -> str:
    return f"p{moment:%Y%m%d}"


def to_hour(repository: PostgresRepository, clock: FakeClock, hour: int) -> None:
    """Move to the next time it is that o'clock, UTC."""
    now = repository.now().astimezone(UTC)
    wanted = now.replace(hour=hour, minute=0, second=0)
    clock.advance((wanted - now) % timedelta(days=1))


def test_a_day_is_dropped_when_its_last_task_is_past_its_time_and_no_sooner(
    repository: PostgresRepository, node: NodeHandle, clock: FakeClock
) -> None:
    repository.keep(Retention(done=36 * HOUR))
    to_hour(repository, clock, 23)
    ended = end(node, 1)
    clock.advance(27 * HOUR)
    repository.tidy()  # at two o'clock, the day after the next has begun
    assert repository.states(ended)
    clock.advance(8 * HOUR)
    repository.tidy()
    assert repository.states(ended)
    clock.advance(3 * HOUR)
    repository.tidy()
    assert repository.states(ended) == {}


def test_many_tasks_go_in_chunks_that_take_up_where_the_last_call_ended(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "CHUNK", 10)
    monkeypatch.setattr(partitions, "CHUNKS", 2)
    day = stamp(repository.now())
    end(node, 70)
    clock.advance(9 * DAY)
    left = []
    while repository.tidy():
        assert day in days_of(stranger, "rota_done")
        left.append(bodies(stranger))
    assert left == [50, 30, 10]
    assert bodies(stranger) == 0
    assert day not in days_of(stranger, "rota_done")


def test_with_an_archive_a_day_goes_when_nothing_is_left_in_it(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    repository.keep(archive=True)
    day = stamp(repository.now())
    ended = end(node, 3)
    clock.advance(9 * DAY)
    repository.tidy()
    assert day in days_of(stranger, "rota_done")
    repository.delete_many(ended)
    repository.tidy()
    assert day not in days_of(stranger, "rota_done")


def test_what_has_no_body_holds_no_day_back(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    """It was being dropped when the archive was first asked for: it cannot be told any more."""
    day = stamp(repository.now())
    end(node, 3)
    stranger.execute("delete from rota_body")
    stranger.commit()
    repository.keep(archive=True)
    clock.advance(9 * DAY)
    repository.tidy()
    assert day not in days_of(stranger, "rota_done")


def test_attempts_stay_while_a_task_of_their_day_waits_for_the_archive(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    repository.keep(archive=True)
    day = stamp(repository.now())
    repository.insert(some_tasks(1))
    node.end(node.claim_only(), Ending.RETRY)
    claimed = node.claim_only()
    node.end(claimed, Ending.FAILED)
    clock.advance(40 * DAY)
    repository.tidy()
    assert [one.outcome for one in repository.attempts(claimed.id)] == ["retry", "failed"]
    assert day in days_of(stranger, "rota_attempt")
    repository.delete_many([claimed.id])
    repository.tidy()
    assert day not in days_of(stranger, "rota_attempt")


def test_a_row_that_is_not_committed_yet_is_waited_for_and_not_dropped(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    """A transaction that began before midnight writes into a day that is over."""
    repository.keep(archive=True)
    day = stamp(repository.now())
    (ended,) = end(node, 1)
    clock.advance(9 * DAY)
    stranger.execute("create temp table held as select * from rota_done")
    stranger.execute("delete from rota_done")
    stranger.commit()
    stranger.execute("insert into rota_done select * from held")
    repository.tidy()
    stranger.commit()
    assert day in days_of(stranger, "rota_done")
    assert repository.states([ended])


def test_dropping_gives_way_to_whoever_reads_and_is_tried_again(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    day = stamp(repository.now())
    end(node, 1)
    clock.advance(9 * DAY)
    stranger.execute("select * from rota_done")
    repository.tidy()
    stranger.rollback()
    assert day in days_of(stranger, "rota_done")
    repository.tidy()
    assert day not in days_of(stranger, "rota_done")


def test_its_connection_is_given_back_but_not_one_that_shows_a_node_lives(
    repository: PostgresRepository, open_postgres: Open, clock: FakeClock
) -> None:
    other = open_postgres(clock)
    other.tidy()
    assert not other._connections._sessions
    node = NodeHandle(repository)
    repository.tidy()
    assert [session.advisory for session in repository._connections._sessions] == [{node.id}]


def test_a_day_is_looked_at_again_under_its_lock(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row that is committed between the look and the lock."""
    repository.keep(archive=True)
    day = stamp(repository.now())
    (ended,) = end(node, 1)
    clock.advance(9 * DAY)
    stranger.execute("create temp table held as select * from rota_done")
    stranger.execute("delete from rota_done")
    stranger.commit()
    execute = partitions.Partitions._try_ddl

    def late(
        self: partitions.Partitions, connections: Any, sql: str, *what: Any, **how: Any
    ) -> Any:
        if sql.startswith("drop") and f"rota_done_{day}" in sql:
            stranger.execute("insert into rota_done select * from held")
            stranger.commit()
        return execute(self, connections, sql, *what, **how)

    monkeypatch.setattr(partitions.Partitions, "_try_ddl", late)
    repository.tidy()
    assert day in days_of(stranger, "rota_done")
    assert repository.states([ended])


def test_what_is_past_its_retention_is_told_by_whole_days(
    repository: PostgresRepository, clock: FakeClock
) -> None:
    to_hour(repository, clock, 17)
    days = [where.finished_before for where in repository.outdated()]
    today = repository.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert days == [today - timedelta(days=7), today - timedelta(days=30)]


def test_nobody_writes_into_a_day_between_the_look_and_its_end(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.keep(archive=True)
    day = stamp(repository.now())
    end(node, 1)
    clock.advance(9 * DAY)
    stranger.execute("create temp table held as select * from rota_done")
    stranger.execute("delete from rota_done")
    stranger.commit()
    rows, looked = Session.rows, []

    def watched(self: Session, sql: str, **params: object) -> list[tuple[Any, ...]]:
        found = rows(self, sql, **params)
        if "limit 1" in sql and f"rota_done_{day}" in sql:
            looked.append(sql)
            if len(looked) == 2:
                stranger.execute("set local lock_timeout = '10ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    stranger.execute("insert into rota_done select * from held")
                stranger.rollback()
        return found

    monkeypatch.setattr(Session, "rows", watched)
    repository.tidy()
    assert len(looked) == 2
    assert day not in days_of(stranger, "rota_done")
