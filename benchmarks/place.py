"""A fresh database for one benchmark, and a look into it that is not rota's own."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from rota.core.clock import SystemClock
from rota.core.ports import Repository
from rota.storage.open import open_repository
from rota.storage.postgres import PostgresRepository
from rota.storage.sqlite import SQLiteRepository

#: Of the server, as a connection of rota's own has them.
_SERVER = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_connections",
)
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class WrongResult(RuntimeError):
    """The database does not hold what the benchmark should have led to."""


class Connection(Protocol):
    """What both drivers' connections can do."""

    def execute(self, query: Any, /) -> Any: ...

    def close(self) -> None: ...


class Place:
    """Where a benchmark's tasks are; ``options`` are the scheduler's for this database."""

    def __init__(self, kind: str, url: str, options: dict[str, Any], prefix: str) -> None:
        self.kind = kind
        self.url = url
        self.options = options
        self.prefix = prefix
        self._looking: Connection | None = None

    def repository(self) -> Repository:
        """One of the benchmark's own, not open yet."""
        return open_repository(self.url, clock=SystemClock(), **self.options)

    def connect(self) -> Connection:
        """A stranger's connection, in autocommit."""
        if self.kind == "sqlite":
            path = self.url.removeprefix("sqlite:///")
            return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        return psycopg.connect(self.url, autocommit=True)

    def value(self, sql: str) -> Any:
        """The first value a statement returns; ``{s}`` in it stands before rota's tables."""
        if self._looking is None:
            self._looking = self.connect()
        return self._looking.execute(sql.format(s=self.prefix)).fetchone()[0]

    def done(self) -> int:
        """How many tasks are done, from the counts that are written along with their outcomes."""
        return int(self.value("select coalesce(sum(n), 0) from {s}rota_tally where state = 3"))

    def verify_done(self, tasks: int) -> None:
        """See that so many tasks stand in history as done, once each, and none is left."""
        ids = self.value("select count(distinct id) from {s}rota_done where state = 3")
        rows = self.value("select count(*) from {s}rota_done")
        left = self.value("select count(*) from {s}rota_task")
        if (ids, rows, left) != (tasks, tasks, 0):
            raise WrongResult(
                f"of {tasks} tasks {ids} are done in {rows} rows of history, {left} are left"
            )

    def settle(self) -> None:
        """Write out what filling the database has left for later, outside the measurement."""
        connection = self.connect()
        try:
            if self.kind == "sqlite":
                connection.execute("pragma wal_checkpoint(truncate)")
            else:
                for table in ("rota_task", "rota_body"):
                    connection.execute(f"vacuum (analyze) {self.prefix}{table}")
                connection.execute("checkpoint")
        except psycopg.errors.InsufficientPrivilege:
            pass
        finally:
            connection.close()

    def settings(self) -> dict[str, Any]:
        """The settings that durability hangs on, read back from a connection of rota's own."""
        repository = self.repository()
        repository.open()
        try:
            return _settings_of(repository)
        finally:
            repository.close()

    def close(self) -> None:
        if self._looking is not None:
            self._looking.close()


@contextmanager
def fresh_place(url: str | None) -> Iterator[Place]:
    """A fresh SQLite file, or a fresh schema on the given server; gone afterwards."""
    with fresh_file() if url is None else fresh_schema(url) as place:
        try:
            yield place
        finally:
            place.close()


@contextmanager
def fresh_file() -> Iterator[Place]:
    """A SQLite file in the folder for temporary files."""
    with tempfile.TemporaryDirectory(prefix="rota-bench-") as folder:
        place = Place("sqlite", f"sqlite:///{Path(folder) / 'bench.db'}", {}, "")
        repository = place.repository()
        repository.open()
        repository.close()
        yield place


@contextmanager
def fresh_schema(url: str) -> Iterator[Place]:
    """A schema of its own on this server."""
    schema = f"bench_{uuid.uuid4().hex[:12]}"
    repository = PostgresRepository(url, clock=SystemClock(), schema=schema)
    repository.upgrade()
    repository.close()
    try:
        yield Place("postgresql", url, {"schema": schema}, f'"{schema}".')
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'drop schema "{schema}" cascade')


def _settings_of(repository: Repository) -> dict[str, Any]:
    # What another connection would say of `synchronous` is its own setting, not rota's.
    if isinstance(repository, SQLiteRepository):
        with repository._connections.reading() as reader:  # noqa: SLF001
            journal, synchronous = (
                reader.exec_driver_sql(f"pragma {name}").scalar_one()
                for name in ("journal_mode", "synchronous")
            )
        return {"journal_mode": journal, "synchronous": _SYNCHRONOUS[synchronous]}
    if isinstance(repository, PostgresRepository):
        with repository._connections.session() as session:  # noqa: SLF001
            return {name: session.rows(f"show {name}")[0][0] for name in _SERVER}
    return {}
