"""Ticks on PostgreSQL: what others have locked, what that costs, and how many statements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest

from rota.core.recurring import Fire, Fired
from rota.core.task import Ending, NewTask, Stored
from rota.errors import StorageUnavailable
from rota.storage.deciding import decide
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session
from rota.storage.postgres.firing import PostgresLedger
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import (
    HOUR,
    LOST,
    a_definition,
    a_tick,
    fire_one,
    the_definition,
)
from rota.testing.conformance.setting import NodeHandle, a_task
from tests.storage.postgres_contenders import Waiter

pytestmark = pytest.mark.postgres

Await = Callable[[], None]


@pytest.fixture
def repository(open_postgres: Callable[..., PostgresRepository]) -> PostgresRepository:
    return open_postgres(FakeClock(), statement_timeout=60.0)


@pytest.fixture
def at(repository: PostgresRepository) -> datetime:
    """When ``a`` and ``b`` were due first."""
    at = repository.now() - 10 * HOUR
    for name in ("a", "b"):
        repository.put_recurring(a_definition(at, id=name))
    return at


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is run by the calls that follow, in order; SQLAlchemy's apart."""
    seen: list[str] = []
    rows, script = Session.rows, Session.script

    def seen_rows(session: Session, sql: str, **params: object) -> list[tuple[object, ...]]:
        seen.append(sql)
        return rows(session, sql, **params)

    def seen_script(session: Session, sql: str) -> None:
        seen.append(sql)
        script(session, sql)

    monkeypatch.setattr(Session, "rows", seen_rows)
    monkeypatch.setattr(Session, "script", seen_script)
    return seen


def by_hand(at: datetime, **fields: object) -> tuple[Fire, NewTask]:
    given = {"recurring": "a", "expected": None, "following": None, "decision": "triggered"}
    return a_tick(at, **given, **fields)  # type: ignore[arg-type]


def test_what_another_is_deciding_is_not_waited_for(
    repository: PostgresRepository, stranger: psycopg.Connection, at: datetime
) -> None:
    stranger.execute("select 1 from rota_recurring where id = 'a' for update")
    ticks = [a_tick(at, recurring=name) for name in ("a", "b")]
    assert [answer.decision for answer in repository.fire(ticks)] == [None, "fired"]
    stranger.rollback()
    assert fire_one(repository, ticks[0]).created


def test_by_hand_it_is_waited_for(
    repository: PostgresRepository,
    stranger: psycopg.Connection,
    at: datetime,
    await_blocked: Await,
) -> None:
    stranger.execute("update rota_recurring set version = 9 where id = 'a'")
    asked = Waiter(lambda: fire_one(repository, by_hand(at)))
    await_blocked()
    stranger.commit()
    assert asked.result().created
    (told,) = repository.decisions("a", 5)
    assert told.version == 9


def test_a_key_that_is_held_up_costs_only_its_own_tick(
    repository: PostgresRepository, stranger: psycopg.Connection, at: datetime
) -> None:
    repository.insert_in(stranger, [a_task(unique="k")])
    keyed = a_tick(at, recurring="a", child={"unique": "k"})
    after = a_tick(at + HOUR, recurring="a")
    answers = repository.fire([keyed, after, a_tick(at, recurring="b")])
    assert [answer.decision for answer in answers] == [None, None, "fired"]
    assert the_definition(repository, "a").next_fire_at == at
    with pytest.raises(StorageUnavailable, match="unique key of 'a'"):
        repository.fire([by_hand(at, child={"unique": "k"})])
    assert repository.decisions("a", 5) == []
    stranger.rollback()
    assert fire_one(repository, keyed).created


def test_a_child_that_ends_its_recurrence_waits_for_the_tick_and_then_counts(
    repository: PostgresRepository, at: datetime, await_blocked: Await
) -> None:
    """It has taken its own row, and its key, away; the tick gives the key up in time."""
    node = NodeHandle(repository)
    fire_one(repository, a_tick(at, recurring="a", child={"unique": "k"}))
    claimed = node.claim_only()
    with repository._connections.transaction() as session:
        session.rows("select 1 from " + _table(repository, "rota_recurring") + " for update")
        ending = Waiter(lambda: node.end(claimed, Ending.CANCELLED, end_recurring=True))
        await_blocked()
        ledger_tick = a_tick(at + HOUR, recurring="a", child={"unique": "k"})
        assert _decided(repository, session, ledger_tick) == LOST
    assert ending.result() is Stored.CANCELLED
    assert the_definition(repository, "a").next_fire_at is None


@pytest.mark.parametrize("overlap", ["allow", "skip"])
def test_the_number_of_statements_does_not_grow_with_the_ticks(
    repository: PostgresRepository, statements: list[str], overlap: str
) -> None:
    at = repository.now() - HOUR
    names = [f"n{number:03}" for number in range(150)]
    for name in names:
        repository.put_recurring(a_definition(at, id=name))
    counted = []
    for few, many in ((0, 2), (2, 150)):
        ticks = [
            a_tick(at + n * HOUR, recurring=name, overlap=overlap, max_instances=9)
            for name in names[few:many]
            for n in range(3)
        ]
        statements.clear()
        answers = repository.fire(ticks)
        assert all(answer.created for answer in answers)
        counted.append(len(statements))
    # begin, patience, lock, tasks, bodies, what was decided, commit; with overlap a count
    assert counted == [8 if overlap == "skip" else 7] * 2


def test_a_lost_tick_costs_a_look(
    repository: PostgresRepository, statements: list[str], at: datetime
) -> None:
    statements.clear()
    stale = a_tick(at - HOUR, recurring="a", overlap="skip")
    assert fire_one(repository, stale) == LOST
    assert [one.split()[0].strip(";") for one in statements] == ["begin", "set", "select", "commit"]


def test_ended_children_are_forgotten_page_by_page(
    repository: PostgresRepository, stranger: psycopg.Connection, at: datetime
) -> None:
    """Whoever still runs is passed over, wherever the pages end."""
    for name in ("a", "b"):
        repository.fire([a_tick(at + n * HOUR, recurring=name) for n in range(3)])
    for name in ("a", "b", "c"):
        stranger.execute(
            "insert into rota_child select %s, gen_random_uuid() from generate_series(1, 1500)",
            (name,),
        )
    stranger.commit()
    repository.tidy()
    left = stranger.execute("select recurring, count(*) from rota_child group by 1 order by 1")
    assert left.fetchall() == [("a", 3), ("b", 3)]


def _table(repository: PostgresRepository, name: str) -> str:
    return f'"{repository._schema}".{name}'


def _decided(repository: PostgresRepository, session: Session, tick: tuple[Fire, NewTask]) -> Fired:
    """As ``fire`` decides it, in a transaction that goes on."""
    (answer,) = decide(PostgresLedger(session, firing=repository._firing), [tick])
    return answer
