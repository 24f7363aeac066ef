"""Scenarios of ``docs/explanation/failures.md`` that no other test shows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import errors as pg

from rota import Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.core.task import Ending, Membership, Stored, Want
from rota.errors import DataRefused, ReadOnlyDatabase, RotaError, StorageUnavailable
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.refusals import translated
from rota.storage.sqlite import SQLiteRepository, nodes
from rota.testing.conformance.setting import NodeHandle, a_task, ending
from tests.conftest import Database

PATIENCE = 20.0


def test_a_rescue_that_breaks_off_is_done_by_the_next(
    durable: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stops it, after its last statement and before the commit."""
    repository = durable.repository()
    lost = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = lost.claim_only()
    repository.leave(lost.id)

    class Broken(Exception):
        pass

    def breaking(act: Callable[..., Any]) -> Callable[..., Any]:
        def begin_and_die(*how: Any) -> None:
            assert act(*how)
            raise Broken

        return begin_and_die

    with monkeypatch.context() as patched:
        if isinstance(repository, PostgresRepository):
            rescuing = repository._rescuing
            patched.setattr(rescuing, "rescue", breaking(rescuing.rescue))
        else:
            patched.setattr(nodes.rescuing, "rescue", breaking(nodes.rescuing.rescue))
        with pytest.raises(Broken):
            repository.rescue(10)
    assert repository.states([claimed.id]) == {claimed.id: Stored.WORKING}
    assert [one.id for one in durable.repository().rescue(10)] == [claimed.id]


def test_a_restart_under_the_same_name_is_another_node(database: Database) -> None:
    repository = database.repository()
    first = NodeHandle(repository)
    repository.insert([a_task()])
    claimed = first.claim_only()
    again = NodeHandle(database.repository())
    assert {view.name for view in repository.nodes()} == {"node"}
    assert len(repository.nodes()) == 2
    assert again.claim() == []
    assert repository.rescue(10) == []
    repository.leave(first.id)
    assert [one.id for one in again.repository.rescue(10)] == [claimed.id]
    assert again.claim_only().id == claimed.id


def test_the_largest_numbers_make_a_good_token(database: Database) -> None:
    repository = database.repository()
    node, batch = 2**63 - 1, 2**62 + 2**33
    repository.join(Membership(node, "large", "host", 2**31 - 1, 30.0))
    repository.insert([a_task(), a_task()])
    first, second = repository.claim(node, batch, [Want("default", 0, 2)], 0.0)
    assert (first.batch, second.batch) == (batch, batch)
    report = repository.report(node, first.id, first.batch, 2**62, "1")
    assert report is not None
    assert repository.finish(node, [ending(first, Ending.DONE)], ()) == [Stored.DONE]
    assert repository.held(node)[0][0] == batch
    repository.leave(node)
    assert [one.node for one in repository.rescue(10)] == [node]


async def test_a_shutdown_ends_while_the_database_is_locked(
    works: WorkRegistry, tmp_path: Path
) -> None:
    ran = threading.Event()

    @works.register("demo")
    async def demo() -> None:
        ran.set()

    file = tmp_path / "rota.db"
    clock = SystemClock()
    repository = SQLiteRepository(file, clock=clock, statement_timeout=0.2)
    scheduler = Scheduler(works, repository)
    await scheduler.start()
    with closing(sqlite3.connect(file, isolation_level=None)) as stranger:
        handle = await scheduler.schedule("demo", delay=3600)
        stranger.execute("begin immediate")
        await asyncio.wait_for(scheduler.shutdown(timeout=0.5), PATIENCE)
        stranger.execute("rollback")
    async with Scheduler(works, f"sqlite:///{file}") as other:
        await other.update(handle.id, delay=0)
        await other.handle(handle.id).wait(timeout=PATIENCE)
    assert ran.is_set()


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (pg.QueryCanceled, StorageUnavailable),
        (pg.LockNotAvailable, StorageUnavailable),
        (pg.DeadlockDetected, StorageUnavailable),
        (pg.SerializationFailure, StorageUnavailable),
        (pg.TooManyConnections, StorageUnavailable),
        (pg.DiskFull, StorageUnavailable),
        (pg.OutOfMemory, StorageUnavailable),
        (pg.AdminShutdown, StorageUnavailable),
        (pg.CrashShutdown, StorageUnavailable),
        (pg.CannotConnectNow, StorageUnavailable),
        (pg.ConnectionFailure, StorageUnavailable),
        (pg.IoError, StorageUnavailable),
        (pg.ReadOnlySqlTransaction, ReadOnlyDatabase),
        (pg.CharacterNotInRepertoire, DataRefused),
        (pg.UniqueViolation, DataRefused),
    ],
)
def test_what_the_server_says_becomes_the_right_error(
    said: type[psycopg.Error], becomes: type[RotaError]
) -> None:
    url = sqlalchemy.make_url("postgresql+psycopg://me:secret@host/name")
    told = translated(said("what it says"), url)
    assert type(told) is becomes
    assert "secret" not in str(told)
    wrapped = sqlalchemy.exc.DBAPIError("select 1", {}, said("what it says"))
    assert type(translated(wrapped, url)) is becomes


