"""The schema is changed beside transactions of others: DDL gives way and comes again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rota.core.clock import SystemClock
from rota.errors import StorageError, StorageUnavailable
from rota.storage.postgres import PostgresRepository, upgrading
from rota.storage.postgres.address import parse_url
from rota.storage.postgres.connections import Connections
from rota.storage.schema import ledger
from rota.testing.conformance.setting import NodeHandle, a_task

pytestmark = pytest.mark.postgres

PATIENCE = 30.0


def step(script: str) -> tuple[ledger.Step, ...]:
    return (*ledger.STEPS, ledger.Step(2, "more", 1, {"postgresql": script}))


MORE = step(
    "alter table {s}rota_queue add column later text;\n"
    "alter table {s}rota_task add column later text;\n"
)


@pytest.fixture
def repository(postgres_url: str, empty_schema: str) -> Iterator[PostgresRepository]:
    made = PostgresRepository(postgres_url, clock=SystemClock(), schema=empty_schema)
    assert made.upgrade() == [1]
    made.open()
    yield made
    made.close()


@pytest.fixture
def other(
    repository: PostgresRepository, postgres_url: str, empty_schema: str
) -> Iterator[psycopg.Connection]:
    """A stranger's connection, in a transaction as soon as it says something."""
    options = f"-c search_path={empty_schema} -c application_name=report"
    with psycopg.connect(postgres_url, options=options) as connection:
        yield connection


class Upgrade(threading.Thread):
    """One upgrade in a thread of its own; ``refused`` once a lock was not to be had."""

    def __init__(self, url: str, schema: str, steps: tuple[ledger.Step, ...], **how: Any) -> None:
        super().__init__(daemon=True)
        self._connections = Connections(
            parse_url(url), offset=lambda: 0.0, statement_timeout=5.0, poll_only=False
        )
        self._schema, self._steps, self._how = schema, steps, how
        self.answer: list[int] | Exception | None = None
        self.refused = threading.Event()
        self._handler = logging.Handler()
        self._handler.emit = lambda record: self.refused.set()  # type: ignore[method-assign]

    def run(self) -> None:
        upgrading.log.addHandler(self._handler)
        try:
            self.answer = upgrading.upgrade(
                self._connections,
                clock=SystemClock(),
                schema=self._schema,
                steps=self._steps,
                **self._how,
            )
        except Exception as error:
            self.answer = error
        finally:
            upgrading.log.removeHandler(self._handler)
            self._connections.close()

    def result(self) -> list[int] | Exception | None:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.answer


@pytest.fixture
def upgrade(
    repository: PostgresRepository, postgres_url: str, empty_schema: str
) -> Callable[..., Upgrade]:
    def begin(steps: tuple[ledger.Step, ...] = MORE, **how: Any) -> Upgrade:
        made = Upgrade(postgres_url, empty_schema, steps, **how)
        made.start()
        return made

    return begin


def columns(other: psycopg.Connection, table: str) -> list[str]:
    found = [
        row[0]
        for row in other.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " order by attnum",
            (table,),
        )
    ]
    other.rollback()
    return found


def test_work_goes_on_while_an_upgrade_waits_for_a_strangers_transaction(
    repository: PostgresRepository, other: psycopg.Connection, upgrade: Callable[..., Upgrade]
) -> None:
    other.execute("select count(*) from rota_task")
    upgrading_ = upgrade()
    assert upgrading_.refused.wait(PATIENCE)
    node = NodeHandle(repository)
    # Each would stand behind a lock that is waited for, and time out.
    for _ in range(20):
        repository.insert([a_task()])
        node.end(node.claim_only())
        assert node.beat()
    assert upgrading_.is_alive()
    other.rollback()
    assert upgrading_.result() == [2]
    assert columns(other, "rota_task")[-1] == "later"
    repository.insert([a_task()])
    node.end(node.claim_only())


def test_an_upgrade_that_never_gets_its_locks_names_who_has_them_and_changes_nothing(
    other: psycopg.Connection, upgrade: Callable[..., Upgrade]
) -> None:
    before = columns(other, "rota_queue")
    other.execute("lock table rota_task in row exclusive mode")
    answer = upgrade(patience=0.3).result()
    assert isinstance(answer, StorageUnavailable)
    fact = f"process {other.info.backend_pid} (report) has held rota_task in a transaction for"
    assert fact in str(answer)
    assert str(answer).endswith("; end that transaction, then try again")
    other.rollback()
    assert columns(other, "rota_queue") == before
    assert upgrade().result() == [2]


def test_of_several_at_once_one_applies_what_is_missing(
    other: psycopg.Connection, upgrade: Callable[..., Upgrade]
) -> None:
    other.execute(f"select pg_advisory_xact_lock({ledger._UPGRADE_LOCK})")
    several = [upgrade() for _ in range(4)]
    deadline = time.monotonic() + PATIENCE
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    while (other.execute(waiting).fetchone() or (0,))[0] < 4:
        assert time.monotonic() < deadline, "they do not wait for each other"
    other.rollback()
    answers = sorted(str(one.result()) for one in several)
    assert answers == ["[2]", "[]", "[]", "[]"]


def test_a_step_that_fails_leaves_nothing(
    repository: PostgresRepository, other: psycopg.Connection, upgrade: Callable[..., Upgrade]
) -> None:
    before = columns(other, "rota_task")
    bad = step("alter table {s}rota_task add column later text;\nnonsense;\n")
    answer = upgrade(bad).result()
    assert isinstance(answer, StorageError)
    assert columns(other, "rota_task") == before
    assert other.execute("select max(version) from rota_schema").fetchone() == (1,)
    other.rollback()
    assert repository.insert([a_task()])[0].created
