"""The SQLite repository's ``NodeStore``: nodes, their locks, and the chores done for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Connection

from rota.core.task import CancelNotice, Membership, NodeView, Rescued
from rota.storage.schema import ledger
from rota.storage.sqlite import keeping, rescuing
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.faults import spoken_plainly
from rota.storage.verbs import looking

_HOUR = 3_600_000_000
_CHANGES_KEPT = 7 * 24 * _HOUR
_DECISIONS_KEPT = 30 * 24 * _HOUR
#: Rows in one transaction of `tidy`, and transactions in one call.
_CHUNK, _CHUNKS = 1_000, 100


class SQLiteNodes:
    """Nodes of this file; history is kept for so many microseconds."""

    _desk: Desk
    _done_kept: int
    _failed_kept: int

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

    def tidy(self) -> None:
        """Forget what is past its time and fold counts, in small transactions."""
        now = self._desk.micros()
        failed = now - self._failed_kept
        self._in_chunks(keeping.forget_tasks, "rota_done", now - self._done_kept)
        self._in_chunks(keeping.forget_tasks, "rota_failed", failed)
        self._in_chunks(keeping.forget_attempts, failed)
        self._in_chunks(keeping.forget_counts, failed)
        self._in_chunks(keeping.forget_decisions, now - _DECISIONS_KEPT)
        self._forget_children()
        self._forget_periods(now)
        self._in_chunks(keeping.forget_changes, now - _CHANGES_KEPT)
        self._in_chunks(keeping.fold_counts, now - _HOUR, _HOUR // 60)
        # What is older is asked for by the day; up to a whole hour, which no minute straddles.
        old = now - 48 * _HOUR
        self._in_chunks(keeping.fold_counts, old - old % _HOUR, _HOUR)
        self._desk.locks.sweep({view.id for view in self.nodes()})

    def _in_chunks(self, forget: Callable[..., int], *what: object) -> None:
        for _ in range(_CHUNKS):
            gone = self._desk.write(lambda conn: forget(raw(conn), *what, _CHUNK))
            if gone < _CHUNK:
                return

    def _forget_periods(self, now: int) -> None:
        """Looked for by a reader, in one walk along the keys: no index leads to their ends."""
        last = ""
        for _ in range(_CHUNKS):
            with self._desk.reading() as conn:
                keys = keeping.free_periods(raw(conn), last, now, _CHUNK)
            if not keys:
                return
            self._desk.write(partial(_drop_periods, keys=keys, now=now))
            last = keys[-1]

    def _forget_children(self) -> None:
        """As the periods: in one walk, by a reader."""
        last: tuple[str, str] | None = ("", "")
        while last is not None:
            with self._desk.reading() as conn:
                ended, last = keeping.ended_children(raw(conn), last, _CHUNK)
            if ended:
                self._desk.write(partial(_drop_children, ended=ended))


def _drop_children(conn: Connection, *, ended: Sequence[tuple[str, str]]) -> None:
    keeping.forget_children(raw(conn), ended)


def _drop_periods(conn: Connection, *, keys: Sequence[str], now: int) -> None:
    keeping.forget_periods(raw(conn), keys, now)
