"""What the verbs of every aggregate stand on: connections, tables, statements, the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import TypeVar

import sqlalchemy
from sqlalchemy import ColumnElement, func, literal

from rota.core.clock import Clock
from rota.storage.postgres.claiming import Claiming
from rota.storage.postgres.connections import Connections
from rota.storage.postgres.families import Families
from rota.storage.postgres.feeding import Feeding
from rota.storage.postgres.finishing import Finishing
from rota.storage.postgres.firing import Firing
from rota.storage.postgres.glancing import Glancing
from rota.storage.postgres.guests import Guests
from rota.storage.postgres.inserting import Inserting
from rota.storage.postgres.partitions import Partitions
from rota.storage.postgres.reporting import Reporting
from rota.storage.postgres.rescuing import Rescuing
from rota.storage.postgres.tidying import Tidying
from rota.storage.tables import Instant, Tables

T = TypeVar("T")

#: The database's clock, moved by the injected one's offset.
NOW = "(now() + make_interval(secs => %(offset)s))"


class Parts:
    """The statements for one schema, and the connections they run on."""

    def __init__(
        self,
        *,
        connections: Connections,
        clock: Clock,
        schema: str | None,
        prefix: str,
        locks: bool,
    ) -> None:
        self._connections, self._clock, self._schema = connections, clock, schema
        self._inserting = Inserting(prefix=prefix, now=NOW)
        self._claiming = Claiming(prefix=prefix, now=NOW)
        self._finishing = Finishing(prefix=prefix, now=NOW, inserting=self._inserting)
        self._rescuing = Rescuing(
            prefix=prefix, now=NOW, schema=schema, finishing=self._finishing, locks=locks
        )
        self._glancing = Glancing(prefix=prefix, now=NOW, schema=schema)
        self._firing = Firing(prefix=prefix, now=NOW, inserting=self._inserting)
        self._reporting = Reporting(prefix=prefix, now=NOW)
        self._families = Families(prefix=prefix)
        self._feeding = Feeding(prefix=prefix)
        self._partitions = Partitions(prefix=prefix, now=NOW)
        self._tidying = Tidying(prefix=prefix, now=NOW, partitions=self._partitions)
        self._guests = Guests(connections=connections, prefix=prefix, offset=lambda: clock.offset)

    @cached_property
    def _tables(self) -> Tables:
        # Some milliseconds, which no event loop has to wait for: a start needs none of it.
        return Tables.describe(self._schema)

    def _look(self, verb: Callable[[sqlalchemy.Connection], T]) -> T:
        with self._connections.session() as session:
            return verb(session.conn)

    def _change(self, verb: Callable[[sqlalchemy.Connection], T]) -> T:
        with self._connections.transaction() as session:
            return verb(session.conn)

    def _now(self, ahead: float) -> ColumnElement[datetime]:
        """The statements' clock for the portable verbs."""
        seconds = literal(self._clock.offset + ahead)
        moment = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        return sqlalchemy.type_coerce(moment, Instant())
