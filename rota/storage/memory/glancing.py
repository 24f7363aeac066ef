"""Whether there is anything to do: the memory repository's glance."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.glance import Glance
from rota.storage.memory.book import Book
from rota.storage.memory.claims import agenda_of
from rota.storage.memory.rows import MICROS, to_micros


class MemoryGlancing:
    """A look at the whole book, under its lock."""

    _book: Book

    def glance(self, node: int, queues: Sequence[str] | None) -> Glance:
        book = self._book
        with book.lock:
            now = book.now()
            leases = [until - now for one, (_, until) in book.nodes.items() if one != node]
            fires = _next_fire(book)
            return Glance(
                lanes=agenda_of(book, queues),
                peers=bool(leases),
                dead=any(left < 0 for left in leases),
                lease_left=min((left / MICROS for left in leases if left > 0), default=None),
                orphans=_orphaned(book, now),
                mine=node in book.leases,
                overdue=_overdue(book, now),
                parked=bool(book.parked),
                paused_works=frozenset(book.paused_works),
                fires_in=None if fires is None else (fires - now) / MICROS,
                moment=now / MICROS,
            )


def _next_fire(book: Book) -> int | None:
    moments = (
        one.due_at or one.next_fire_at
        for one in book.definitions.values()
        if one.next_fire_at is not None and not one.paused
    )
    return min((to_micros(moment) for moment in moments if moment is not None), default=None)


def _orphaned(book: Book, now: int) -> bool:
    return any(
        book.deadlines.get((node, batch), 0) <= now
        for node, batches in book.leases.items()
        if node not in book.nodes
        for batch in batches
    )


def _overdue(book: Book, now: int) -> bool:
    for moment, task_id in book.expiring:
        row = book.rows.get(task_id)
        if moment <= now and row is not None and row.waiting and row.expires_at == moment:
            return True
    return False
