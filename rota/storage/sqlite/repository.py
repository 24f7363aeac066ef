"""The repository in one SQLite file: four stores over one desk, and its life."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from rota.core.clock import Clock
from rota.storage.schema import ledger
from rota.storage.sqlite.auditing import SQLiteAuditing
from rota.storage.sqlite.claims import SQLiteClaims
from rota.storage.sqlite.connections import Connections
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.faults import spoken_plainly
from rota.storage.sqlite.glancing import Seen, SQLiteGlancing
from rota.storage.sqlite.location import check_place, database_path
from rota.storage.sqlite.locks import LockFiles
from rota.storage.sqlite.looking import SQLiteLooking
from rota.storage.sqlite.nodes import SQLiteNodes
from rota.storage.sqlite.recurring import SQLiteRecurring
from rota.storage.sqlite.signals import VersionSignals
from rota.storage.sqlite.tasks import SQLiteTasks
from rota.storage.sqlite.upkeep import SQLiteUpkeep
from rota.storage.sqlite.writer import Writer


class SQLiteRepository(
    SQLiteTasks,
    SQLiteClaims,
    SQLiteNodes,
    SQLiteGlancing,
    SQLiteRecurring,
    SQLiteLooking,
    SQLiteUpkeep,
    SQLiteAuditing,
):
    """Tasks in one SQLite file, shared by the processes of one machine.

    Every write goes through one thread, ``rota-sqlite-writer``, and is committed with
    whatever else came meanwhile; reads have a connection per thread. Verbs raise
    ``StorageUnavailable`` after ``statement_timeout`` seconds. ``synchronous`` is
    SQLite's: with ``FULL`` what was answered survives a power cut.
    """

    durable = True
    embedded = True

    def __init__(
        self,
        url_or_path: str | os.PathLike[str],
        *,
        clock: Clock,
        synchronous: str = "FULL",
        statement_timeout: float = 5.0,
    ) -> None:
        self.path: Path = database_path(url_or_path)
        self._clock = clock
        self._locks = LockFiles(self.path)
        self._connections = Connections(
            self.path, synchronous=synchronous, busy_timeout=statement_timeout
        )
        self._writer = Writer(
            connections=self._connections, locks=self._locks, timeout=statement_timeout
        )
        self._desk = Desk(
            path=self.path,
            clock=clock,
            connections=self._connections,
            writer=self._writer,
            locks=self._locks,
        )
        self._guard = threading.Lock()
        self._opened = False
        self._ears: set[VersionSignals] = set()
        self._seen: dict[int, Seen] = {}

    def open(self) -> None:
        """Open the file, or make it, and bring its schema up to this code's.

        Raises ``ReadOnlyDatabase``, ``StorageUnavailable``, ``SchemaTooNew``,
        ``StorageError`` for what is no database, ``InvalidArgument`` for a place that
        cannot hold one.
        """
        check_place(self.path)
        with self._guard, spoken_plainly():
            if self._opened:
                return
            self._locks.open()
            try:
                # Changing the journal mode does not wait for other connections by itself.
                with self._locks.turn():
                    connection, _ = self._prepared()
            except BaseException:
                self._locks.close()
                raise
            self._connections.open()
            self._writer.start(connection)
            self._opened = True

    def upgrade(self) -> list[int]:
        """Apply what the schema lacks, as ``open`` does; the steps applied."""
        check_place(self.path)
        with self._guard, spoken_plainly():
            if self._opened:
                return []
            self._locks.open()
            try:
                with self._locks.turn():
                    connection, applied = self._prepared()
                    connection.close()
            finally:
                self._locks.close()
        return applied

    def _prepared(self) -> tuple[Connection, list[int]]:
        connection = self._connections.connect()
        try:
            applied = ledger.upgrade(connection)
            ledger.check(connection, url=f"sqlite:///{self.path}")
        except BaseException:
            connection.close()
            raise
        return connection, applied

    def close(self) -> None:
        """Write what was handed in, then give everything back; safe to call twice."""
        with self._guard:
            self._opened = False
            ears = list(self._ears)
            self._writer.stop()
            self._connections.close()
            self._locks.close()
        for ear in ears:
            ear.interrupt()

    def now(self) -> datetime:
        """The machine's clock, which is SQLite's."""
        return self._clock.now()

    def abort_overdue(self) -> int:
        """Nothing: SQLite's busy timeout ends a wait, and callers give up by themselves."""
        return 0

    def signals(self, node: int) -> VersionSignals:  # noqa: ARG002 - whoever it is, it hears all
        """This node's ears."""
        ear = VersionSignals(
            version=self._writer.version,
            alone=self.seen_alone,
            clock=self._clock,
            tell=self._tell,
            forget=self._forget,
        )
        with self._guard:
            self._ears.add(ear)
        return ear

    def _tell(self, sender: VersionSignals) -> None:
        with self._guard:
            others = [ear for ear in self._ears if ear is not sender]
        for ear in others:
            ear.hear()

    def _forget(self, ear: VersionSignals) -> None:
        with self._guard:
            self._ears.discard(ear)
