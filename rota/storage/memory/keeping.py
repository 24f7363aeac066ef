"""How long history is kept: the memory repository's ``KeepingStore``."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.finding import TaskFilter
from rota.core.retention import Keeping, Retention, outdated
from rota.core.task import Attempt
from rota.storage import folding
from rota.storage.memory.book import Book
from rota.storage.memory.rows import MICROS, from_micros, span

_DAY = 86_400 * MICROS
_CHANGES_KEPT = 7 * _DAY
_DECISIONS_KEPT = 30 * _DAY
#: Tasks that are forgotten in one go, with everybody waiting for the lock.
_CHUNK = 1_000


class MemoryKeeping:
    """History of this process."""

    _book: Book

    def keeping(self) -> Keeping:
        with self._book.lock:
            return self._book.keeping

    def keep(self, retention: Retention | None = None, archive: bool | None = None) -> Keeping:
        book = self._book
        with book.lock:
            before = book.keeping
            book.keeping = Keeping(
                before.retention if retention is None else retention,
                before.archive if archive is None else archive,
            )
            return before

    def outdated(self) -> list[TaskFilter]:
        return outdated(self.keeping().retention, self._book.clock.now())

    def attempts_of(self, task_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        with self._book.lock:
            return {task_id: self._book.attempts_of(task_id) for task_id in task_ids}

    def tidy(self) -> bool:
        book = self._book
        with book.lock:
            now = book.now()
            book.forget_decisions(from_micros(now - _DECISIONS_KEPT))
            for name in list(book.outstanding):
                book.forget_ended_children(name)
            book.tally.forget(now - folding.KEPT_DAYS * _DAY, now)
            book.feed.forget(from_micros(now - _CHANGES_KEPT))
            for key in [key for key, (_, until) in book.periods.items() if until <= now]:
                del book.periods[key]
            done, failed = (_forget_ended(book, now, failed=failed) for failed in (False, True))
            return done or failed


def _forget_ended(book: Book, now: int, *, failed: bool) -> bool:
    """Drop a chunk of what is past its retention; whether there may be more."""
    kept, ended = book.keeping.retention.span(failed=failed), book.ended[failed]
    before = None if kept is None else now - span(kept.total_seconds())
    for _ in range(_CHUNK):
        if not ended or before is None or ended[0][0] >= before:
            return False
        moment, task_id = ended[0]
        row = book.rows.get(task_id)
        # It may have been deleted since, or made to wait again.
        if row is not None and row.finished_at == moment:
            if book.keeping.archive:
                return False
            book.forget(task_id)
        ended.popleft()
    return True
