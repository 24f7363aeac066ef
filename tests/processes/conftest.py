"""Fixtures for processes: a fleet on each database, and a server of one's own to stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.core.clock import SystemClock
from rota.storage.postgres import PostgresRepository
from rota.testing.postgres_server import PostgresServer
from tests.conftest import Database
from tests.processes.fleet import Fleet


@pytest.fixture
def fleet(durable: Database, tmp_path: Path) -> Iterator[Fleet]:
    """Nodes on SQLite and on PostgreSQL."""
    assert isinstance(durable.target, str)
    made = Fleet(url=durable.target, schema=durable.options.get("schema"), directory=tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def sqlite_fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(url=f"sqlite:///{tmp_path / 'rota.db'}", schema=None, directory=tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server this module may stop; every test leaves it running."""
    with PostgresServer() as server:
        repository = PostgresRepository(server.url, clock=SystemClock())
        repository.upgrade()
        repository.close()
        yield server


@pytest.fixture
def server_fleet(own_server: PostgresServer, tmp_path: Path) -> Iterator[Fleet]:
    """Nodes on the server that may be stopped."""
    made = Fleet(url=own_server.url, schema=None, directory=tmp_path)
    try:
        yield made
    finally:
        made.end()
