"""Find, count and change many: the memory repository's ``LookingStore``."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from rota.core.codec import load
from rota.core.finding import (
    COUNT_LIMIT,
    LOOK,
    Count,
    Failures,
    Matches,
    NodeInfo,
    Page,
    TaskFilter,
)
from rota.core.task import Attempt, Lane, Stored, Task
from rota.errors import TaskNotFound, WrongState
from rota.storage.memory.book import Book
from rota.storage.memory.rows import MICROS, Row, from_micros, to_micros
from rota.storage.memory.tasks import MemoryTasks


class MemoryLooking(MemoryTasks):
    """Everything is looked through, under the lock: what is in memory is not much."""

    def find(
        self, where: TaskFilter, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> Page:
        with self._book.lock:
            rows = _page(self._book, where, limit + 1, after, newest_first=newest_first)
            following = rows[limit - 1].id if len(rows) > limit else None
            return Page(tuple(row.task() for row in rows[:limit]), following)

    def matching(self, where: TaskFilter, limit: int, after: str | None = None) -> Matches:
        with self._book.lock:
            rows = _page(self._book, where, limit + 1, after, newest_first=True)
        following = rows[limit - 1].id if len(rows) > limit else None
        return Matches([row.id for row in rows[:limit]], following)

    def cancel_many(self, task_ids: Sequence[str], reason: str) -> dict[str, Stored]:
        met = {task_id: self.cancel(task_id, reason) for task_id in sorted(task_ids)}
        return {task_id: state for task_id, state in met.items() if state is not None}

    def reschedule_many(
        self, task_ids: Sequence[str], changes: Mapping[str, object]
    ) -> dict[str, Lane]:
        lanes: dict[str, Lane] = {}
        for task_id in sorted(task_ids):
            try:
                task = self.update(task_id, changes, None)
            except (TaskNotFound, WrongState):
                continue  # it has gone on since it was found
            due_in = (task.run_at - self._book.clock.now()).total_seconds()
            lanes[task_id] = Lane(task.queue, task.priority, max(0.0, due_in))
        return lanes

    def retry_many(self, task_ids: Sequence[str]) -> dict[str, Lane]:
        book = self._book
        lanes: dict[str, Lane] = {}
        with book.lock:
            for task_id in sorted(task_ids):
                row = book.rows.get(task_id)
                if row is not None and row.state in {Stored.FAILED, Stored.CANCELLED}:
                    _revive(book, row)
                    lanes[task_id] = Lane(row.queue, row.priority, 0.0)
        return lanes

    def delete_many(self, task_ids: Sequence[str], before: datetime | None = None) -> set[str]:
        book = self._book
        with book.lock:
            rows = [row for one in task_ids if (row := book.rows.get(one)) is not None]
            gone = {row.id for row in rows if row.final and _within(row.finished_at, None, before)}
            for task_id in gone:
                book.forget(task_id)
        return gone

    def counts_by(self, by: str, since: datetime | None) -> dict[str, dict[Stored, Count]]:
        book, found = self._book, dict[str, dict[Stored, Count]]()
        with book.lock:
            unfinished = [row for row in book.rows.values() if not row.final]
            waiting = [row for row in unfinished if row.waiting]
            working = Counter(getattr(row, by) for row in unfinished if not row.waiting)
            ended = list(book.tally.since(0 if since is None else to_micros(since)))
        for group, state, count in _waiting(waiting, by):
            _add(found, group, state, count)
        for group, n in working.items():
            _add(found, group, Stored.WORKING, Count(n))
        for queue, work, state, n in ended:
            _add(found, queue if by == "queue" else work, state, Count(n))
        return found

    def failures(self, since: datetime | None, limit: int) -> list[Failures]:
        book = self._book
        with book.lock:
            newest = islice(_failed(book, 0 if since is None else to_micros(since)), LOOK)
            groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
            for row in newest:
                groups[row.work, _error(row)].append(row)
            told = [
                Failures(work, error, len(rows), from_micros(rows[0].finished_at or 0), rows[0].id)
                for (work, error), rows in groups.items()
            ]
        return sorted(told, key=lambda one: one.last_at, reverse=True)[:limit]

    def node_infos(self) -> list[NodeInfo]:
        book = self._book
        with book.lock:
            now = book.now()
            held = Counter(row.node for row in _working(book))
            infos = [
                NodeInfo(
                    id=one.id,
                    name=one.name,
                    host=one.host,
                    pid=one.pid,
                    version=one.version,
                    started_at=from_micros(book.joined[one.id]),
                    lease=one.lease,
                    lease_left=(until - now) / MICROS,
                    tasks=held[one.id],
                )
                for one, until in book.nodes.values()
            ]
        return sorted(infos, key=lambda info: (info.started_at, info.id))

    def running(self, node: int | None, limit: int) -> list[Task]:
        with self._book.lock:
            rows = [row for row in _working(self._book) if node in {None, row.node}]
            return [row.task() for row in heapq.nsmallest(limit, rows, key=_by_id)]

    def pause_work(self, work: str, reason: str) -> None:
        with self._book.lock:
            self._book.paused_works[work] = reason

    def resume_work(self, work: str) -> bool:
        with self._book.lock:
            return self._book.paused_works.pop(work, None) is not None

    def paused_works(self) -> dict[str, str]:
        with self._book.lock:
            return dict(sorted(self._book.paused_works.items()))


def _by_id(row: Row) -> str:
    return row.id


def _page(
    book: Book, where: TaskFilter, most: int, after: str | None, *, newest_first: bool
) -> list[Row]:
    rows = (
        row
        for row in _candidates(book, where)
        if (after is None or (row.id < after if newest_first else row.id > after))
        and _fits(row, where)
    )
    pick = heapq.nlargest if newest_first else heapq.nsmallest
    return pick(most, rows, key=_by_id)


def _candidates(book: Book, where: TaskFilter) -> Iterator[Row]:
    if where.unique is not None:
        holder = book.keys.get(where.unique)
        return iter([] if holder is None else [book.rows[holder]])
    if where.parent is not None:
        return (book.rows[one] for one in book.children.get(str(where.parent), ()))
    return iter(book.rows.values())


def _fits(row: Row, where: TaskFilter) -> bool:
    if row.state not in where.stored or (where.stored[row.state] and not row.attempt):
        return False
    if where.works and row.work not in where.works:
        return False
    if where.queues and row.queue not in where.queues:
        return False
    if where.recurring is not None and row.recurring != where.recurring:
        return False
    return (
        _within(row.created_at, where.created_after, where.created_before)
        and _within(row.due_at, where.due_after, where.due_before)
        and _within(row.finished_at, where.finished_after, where.finished_before)
        and (not where.meta or _has(load(row.meta), where.meta))
    )


def _within(stamp: int | None, after: datetime | None, before: datetime | None) -> bool:
    if after is not None and (stamp is None or stamp < to_micros(after)):
        return False
    return before is None or (stamp is not None and stamp < to_micros(before))


def _has(meta: Any, wanted: Mapping[str, Any]) -> bool:
    if not isinstance(meta, dict):
        return False
    return all(
        # In JSON true is not 1.
        key in meta
        and meta[key] == value
        and isinstance(meta[key], bool) is isinstance(value, bool)
        for key, value in wanted.items()
    )


def _revive(book: Book, row: Row) -> None:
    """Let it wait again; the outcome that ended it is kept as an attempt."""
    book.attempts[row.id].append(
        Attempt(
            task_id=row.id,
            attempt=row.attempt,
            outcome=row.state.name.lower(),
            node=row.node,
            batch=row.batch,
            started_at=None if row.started_at is None else from_micros(row.started_at),
            finished_at=from_micros(row.finished_at or 0),
            reason=row.reason,
            error=load(row.payload),
        )
    )
    row.due_at = row.run_at = book.now()
    row.attempt = row.losses = 0
    row.version += 1
    row.started_at = row.finished_at = row.expires_at = None
    row.reason = row.payload = row.cancel_reason = row.unique = None
    if row.recurring is not None:
        book.outstanding[row.recurring][row.id] = None
    book.place(row)


def _waiting(rows: Sequence[Row], by: str) -> Iterator[tuple[str, Stored, Count]]:
    """As the databases count: so many of each queue, of what is parked of each work."""
    looked: dict[tuple[str, Stored], Counter[str]] = defaultdict(Counter)
    for row in rows:
        lead = row.queue if row.state is Stored.SCHEDULED else row.work
        counts = looked[lead, row.state]
        if counts.total() <= COUNT_LIMIT:
            counts[getattr(row, by)] += 1
    for (_, state), counts in looked.items():
        more = counts.total() > COUNT_LIMIT
        for group, n in counts.items():
            yield group, state, Count(min(n, COUNT_LIMIT), more)


def _add(found: dict[str, dict[Stored, Count]], group: str, state: Stored, count: Count) -> None:
    states = found.setdefault(group, {})
    states[state] = count.plus(states.get(state, Count(0)))


def _working(book: Book) -> Iterator[Row]:
    for node, batches in book.leases.items():
        for batch, ids in batches.items():
            for task_id in ids:
                row = book.holder(task_id, node, batch)
                if row is not None:
                    yield row


def _failed(book: Book, since: int) -> Iterator[Row]:
    """The newest first; what was deleted, or made to wait again, is there no more."""
    for moment, task_id in reversed(book.ended[True]):
        if moment < since:
            return
        row = book.rows.get(task_id)
        if row is not None and row.finished_at == moment:
            yield row


def _error(row: Row) -> str:
    stored = load(row.payload)
    kind = stored.get("type") if isinstance(stored, dict) else None
    return str(kind or (row.reason or "failed")[:200])
