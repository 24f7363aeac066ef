"""Starting with the database away: waiting for it, or a plain refusal that leaves nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rota import Scheduler, WorkRegistry
from rota.errors import StorageUnavailable
from rota.testing.postgres_server import PostgresServer
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
    own_server: PostgresServer, works: WorkRegistry
) -> None:
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
