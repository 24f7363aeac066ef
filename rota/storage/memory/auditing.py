"""Audits: the memory repository's ``AuditStore``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rota.core.audit import Finding, Flaw, Place, Stretch, Suspect, Walk
from rota.core.task import Stored
from rota.storage.memory.book import Book
from rota.storage.memory.rows import Row


class MemoryAuditing:
    """Everything is looked through at once, under the lock: what is in memory is not much.

    A task and its params, a task and its history are one row here: they cannot part.
    """

    _book: Book

    def inspect(self, walk: Walk, after: Place | None, limit: int) -> Stretch:  # noqa: ARG002
        with self._book.lock:
            return Stretch([*_LOOKS[walk](self._book)], None)

    def inspect_again(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        with self._book.lock:
            return _still_wrong(self._book, suspects)

    def mend(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        book = self._book
        with book.lock:
            return [one for one in _still_wrong(book, suspects) if _mend(book, one)]

    def condition(self, *, deep: bool = False) -> list[Finding]:  # noqa: ARG002 - nothing is slow
        return []


def _still_wrong(book: Book, suspects: Sequence[Suspect]) -> list[Suspect]:
    again = {one for look in _LOOKS.values() for one in look(book)}
    return [one for one in suspects if one in again]


def _look_at_tasks(book: Book) -> Iterator[Suspect]:
    for row in book.rows.values():
        if row.state is Stored.WORKING and row.id not in _listed(book, row):
            flaw = Flaw.UNLEASED if row.node in book.nodes else Flaw.OWNERLESS
            yield Suspect(flaw, row.id, row.node or 0, row.batch or 0)


def _look_at_leases(book: Book) -> Iterator[Suspect]:
    for node, batches in book.leases.items():
        for batch, ids in batches.items():
            if node in book.nodes and not any(book.holder(one, node, batch) for one in ids):
                yield Suspect(Flaw.EMPTY_LEASE, node=node, batch=batch)


def _look_at_children(book: Book) -> Iterator[Suspect]:
    for name, children in book.outstanding.items():
        for child in children if name not in book.definitions else ():
            if child not in book.rows or book.rows[child].final:
                yield Suspect(Flaw.STRAY_CHILD, child, recurring=name)


_LOOKS = {
    Walk.TASKS: _look_at_tasks,
    Walk.LEASES: _look_at_leases,
    Walk.CHILDREN: _look_at_children,
}


def _listed(book: Book, row: Row) -> Sequence[str]:
    if row.node is None or row.batch is None:
        return ()
    return book.leases.get(row.node, {}).get(row.batch, ())


def _mend(book: Book, one: Suspect) -> bool:
    if one.flaw is Flaw.STRAY_CHILD:
        book.forget_ended_children(one.recurring)
    elif one.flaw is Flaw.EMPTY_LEASE:
        book.drop_lease(one.node, one.batch)
    elif one.flaw is Flaw.OWNERLESS and one.node:
        book.leases[one.node].setdefault(one.batch, []).append(one.task)
    else:
        return False
    return True
