"""What the SQLite stores share: the file, the way to read, the way to write, the clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, literal

from rota.core.clock import Clock
from rota.storage.sqlite.connections import Connections
from rota.storage.sqlite.joining import joined
from rota.storage.sqlite.locks import LockFiles
from rota.storage.sqlite.writer import Act, Stamp, T, Writer
from rota.storage.tables import Instant, Tables, to_micros


class Desk:
    """One database file as its stores use it; ``tables`` is how statements name it."""

    def __init__(
        self,
        *,
        path: Path,
        clock: Clock,
        connections: Connections,
        writer: Writer,
        locks: LockFiles,
    ) -> None:
        self.path = path
        self.clock = clock
        self.locks = locks
        self._connections = connections
        self._writer = writer

    @cached_property
    def tables(self) -> Tables:
        """The tables, described when a statement first names them: that takes milliseconds."""
        return Tables.describe()

    def reading(self) -> AbstractContextManager[Connection]:
        """The calling thread's connection for reading."""
        return self._connections.reading()

    def write(self, act: Act[T], *, urgent: bool = False) -> T:
        """Run the act in the writer's next transaction; its result, once committed."""
        return self._writer.write(act, urgent=urgent)

    def beat(self, act: Act[T]) -> T:
        """The same for a heartbeat."""
        return self._writer.beat(act)

    def stamp(self) -> Stamp | None:
        """As :meth:`Writer.stamp`."""
        return self._writer.stamp()

    def joined(self, connection: object) -> AbstractContextManager[Connection]:
        """The caller's own connection to this file, its transaction ready to write."""
        return joined(connection, self.path)

    def micros(self, ahead: float = 0.0) -> int:
        """The clock's time so many seconds from now."""
        return to_micros(self.clock.now()) + round(ahead * 1e6)

    def moment(self) -> Callable[[float], ColumnElement[datetime]]:
        """The clock stood still for one act, as the portable statements want it."""
        now = self.clock.now()
        return lambda ahead: literal(now + timedelta(seconds=ahead), Instant())
