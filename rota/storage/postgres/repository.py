"""The PostgreSQL repository: four stores over one set of connections."""

from __future__ import annotations

from datetime import UTC, datetime
from weakref import WeakSet

import sqlalchemy

from rota.core.clock import Clock
from rota.core.ports import Signals
from rota.storage.postgres import upgrading
from rota.storage.postgres.address import parse_url, shown
from rota.storage.postgres.auditing import PostgresAuditing
from rota.storage.postgres.claims import PostgresClaims
from rota.storage.postgres.connections import Connections
from rota.storage.postgres.looking import PostgresLooking
from rota.storage.postgres.nodes import PostgresNodes
from rota.storage.postgres.parts import NOW
from rota.storage.postgres.recurring import PostgresRecurring
from rota.storage.postgres.signals import PostgresSignals
from rota.storage.postgres.tasks import PostgresTasks
from rota.storage.postgres.upkeep import PostgresUpkeep
from rota.storage.schema import ledger


class PostgresRepository(
    PostgresTasks,
    PostgresClaims,
    PostgresNodes,
    PostgresRecurring,
    PostgresLooking,
    PostgresUpkeep,
    PostgresAuditing,
):
    """Many nodes on one PostgreSQL database; a connection for each thread that calls.

    ``schema`` is where the tables are, None for the search path's first. ``poll_only``
    suits a transaction pooler such as pgbouncer: no LISTEN, no session lock, no named
    statements, settings within each transaction.
    """

    durable = True
    embedded = False

    def __init__(
        self,
        url: str | sqlalchemy.URL,
        *,
        clock: Clock,
        schema: str | None = None,
        statement_timeout: float = 5.0,
        poll_only: bool = False,
    ) -> None:
        address, self._poll_only = parse_url(url), poll_only
        # The URL itself is the connections' alone: its repr masks the password, but no more.
        self._shown = shown(address)
        self._ears: WeakSet[PostgresSignals] = WeakSet()
        connections = Connections(
            address,
            offset=lambda: clock.offset,
            statement_timeout=statement_timeout,
            poll_only=poll_only,
        )
        super().__init__(
            connections=connections,
            clock=clock,
            schema=schema,
            prefix=ledger.prefix(schema),
            locks=not poll_only,
        )

    def open(self) -> None:
        """Connect and check the schema, which ``upgrade`` brings up to date."""
        self._connections.reopen()
        with self._connections.session() as session:
            ledger.check(session.conn, url=self._shown, schema=self._schema)

    def upgrade(self) -> list[int]:
        """Apply what the schema lacks, and make the history's next partitions; the steps applied.

        On a connection without a statement timeout: an index takes what it takes. A table
        that others use is tried again for a minute, then raises ``StorageUnavailable``.
        """
        self._connections.reopen()
        applied = upgrading.upgrade(self._connections, clock=self._clock, schema=self._schema)
        self._partitions.make(self._connections)
        return applied

    def close(self) -> None:
        """Give back every connection, of other threads, too; safe to call twice."""
        self._connections.close()

    def abort_overdue(self) -> int:
        """Cut connections that do not answer, for a watchdog's thread to call; how many."""
        overdue = self._connections.overdue
        ears = sum(ears.abort_overdue(overdue) for ears in list(self._ears))
        return ears + self._connections.abort_overdue()

    def signals(self, node: int) -> Signals:
        """This node's way to wake and be woken, on a connection of its own."""
        signals = PostgresSignals(
            connect=self._connections.connect,
            node=node,
            schema=self._schema,
            poll_only=self._poll_only,
        )
        self._ears.add(signals)
        return signals

    def now(self) -> datetime:
        """The database's clock."""
        with self._connections.session() as session:
            moment: datetime = session.rows(f"select {NOW}")[0][0]
        return moment.astimezone(UTC)
