"""What an examination says of nodes, clocks and the database's own state; each fault is planted."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rota.control.auditing import examine
from rota.core.audit import Severity
from rota.core.clock import SystemClock
from rota.core.task import Membership
from rota.storage.postgres import condition
from rota.storage.schema import ledger
from rota.storage.sqlite import auditing as sqlite_auditing
from rota.testing.conformance.setting import NodeHandle, a_task
from tests.app.audits import by_hand, examined, trouble
from tests.conftest import Database


def test_the_schemas_step_is_told(durable: Database) -> None:
    (told,) = [one for one in examined(durable.repository()) if one.kind == "schema"]
    assert (told.severity, told.detail) == (
        Severity.NOTE,
        f"the schema is at step {ledger.newest()}",
    )


def test_nodes_are_told_with_their_ages(database: Database) -> None:
    repository = database.repository()
    NodeHandle(repository)
    repository.join(Membership(4711, "asleep", "elsewhere", 17, 0.0))
    told = [one for one in examine(repository, clock=SystemClock()) if one.kind == "node"]
    late = [one for one in told if "asleep" in one.detail]
    assert len(told) == 2
    assert [(one.severity, "4711" in one.detail) for one in late] == [("warning", True)]


class _Elsewhere(SystemClock):
    """A machine whose clock is an hour slow."""

    def now(self) -> Any:
        return super().now().replace(year=2001)


def test_a_clock_that_is_off_is_told(database: Database) -> None:
    told = examine(database.repository(), clock=_Elsewhere())
    (clock,) = [one for one in told if one.kind == "clock"]
    assert clock.severity is Severity.WARNING
    (clock,) = [
        one for one in examine(database.repository(), clock=SystemClock()) if one.kind == "clock"
    ]
    assert clock.severity is Severity.NOTE


def test_a_long_log_and_a_damaged_file_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_database: Callable[..., Database]
) -> None:
    database = make_database("sqlite", SystemClock())
    repository = database.repository()
    repository.insert([a_task() for _ in range(300)])
    monkeypatch.setattr(sqlite_auditing, "_WAL_LIMIT", 1)
    assert [one.kind for one in trouble(repository)] == ["write-ahead-log"]
    monkeypatch.undo()
    repository.close()
    file = tmp_path / "rota.db"
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")
        (root,) = conn.execute(
            "select rootpage from sqlite_master where name = 'rota_body_recurring'"
        ).fetchone()
        (size,) = conn.execute("pragma page_size").fetchone()
    with file.open("r+b") as bytes_of:
        bytes_of.seek((root - 1) * size)
        bytes_of.write(b"\xff" * size)
    told = [one.kind for one in trouble(database.repository(), deep=True)]
    assert "integrity" in told
    database.close()


def test_a_stray_file_among_the_locks_is_counted_and_no_trouble(
    tmp_path: Path, make_database: Callable[..., Database]
) -> None:
    database = make_database("sqlite", SystemClock())
    repository = database.repository()
    (tmp_path / "rota.db-rota" / "node-x.lock").touch()
    (told,) = [one for one in examine(repository, clock=SystemClock()) if one.kind == "lock-files"]
    assert told.detail.startswith("1 lock files")
    database.close()


@pytest.fixture
def postgres(make_database: Callable[..., Database]) -> Any:
    made = make_database("postgres", SystemClock())
    yield made
    made.close()


@pytest.mark.postgres
def test_what_pins_old_rows_is_named_by_process(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "_OLD_SECONDS", -1.0)
    repository = postgres.repository()
    with psycopg.connect(str(postgres.target), application_name="lingerer") as conn:
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("select 1 from pg_class limit 1")
        told = [one for one in trouble(repository) if "lingerer" in one.detail]
        assert [one.kind for one in told] == ["pinned-xmin"]
        assert str(conn.info.backend_pid) in told[0].detail
        assert str(conn.info.backend_pid) in told[0].remedy
        assert re.search(r", \d+ s old, holds back vacuum by [\d,]+ transactions$", told[0].detail)
        monkeypatch.undo()
        assert not [one for one in trouble(repository) if "lingerer" in one.detail]  # yet
    assert not [one for one in trouble(repository) if "lingerer" in one.detail]


@pytest.mark.postgres
def test_dead_rows_that_nobody_vacuums_are_told(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "_DEAD_ROWS", 50)
    repository = postgres.repository()
    repository.insert([a_task(queue="q") for _ in range(100)])
    by_hand(postgres, "delete from rota_task")
    by_hand(postgres, "select pg_stat_force_next_flush()")
    told = [one for one in trouble(repository) if one.kind == "vacuum-lag"]
    assert any("rota_task has" in one.detail for one in told)


@pytest.mark.postgres
def test_a_node_that_does_not_listen_is_told(postgres: Database) -> None:
    repository = postgres.repository()
    node = NodeHandle(repository)
    assert [one.kind for one in trouble(repository)] == ["dead-listener"]
    signals = repository.signals(node.id)
    assert trouble(repository) == []
    signals.close()
    assert [one.kind for one in trouble(repository)] == ["dead-listener"]
