"""What others follow of a task: reports, children, changes."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

from rota.core.task import Change, Report, Stored
from rota.errors import LeaseLost
from rota.storage.memory.book import Book
from rota.storage.memory.rows import from_micros


class MemoryFollowing:
    """The part of ``TaskStore`` that tells how tasks get on."""

    _book: Book

    def report(self, node: int, task_id: str, batch: int, n: int, data: str) -> bool:
        book = self._book
        with book.lock:
            row = book.holder(task_id, node, batch)
            if row is None:
                raise LeaseLost(task_id)
            token, kept = book.reports.get(task_id, (None, None))
            if kept is not None and token == (node, batch) and kept.n >= n:
                return False
            at = from_micros(book.now())
            book.reports[task_id] = (node, batch), Report(task_id, row.attempt, n, at, data)
            row.losses = min(row.losses, 1)
            return True

    def reported(self, task_id: str) -> Report | None:
        with self._book.lock:
            kept = self._book.reports.get(task_id)
        return None if kept is None else kept[1]

    def children(
        self, parent: str, limit: int, after: str | None = None
    ) -> list[tuple[str, str, Stored]]:
        book = self._book
        with book.lock:
            ids = book.children.get(parent, [])
            first = 0 if after is None else bisect_right(ids, after)
            rows = [book.rows[child] for child in ids[first : first + limit]]
            return [(row.id, row.work, row.state) for row in rows]

    def count_children(self, parent: str) -> dict[Stored, int]:
        book = self._book
        with book.lock:
            return dict(Counter(book.rows[one].state for one in book.children.get(parent, ())))

    def feed(self, *, on: bool) -> None:
        with self._book.lock:
            self._book.feed.on = on

    def updated_since(self, cursor: str | None, limit: int) -> tuple[list[Change], str]:
        with self._book.lock:
            return self._book.feed.since(cursor, limit)
