"""The auditor: each invariant is broken by hand, found, told, and mended where that is safe."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rota.cli import main as entry
from rota.control.auditing import examine
from rota.core.audit import Finding, Flaw, Severity, Suspect, Walk
from rota.core.clock import SystemClock
from rota.core.ports import Repository
from rota.core.task import Ending, Membership, Rescued, Stored
from rota.storage.chores import AUDIT, AUDIT_AGAIN, Chores
from rota.storage.memory import MemoryRepository
from rota.storage.postgres import condition
from rota.storage.sqlite import auditing as sqlite_auditing
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending
from tests.conftest import Database


def examined(repository: Repository, **how: Any) -> list[Finding]:
    return examine(repository, clock=SystemClock(), settle=0.0, **how)


def look(repository: Repository, **how: Any) -> list[Finding]:
    """What is wrong in the tables."""
    wrong = {*Flaw, "rescued"}
    return [one for one in examined(repository, **how) if one.kind in wrong]


def trouble(repository: Repository, **how: Any) -> list[Finding]:
    """What is wrong at all."""
    return [one for one in examined(repository, **how) if one.severity is not Severity.NOTE]


def by_hand(database: Database, *statements: str) -> None:
    """Run SQL on the tables, past rota."""
    if database.kind == "sqlite":
        path = str(database.target).removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as conn, conn:
            for statement in statements:
                conn.execute(statement)
        return
    schema = database.options["schema"]
    with psycopg.connect(str(database.target), options=f"-c search_path={schema}") as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[call-overload]


def take_the_leases(database: Database, repository: Repository) -> None:
    if isinstance(repository, MemoryRepository):
        repository._book.leases.clear()
    else:
        by_hand(database, "delete from rota_lease")


def test_a_working_task_nobody_would_ever_rescue_is_made_claimable(database: Database) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task(), a_task()])
    claimed, _ = node.claim()
    repository.leave(node.id)
    take_the_leases(database, repository)
    assert repository.rescue(10) == []
    told = look(repository)
    assert [(one.kind, one.severity) for one in told] == [(Flaw.OWNERLESS, "error")] * 2
    assert set(repository.states([claimed.id]).values()) == {Stored.WORKING}
    told = look(repository, mend=True)
    assert [one.kind for one in told] == [Flaw.OWNERLESS, Flaw.OWNERLESS, "rescued"]
    assert all(one.mended for one in told)
    assert node.end(claimed) is None
    assert claimed.id in [one.id for one in NodeHandle(repository).claim()]
    assert look(repository) == []


def test_a_task_of_a_living_node_without_a_lease_is_told_and_left_alone(
    database: Database,
) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = node.claim_only()
    take_the_leases(database, repository)
    (told,) = look(repository, mend=True)
    assert (told.kind, told.severity, told.mended) == (Flaw.UNLEASED, "error", False)
    assert claimed.id in told.detail
    assert node.end(claimed) is Stored.DONE
    assert look(repository) == []


def test_a_task_without_its_body_is_told(durable: Database) -> None:
    repository = durable.repository()
    repository.insert([a_task(), lost := a_task()])
    by_hand(durable, f"delete from rota_body where id = '{lost.id}'")
    (told,) = look(repository, mend=True)
    assert (told.kind, told.severity, told.mended) == (Flaw.BODILESS, "error", False)
    assert lost.id in told.detail


def test_a_task_both_unfinished_and_finished_is_told(durable: Database) -> None:
    repository = durable.repository()
    node = NodeHandle(repository)
    repository.insert([a_task(), a_task()])
    done, failed = node.claim()
    node.finish(ending(done, Ending.DONE), ending(failed, Ending.FAILED))
    by_hand(
        durable,
        *(
            "insert into rota_task (id, queue, work, priority, run_at)"
            f" select id, queue, work, priority, run_at from {table}"
            for table in ("rota_done", "rota_failed")
        ),
    )
    told = look(repository, mend=True)
    assert [(one.kind, one.mended) for one in told] == [(Flaw.TWICE, False)] * 2


def test_what_is_many_is_told_by_number(database: Database) -> None:
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert([a_task() for _ in range(30)])
    node.claim()
    take_the_leases(database, repository)
    told = look(repository)
    assert len(told) == 21
    assert told[-1].detail == "and 10 more"


def test_a_working_task_that_names_no_node_is_told_and_not_touched(durable: Database) -> None:
    repository = durable.repository()
    repository.insert([a_task()])
    NodeHandle(repository).claim_only()
    by_hand(durable, "update rota_task set node = null, batch = null", "delete from rota_lease")
    (told,) = look(repository, mend=True)
    assert (told.kind, told.mended) == (Flaw.OWNERLESS, False)


def test_a_bounded_look_says_where_it_stopped(database: Database) -> None:
    repository = database.repository()
    repository.insert([a_task() for _ in range(600)])
    notes = [one.kind for one in examine(repository, clock=SystemClock(), rows=500)]
    assert ("bounded" in notes) == (database.kind != "memory")
    assert "bounded" not in [one.kind for one in examine(repository, clock=SystemClock())]


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


class _Alone:
    """A living node and nothing held, as far as the chores ask."""

    id = 4711
    trusted = True

    def knows(self, batch: int) -> bool:
        return True


def test_the_chore_looks_twice_mends_and_lets_rescue_take_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    node = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = node.claim_only()
    repository.leave(node.id)
    repository._book.leases.clear()
    rescued: list[Rescued] = []
    alone: Any = _Alone()
    repository.join(Membership(alone.id, "alone", "host", 1, 30.0))
    chores = Chores(
        repository=repository,
        life=alone,
        holdings=alone,
        clock=clock,
        on_rescued=rescued.extend,
    )
    clock.advance(AUDIT * 1.2)
    chores.step()
    assert (rescued, caplog.records) == ([], [])
    clock.advance(AUDIT_AGAIN * 1.2)
    chores.step()
    assert Flaw.OWNERLESS in caplog.text
    clock.advance(1.0)
    chores.step()
    assert [one.id for one in rescued] == [claimed.id]


def test_of_several_nodes_one_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    walked: list[Walk] = []
    inspect = repository.inspect
    monkeypatch.setattr(
        repository, "inspect", lambda walk, *rest: (walked.append(walk), inspect(walk, *rest))[1]
    )
    alone: Any = _Alone()
    several = [
        Chores(
            repository=repository, life=alone, holdings=alone, clock=clock, on_rescued=lambda _: 0
        )
        for _ in range(3)
    ]
    clock.advance(AUDIT * 1.2)
    for chores in several:
        chores.step()
    assert walked == [*Walk]


def test_the_command_finds_mends_and_answers_by_its_status(
    durable: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = durable.repository()
    node = NodeHandle(repository)
    repository.insert([a_task()])
    node.claim_only()
    repository.leave(node.id)
    by_hand(durable, "delete from rota_lease")
    command = ["doctor", "--url", str(durable.target), "--settle", "0"]
    if durable.kind == "postgres":
        command += ["--schema", durable.options["schema"]]
    assert entry.run(command) == 1
    assert f"error   {Flaw.OWNERLESS}: " in capsys.readouterr().out
    assert entry.run([*command, "--mend"]) == 0
    assert "mended  rescued: 1 tasks" in capsys.readouterr().out
    assert entry.run([*command, "--json", "--deep"]) == 0
    assert '"well": true' in capsys.readouterr().out


def test_the_command_makes_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "none.db"
    assert entry.run(["doctor", "--url", f"sqlite:///{file}"]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert not file.exists()


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


def test_nothing_is_mended_that_was_not_found() -> None:
    repository = MemoryRepository(clock=FakeClock())
    made_up = [Suspect(flaw, "x", 1, 1, "r") for flaw in Flaw]
    assert repository.inspect_again(made_up) == []
    assert repository.mend(made_up) == []
