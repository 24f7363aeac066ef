"""Connections to one database file: one for the writer, one per thread that reads."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from rota.errors import InvalidArgument, StorageError, StorageUnavailable
from rota.storage.sqlite.faults import spoken_plainly

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class _Reader:
    """One thread's connection; the guard keeps ``close`` out of a read."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.thread = threading.current_thread()
        self.guard = threading.RLock()

    def close(self) -> None:
        """End a read in flight, then close."""
        while not self.guard.acquire(timeout=0.05):
            # An interrupt only reaches a statement that has begun, hence again and again.
            raw(self.connection).interrupt()
        try:
            self.connection.close()
        finally:
            self.guard.release()


class Connections:
    """Opens them all alike; ``close`` ends every reader from any thread.

    The driver is in autocommit: whoever writes says BEGIN and COMMIT.
    """

    def __init__(self, path: Path, *, synchronous: str, busy_timeout: float) -> None:
        if synchronous.upper() not in _SYNCHRONOUS:
            raise InvalidArgument(
                f"synchronous {synchronous!r} is unknown; use one of {', '.join(_SYNCHRONOUS)}",
                field="synchronous",
            )
        self._path = path
        self._synchronous = synchronous.upper()
        self._busy_timeout = busy_timeout
        self._engine = self._make_engine()
        self._mine = threading.local()
        self._guard = threading.Lock()
        self._readers: list[_Reader] | None = None

    def open(self) -> None:
        """Allow readers."""
        with self._guard:
            if self._readers is None:
                self._readers = []

    def connect(self) -> Connection:
        """A fresh connection, its pragmas set; the caller closes it."""
        return self._engine.connect()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """The calling thread's connection for reading; errors come out as rota's.

        After an error the thread gets another one: a statement left half read, for as long
        as the error's traceback has it, would keep this one at the moment it began.
        """
        with spoken_plainly():
            reader = self._reader()
            with reader.guard:
                if reader.connection.closed:
                    raise closed()
                try:
                    yield reader.connection
                except BaseException:
                    reader.connection.close()
                    raise

    def close(self) -> None:
        """Close every reader; a read in flight fails with ``StorageUnavailable``."""
        with self._guard:
            readers, self._readers = self._readers or [], None
        for reader in readers:
            reader.close()

    def _reader(self) -> _Reader:
        found: _Reader | None = getattr(self._mine, "reader", None)
        if found is not None and not found.connection.closed:
            return found
        with self._guard:
            if self._readers is None:
                raise closed()
            gone = [
                reader
                for reader in self._readers
                if reader.connection.closed or not reader.thread.is_alive()
            ]
            made = _Reader(self.connect())
            self._readers = [reader for reader in self._readers if reader not in gone] + [made]
        for reader in gone:
            reader.close()
        self._mine.reader = made
        return made

    def _make_engine(self) -> Engine:
        return create_engine(
            "sqlite://", creator=self._connect, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout,
            isolation_level=None,
            # Readers are closed by whichever thread closes the repository.
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("pragma journal_mode=wal").fetchone()
        if mode != "wal":
            raise StorageError(
                f"SQLite cannot use a write-ahead log here (journal mode {mode}); "
                "use a local disk that this user may write"
            )
        connection.execute(f"pragma synchronous={self._synchronous}")
        connection.execute("pragma foreign_keys=off")
        # 16 MB: fewer, larger checkpoints than the default's 4 MB.
        connection.execute("pragma wal_autocheckpoint=4000")
        connection.execute("pragma cache_size=-16000")
        connection.execute("pragma temp_store=memory")


def raw(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for the hot statements."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise StorageError("the connection is not of the sqlite3 driver; open it with sqlite3")
    return driver


def closed() -> StorageUnavailable:
    """The error of whoever comes after ``close``."""
    return StorageUnavailable("the repository is closed; open it again")
