"""Nodes, their leases, and whose turn a chore is: the PostgreSQL repository's ``NodeStore``."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.glance import Glance
from rota.core.task import CancelNotice, Membership, NodeView, Rescued
from rota.storage.postgres.address import shown
from rota.storage.postgres.parts import Parts
from rota.storage.schema import ledger
from rota.storage.verbs import looking


class PostgresNodes(Parts):
    """What living nodes do about themselves and about the dead."""

    def join(self, node: Membership) -> None:
        """Enter this incarnation; best on the thread that will beat, whose connection it locks."""
        with self._connections.session() as session:
            self._rescuing.join(session, node)

    def beat(self, node: int, lease: float) -> bool:
        """Extend the lease; False when the row is gone: this incarnation is dead.

        Raises ``SchemaMismatch`` once it is extended, when the schema has come to be another.
        """
        with self._connections.session() as session:
            standing = self._rescuing.beat(session, node, lease)
        if standing is None:
            return False
        ledger.require(*standing, url=shown(self._connections.url), schema=self._schema)
        return True

    def cut_off(self) -> bool:
        """Whether the server has ended this thread's session, and with it the lock it held."""
        return self._connections.cut_off()

    def leave(self, node: int) -> None:
        """Remove the incarnation; what it still holds is anybody's to rescue."""
        with self._connections.session() as session:
            self._rescuing.leave(session, node)

    def nodes(self) -> list[NodeView]:
        """All incarnations, living and not yet buried."""
        return self._look(lambda conn: looking.nodes(conn, self._tables, now=self._now))

    def glance(self, node: int, queues: Sequence[str] | None) -> Glance:
        """What there is to do, in one statement."""
        with self._connections.session() as session:
            return self._glancing.glance(session, node, queues)

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove nodes whose lease is over; returns them.

        A node whose session lock is gone has its lease shortened first.
        Nothing is done for a lease after the server started.
        """
        with self._connections.session() as session:
            return self._rescuing.bury(session, node, trusted=trusted)

    def rescue(self, limit: int) -> list[Rescued]:
        """Make claimable what leases without a node hold, at most ``limit`` leases."""
        with self._connections.transaction() as session:
            return self._rescuing.rescue(session, limit)

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        """The node's leases: (batch, ids)."""
        with self._connections.session() as session:
            return self._rescuing.held(session, node)

    def drop_lease(self, node: int, batch: int) -> int:
        """Release what is left in one of the node's own leases; how many tasks that were."""
        with self._connections.transaction() as session:
            return self._rescuing.drop_lease(session, node, batch)

    def cancels(self, node: int) -> list[CancelNotice]:
        """Running tasks of this node that somebody asked to stop."""
        return self._look(lambda conn: looking.cancels(conn, self._tables, node))

    def expire(self, limit: int) -> list[str]:
        """Cancel waiting tasks past ``expires_at``."""
        with self._connections.session() as session:
            return self._tidying.expire(session, limit)

    def take_chore(self, name: str, every: float) -> bool:
        """Whether this caller does the named chore now."""
        with self._connections.session() as session:
            return self._tidying.take_chore(session, name, every)
