"""The SQLite repository's ``KeepingStore``: forget what is past its time, in small transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from rota.core.finding import TaskFilter
from rota.core.retention import Keeping, Retention, outdated
from rota.core.task import Attempt
from rota.storage import folding
from rota.storage.sqlite import keeping
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.verbs import keeping as rules
from rota.storage.verbs import looking

_DAY = 86_400_000_000
_CHANGES_KEPT, _DECISIONS_KEPT, _COUNTS_KEPT = 7 * _DAY, 30 * _DAY, folding.KEPT_DAYS * _DAY
#: Rows in one transaction of `tidy`, and transactions for one purpose in one call.
_CHUNK, _CHUNKS = 1_000, 100

#: Does at most so many rows' worth, in the writer's transaction; how many it did.
_Act = Callable[[Connection, int], int]


class SQLiteUpkeep:
    """History of this file."""

    _desk: Desk

    def keeping(self) -> Keeping:
        with self._desk.reading() as conn:
            return rules.keeping(conn, self._desk.tables)

    def keep(self, retention: Retention | None = None, archive: bool | None = None) -> Keeping:
        before = self.keeping()
        self._desk.write(lambda conn: rules.keep(conn, self._desk.tables, retention, archive))
        return before

    def outdated(self) -> list[TaskFilter]:
        return outdated(self.keeping().retention, self._desk.clock.now())

    def attempts_of(self, task_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        with self._desk.reading() as conn:
            return looking.attempts_of(conn, self._desk.tables, task_ids)

    def tidy(self) -> bool:
        """Forget what is past its time and fold counts; whether there is more to do."""
        now = self._desk.micros()
        acts: list[_Act] = [
            partial(self._forget_tasks, failed=False, now=now),
            partial(self._forget_tasks, failed=True, now=now),
            partial(self._forget_attempts, now=now),
            partial(_forget, keeping.forget_counts, now - _COUNTS_KEPT),
            partial(_forget, keeping.forget_decisions, now - _DECISIONS_KEPT),
            partial(_forget, keeping.forget_changes, now - _CHANGES_KEPT),
        ]
        for fold in folding.FOLDS:
            old, width = now - fold.after * 1_000_000, fold.width * 1_000_000
            # Up to a whole stretch, which no row of a finer one straddles.
            acts.append(partial(_fold, old - old % width, width))
        more = [self._in_chunks(act) for act in acts]
        self._forget_children()
        self._forget_periods(now)
        self._desk.locks.sweep(self._nodes())
        return any(more)

    def _in_chunks(self, act: _Act) -> bool:
        """Whether all chunks of one call were full, so that there may be more."""
        for _ in range(_CHUNKS):
            if self._desk.write(lambda conn: act(conn, _CHUNK)) < _CHUNK:
                return False
        return True

    def _forget_tasks(self, conn: Connection, limit: int, *, failed: bool, now: int) -> int:
        """Asks in each transaction what holds: that may change meanwhile."""
        kept = rules.keeping(conn, self._desk.tables)
        span = kept.retention.span(failed=failed)
        if span is None or kept.archive:
            return 0
        table = "rota_failed" if failed else "rota_done"
        return keeping.forget_tasks(raw(conn), table, now - _micros(span), limit)

    def _forget_attempts(self, conn: Connection, limit: int, *, now: int) -> int:
        """Those of tasks that go on; what waits for the archive keeps its own."""
        kept = rules.keeping(conn, self._desk.tables)
        longest = kept.retention.longest
        if longest is None:
            return 0
        before = now - _micros(longest)
        if kept.archive:
            before = min(before, keeping.oldest_end(raw(conn), now))
        return keeping.forget_attempts(raw(conn), before, limit)

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

    def _nodes(self) -> set[int]:
        with self._desk.reading() as conn:
            views = looking.nodes(conn, self._desk.tables, now=self._desk.moment())
        return {view.id for view in views}


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _forget(forget: Callable[..., int], before: int, conn: Connection, limit: int) -> int:
    return forget(raw(conn), before, limit)


def _fold(before: int, width: int, conn: Connection, limit: int) -> int:
    return keeping.fold_counts(raw(conn), before, width, limit)


def _drop_children(conn: Connection, *, ended: Sequence[tuple[str, str]]) -> None:
    keeping.forget_children(raw(conn), ended)


def _drop_periods(conn: Connection, *, keys: Sequence[str], now: int) -> None:
    keeping.forget_periods(raw(conn), keys, now)