def test_what_was_committed_behind_the_cursor_is_found(durable: Database) -> None:
    """Its run_at is older than what was claimed meanwhile; without a cursor it comes first."""
    repository = durable.repository()
    node = NodeHandle(repository)
    engine = sqlalchemy.create_engine(_url(durable))
    early, late = a_task(), a_task()
    if durable.kind == "postgres":
        with engine.connect() as conn, conn.begin():
            repository.insert_in(conn, [early])
            repository.insert([late])
            cursor = node.claim_only().run_at
    else:  # nobody else writes meanwhile: what commits later is later
        repository.insert([late])
        cursor = node.claim_only().run_at
        with engine.connect() as conn:
            conn.exec_driver_sql("begin immediate")
            repository.insert_in(conn, [early])
            conn.commit()
    engine.dispose()
    if durable.kind == "postgres":
        assert node.claim(cursor=cursor) == []
    assert [one.id for one in node.claim()] == [early.id]


def _url(database: Database) -> str:
    return str(database.target).replace("postgresql:", "postgresql+psycopg:")


@pytest.mark.postgres
def test_settings_of_the_server_do_not_matter(
    make_database: Callable[..., Database],
) -> None:
    settings = "-c default_transaction_isolation=serializable -c search_path="
    database = make_database("postgres", SystemClock())
    url = sqlalchemy.make_url(str(database.target)).update_query_dict({"options": settings})
    database.target = url.render_as_string(hide_password=False)
    repository = database.repository()
    node, lost = NodeHandle(repository), NodeHandle(database.repository())
    repository.insert([a_task() for _ in range(3)])
    first, second = node.claim(2)
    lost.claim()
    assert node.end(first) is Stored.DONE
    assert node.end(second, Ending.RETRY) is Stored.SCHEDULED
    repository.leave(lost.id)
    assert len(repository.rescue(10)) == 1
    assert len(node.claim()) == 2
    repository.tidy()
    database.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SQLiteRepository]:
    repository = SQLiteRepository(tmp_path / "rota.db", clock=SystemClock())
    repository.open()
    yield repository
    repository.close()


def test_a_log_cut_at_any_byte_leaves_whole_commits(file: SQLiteRepository, tmp_path: Path) -> None:
    """As after a power cut, which may keep any beginning of what was being written."""
    with file._desk.reading() as conn:
        assert conn.exec_driver_sql("pragma synchronous").scalar() == 2
    with closing(sqlite3.connect(tmp_path / "rota.db")) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")
    batches = [[a_task(params='{"x":"%s"}' % ("y" * 300)) for _ in range(5)] for _ in range(12)]
    for batch in batches:
        file.insert(batch)
    log = (tmp_path / "rota.db-wal").read_bytes()
    base = (tmp_path / "rota.db").read_bytes()
    ids = [{task.id for task in batch} for batch in batches]
    reached = set()
    for cut in [*range(0, len(log), max(1, len(log) // 40)), len(log)]:
        copy = tmp_path / f"cut{cut}.db"
        copy.write_bytes(base)
        copy.with_name(f"{copy.name}-wal").write_bytes(log[:cut])
        with closing(sqlite3.connect(copy)) as conn:
            assert conn.execute("pragma integrity_check").fetchall() == [("ok",)]
            there = {row[0] for row in conn.execute("select id from rota_task")}
            bodies = {row[0] for row in conn.execute("select id from rota_body")}
        commits = len(there) // 5
        assert there == bodies == set().union(*ids[:commits])
        reached.add(commits)
    assert {0, len(batches)} <= reached
    assert len(reached) > 5


def test_a_long_reader_holds_up_no_writer(file: SQLiteRepository, tmp_path: Path) -> None:
    node = NodeHandle(file)
    file.insert([a_task() for _ in range(50)])
    with closing(sqlite3.connect(tmp_path / "rota.db", isolation_level=None)) as reader:
        reader.execute("begin")
        (before,) = reader.execute("select count(*) from rota_task").fetchone()
        for _ in range(10):
            assert node.beat()
            for claimed in node.claim(5):
                assert node.end(claimed) is Stored.DONE
        (seen,) = reader.execute("select count(*) from rota_task").fetchone()
    assert (before, seen) == (50, 50)
    assert file.counts() == {"scheduled": 0, "working": 0, "parked": 0}


def test_a_backup_and_a_vacuum_while_it_is_used(file: SQLiteRepository, tmp_path: Path) -> None:
    node = NodeHandle(file)
    file.insert([a_task() for _ in range(20)])
    claimed = node.claim(5)
    copy = tmp_path / "copy.db"
    with (
        closing(sqlite3.connect(tmp_path / "rota.db")) as conn,
        closing(sqlite3.connect(copy)) as target,
    ):
        conn.execute("vacuum")
        conn.backup(target)
    for one in claimed:
        assert node.end(one) is Stored.DONE
    shutil.copyfile(copy, tmp_path / "restored.db")
    restored = SQLiteRepository(tmp_path / "restored.db", clock=SystemClock())
    restored.open()
    try:
        assert restored.counts()["scheduled"] == 15
        assert restored.counts()["working"] == 5
    finally:
        restored.close()
