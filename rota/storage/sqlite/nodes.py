"""The SQLite repository's ``NodeStore``: nodes, their locks, and whose turn a chore is."""

from __future__ import annotations

from rota.core.task import CancelNotice, Membership, NodeView, Rescued
from rota.storage.schema import ledger
from rota.storage.sqlite import keeping, rescuing
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.faults import spoken_plainly
from rota.storage.verbs import looking


class SQLiteNodes:
    """Nodes of this file."""

    _desk: Desk

    def join(self, node: Membership) -> None:
        # The lock first: a row without a held lock would be proof of death.
        with spoken_plainly():
            self._desk.locks.hold(node.id)
        self._desk.write(
            lambda conn: rescuing.join(raw(conn), node, self._desk.micros()), urgent=True
        )

    def beat(self, node: int, lease: float) -> bool:
        standing = self._desk.beat(
            lambda conn: rescuing.beat(raw(conn), node, lease, self._desk.micros())
        )
        if standing is None:
            return False
        ledger.require(*standing, url=f"sqlite:///{self._desk.path}")
        return True

    def cut_off(self) -> bool:
        return False  # nobody but this process can end its connection

    def leave(self, node: int) -> None:
        self._desk.write(lambda conn: rescuing.leave(raw(conn), node))
        self._desk.locks.drop(node)

    def nodes(self) -> list[NodeView]:
        with self._desk.reading() as conn:
            return looking.nodes(conn, self._desk.tables, now=self._desk.moment())

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove dead nodes: of this host by their free lock file, others by their lease."""
        with self._desk.reading() as conn:
            host, others = rescuing.neighbours(raw(conn), node)
        now = self._desk.micros()
        proven = [one.id for one in others if one.host == host and self._desk.locks.free(one.id)]
        over = [one.id for one in others if trusted and one.lease_until < now]
        if not proven and not over:
            return []
        buried = self._desk.write(
            lambda conn: rescuing.bury(raw(conn), proven, over, self._desk.micros())
        )
        for one in buried:
            self._desk.locks.remove(one)
        return buried

    def rescue(self, limit: int) -> list[Rescued]:
        with self._desk.reading() as conn:
            if not rescuing.orphans(raw(conn), 1, self._desk.micros()):
                return []
        return self._desk.write(lambda conn: rescuing.rescue(raw(conn), limit, self._desk.micros()))

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        with self._desk.reading() as conn:
            return rescuing.held(raw(conn), node)

    def drop_lease(self, node: int, batch: int) -> int:
        return self._desk.write(
            lambda conn: rescuing.drop_lease(raw(conn), node, batch, self._desk.micros())
        )

    def cancels(self, node: int) -> list[CancelNotice]:
        with self._desk.reading() as conn:
            return looking.cancels(conn, self._desk.tables, node)

    def expire(self, limit: int) -> list[str]:
        with self._desk.reading() as conn:
            if not keeping.overdue(raw(conn), self._desk.micros()):
                return []
        return self._desk.write(lambda conn: keeping.expire(raw(conn), limit, self._desk.micros()))

    def take_chore(self, name: str, every: float) -> bool:
        with self._desk.reading() as conn:
            if not keeping.chore_due(raw(conn), name, self._desk.micros()):
                return False
        return self._desk.write(
            lambda conn: keeping.take_chore(raw(conn), name, every, self._desk.micros())
        )
