"""Nodes, leases, rescue and chores: the memory repository's ``NodeStore``."""

from __future__ import annotations

import heapq

from rota.core.options import options_or_default
from rota.core.task import CancelNotice, Membership, NodeView, Rescued, Stored
from rota.storage.following import follow_lost
from rota.storage.memory.book import Book
from rota.storage.memory.ending import give_back
from rota.storage.memory.inserting import insert_one
from rota.storage.memory.rows import MICROS, Row, span


class MemoryNodes:
    """Who is there, and what becomes of what the others held."""

    _book: Book

    def join(self, node: Membership) -> None:
        with self._book.lock:
            self._book.nodes[node.id] = (node, self._book.now() + span(node.lease))
            self._book.enter_node(node.id)

    def beat(self, node: int, lease: float) -> bool:
        book = self._book
        with book.lock:
            known = book.nodes.get(node)
            if known is None:
                return False
            book.nodes[node] = (known[0]._replace(lease=lease), book.now() + span(lease))
            return True

    def cut_off(self) -> bool:
        return False

    def leave(self, node: int) -> None:
        with self._book.lock:
            self._book.nodes.pop(node, None)

    def nodes(self) -> list[NodeView]:
        book = self._book
        with book.lock:
            now = book.now()
            return [
                NodeView(one.id, one.name, one.host, one.pid, one.lease, (until - now) / MICROS)
                for one, until in book.nodes.values()
            ]

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove the others whose lease is over, if the asking node can be trusted.

        All nodes live in this process, so there is never a proof that one has gone.
        """
        book = self._book
        if not trusted:
            return []
        with book.lock:
            now = book.now()
            dead = [one for one, (_, until) in book.nodes.items() if until < now and one != node]
            for one in dead:
                del book.nodes[one]
            return dead

    def rescue(self, limit: int) -> list[Rescued]:
        book = self._book
        rescued: list[Rescued] = []
        with book.lock:
            now = book.now()
            orphaned = [
                (node, batch)
                for node, batches in book.leases.items()
                if node not in book.nodes
                for batch in batches
                if book.deadlines.get((node, batch), 0) <= now
            ]
            for node, batch in orphaned[:limit]:
                rescued += _rescue_lease(book, node, batch)
        return rescued

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        with self._book.lock:
            return [(batch, list(ids)) for batch, ids in self._book.leases.get(node, {}).items()]

    def drop_lease(self, node: int, batch: int) -> int:
        book = self._book
        with book.lock:
            rows = _still_held(book, node, batch)
            for row in rows:
                if row.cancel_reason is not None:
                    book.note_attempt(row, "lost", now=book.now())
                give_back(book, row, book.now())
                _disown(row)
            return len(rows)

    def cancels(self, node: int) -> list[CancelNotice]:
        book = self._book
        with book.lock:
            rows = [book.rows[task_id] for task_id in book.asked.get(node, ())]
            return [CancelNotice(row.id, row.batch or 0, row.cancel_reason or "") for row in rows]

    def expire(self, limit: int) -> list[str]:
        book = self._book
        expired: list[str] = []
        with book.lock:
            now = book.now()
            while book.expiring and book.expiring[0][0] <= now and len(expired) < limit:
                moment, task_id = heapq.heappop(book.expiring)
                row = book.rows.get(task_id)
                # What works is looked at again when it comes back to wait.
                if row is not None and row.waiting and row.expires_at == moment:
                    book.end(row, Stored.CANCELLED, reason="expired")
                    expired.append(task_id)
        return expired

    def take_chore(self, name: str, every: float) -> bool:
        book = self._book
        with book.lock:
            now = book.now()
            if book.chores.get(name, now) > now:
                return False
            book.chores[name] = now + span(every)
            return True


def _still_held(book: Book, node: int, batch: int) -> list[Row]:
    """Delete the lease; the tasks that are still worked on under it."""
    task_ids = book.drop_lease(node, batch)
    return [row for one in task_ids if (row := book.holder(one, node, batch)) is not None]


def _rescue_lease(book: Book, node: int, batch: int) -> list[Rescued]:
    alone = len(book.leases[node][batch]) == 1
    rescued = []
    for row in _still_held(book, node, batch):
        _rescue_task(book, row, alone=alone)
        follow = follow_lost(row.id, row.options) if row.state is Stored.FAILED else None
        if follow is not None:
            insert_one(book, follow)
        rescued.append(Rescued(row.id, row.work, row.queue, row.priority, node, row.state, follow))
    return rescued


def _rescue_task(book: Book, row: Row, *, alone: bool) -> None:
    book.note_attempt(row, "lost", now=book.now())
    if alone or row.losses == 0:
        row.losses += 1
    most = options_or_default(row.options).max_rescues
    if row.cancel_reason is None and most is not None and row.losses - 1 >= most:
        book.end(row, Stored.FAILED, reason="lost")
    else:
        give_back(book, row, book.now())
    _disown(row)


def _disown(row: Row) -> None:
    """The attempt did not write this ending, so its token must not be found in it.

    A zombie's repeated finish would be taken for one that had been accepted.
    """
    if row.final:
        row.node = row.batch = None
