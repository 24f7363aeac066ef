"""Starting with the database away: waiting for it, or a plain refusal that leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rota import BackgroundScheduler, Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.errors import SchedulerNotRunning, StorageUnavailable
from rota.storage.sqlite import SQLiteRepository
from rota.testing.postgres_server import PostgresServer
from tests.conftest import Database
from tests.processes.fleet import Fleet


def rota_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("rota")]


@contextmanager
def locked(database: Path) -> Iterator[None]:
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("begin exclusive")
        yield
        connection.execute("rollback")
    finally:
        connection.close()


def test_start_waits_for_the_server(own_server: PostgresServer, server_fleet: Fleet) -> None:
    own_server.stop()
    try:
        node = server_fleet.launch("early")
        node.tells_none({"up", "failed"}, 1.5)
    finally:
        own_server.start()
    node.wait("up")
    (task,) = node.ask("schedule", work="quick")
    node.wait("finished", task=task, state="done")


def test_start_waits_for_the_file(sqlite_fleet: Fleet) -> None:
    with locked(Path(sqlite_fleet.url.removeprefix("sqlite:///"))):
        node = sqlite_fleet.launch("early")
        node.tells_none({"up", "failed"}, 1.5)
    node.wait("up")
    (task,) = node.ask("schedule", work="quick")
    node.wait("finished", task=task, state="done")


async def test_start_without_a_server_says_so_and_leaves_nothing(
    own_server: PostgresServer, works: WorkRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "rota")
    own_server.stop()
    try:
        scheduler = Scheduler(works, own_server.url, start_timeout=0.5)
        with pytest.raises(StorageUnavailable) as caught:
            await scheduler.start()
    finally:
        own_server.start()
    said = str(caught.value)
    assert said.startswith("the database did not answer within start_timeout=0.5 s")
    assert said.endswith("; check that it runs and that the URL is right")
    assert not scheduler.running
    assert rota_threads() == []
    tries = [one.levelname for one in caplog.records if "go on trying" in one.message]
    assert tries == ["WARNING"] + ["DEBUG"] * (len(tries) - 1)
    assert len(tries) > 1

    # The same object starts once the server is there, and leaves nothing then, either.
    async with scheduler:
        assert scheduler.running
    assert rota_threads() == []


async def test_start_with_a_locked_file_says_so_and_leaves_nothing(
    tmp_path: Path, works: WorkRegistry
) -> None:
    url = f"sqlite:///{tmp_path / 'rota.db'}"
    scheduler = Scheduler(works, url, start_timeout=0.5)
    with locked(tmp_path / "rota.db"), pytest.raises(StorageUnavailable) as caught:
        await scheduler.start()
    assert "did not answer within start_timeout=0.5 s" in str(caught.value)
    assert rota_threads() == []
    async with scheduler:
        assert scheduler.running
    assert rota_threads() == []


def impatient(directory: Path) -> SQLiteRepository:
    """A file whose statements, and so its threads, do not wait for long."""
    path = directory / "rota.db"
    return SQLiteRepository(path, clock=SystemClock(), statement_timeout=0.3)


async def begun(scheduler: Scheduler) -> asyncio.Task[None]:
    """Its start, once it has threads that wait for the database."""
    starting = asyncio.create_task(scheduler.start())
    while not rota_threads():
        await asyncio.sleep(0)
    return starting


async def test_a_start_that_is_cancelled_leaves_nothing(
    tmp_path: Path, works: WorkRegistry
) -> None:
    scheduler = Scheduler(works, impatient(tmp_path))
    with locked(tmp_path / "rota.db"):
        starting = await begun(scheduler)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert rota_threads() == []
    assert not scheduler.running
    async with scheduler:
        assert scheduler.running
    assert rota_threads() == []


async def test_a_shutdown_ends_the_start_it_meets(tmp_path: Path, works: WorkRegistry) -> None:
    scheduler = Scheduler(works, impatient(tmp_path))
    with locked(tmp_path / "rota.db"):
        both = [await begun(scheduler), asyncio.create_task(scheduler.start())]
        await asyncio.sleep(0)
        await scheduler.shutdown()
        assert rota_threads() == []
        for starting in both:
            with pytest.raises(SchedulerNotRunning, match="shut down while it started"):
                await starting
    assert not scheduler.running
    async with scheduler:
        assert scheduler.running
    assert rota_threads() == []


def test_a_shutdown_in_another_thread_ends_the_start_it_meets(
    tmp_path: Path, works: WorkRegistry
) -> None:
    scheduler = BackgroundScheduler(works, impatient(tmp_path))
    met: list[Exception] = []

    def start() -> None:
        try:
            scheduler.start()
        except SchedulerNotRunning as error:
            met.append(error)

    with locked(tmp_path / "rota.db"):
        starting = threading.Thread(target=start)
        starting.start()
        while "rota-reader-1" not in rota_threads():
            pass
        scheduler.shutdown()
        starting.join()
    assert "shut down while it started" in str(met[0])
    assert rota_threads() == []
    with scheduler:
        assert scheduler.running
    assert rota_threads() == []


async def test_two_starts_at_once_are_one(durable: Database, works: WorkRegistry) -> None:
    scheduler = durable.scheduler(works)
    await asyncio.gather(scheduler.start(), scheduler.start())
    repository = durable.repository()
    entered = [node.id for node in repository.nodes()]
    repository.close()
    assert entered == [scheduler.node]
    await scheduler.shutdown()
    assert rota_threads() == []
