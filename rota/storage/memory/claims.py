"""Taking tasks and writing their outcomes: the memory repository's ``ClaimStore``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from heapq import nsmallest

from rota.core.codec import load
from rota.core.task import Claimed, Ending, Finish, Lane, Stored, Want
from rota.errors import AlreadyClaimed, TaskNotFound, WrongState
from rota.storage.memory.book import Book
from rota.storage.memory.rows import MICROS, Row, span


class MemoryClaims:
    """Lanes, claims and outcomes."""

    _book: Book

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        book = self._book
        with book.lock:
            now = book.now()
            found = [
                Lane(queue, priority, (first - now) / MICROS)
                for (queue, priority), lane in book.lanes.items()
                if queue not in book.paused
                and (queues is None or queue in queues)
                and (first := lane.first(now)) is not None
            ]
        return sorted(found, key=lambda lane: (-lane.priority, lane.queue))

    def claim(
        self, node: int, batch: int, wants: Sequence[Want], look_ahead: float
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            book.require_node(node)
            now = book.now()
            until = now + span(look_ahead)
            taken = [
                book.rows[task_id]
                for want in wants
                for task_id in _offered(book, want, now=now, until=until)
            ]
            return _take_all(book, taken, node=node, batch=batch, now=now)

    def claim_parked(
        self, node: int, batch: int, works: Sequence[str], limit: int, look_ahead: float
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            book.require_node(node)
            now = book.now()
            until = now + span(look_ahead)
            offered = (
                row
                for work in works
                for row in book.parked.get(work, {}).values()
                if row.kept_from != node and row.run_at <= until and row.queue not in book.paused
            )
            taken = nsmallest(limit, offered, key=lambda row: (-row.priority, row.run_at, row.id))
            for row in taken:
                book.lift(row)
            return _take_all(book, taken, node=node, batch=batch, now=now)

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        book = self._book
        with book.lock:
            found = (
                (row.id, work)
                for work, rows in book.parked.items()
                if work not in works
                for row in rows.values()
            )
            return list(itertools.islice(found, limit))

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        book = self._book
        with book.lock:
            book.require_node(node)
            row = book.rows.get(task_id)
            if row is None:
                raise TaskNotFound(task_id)
            if row.state is Stored.WORKING:
                raise AlreadyClaimed(task_id)
            if row.final:
                raise WrongState(
                    task_id, str(row.state.public), "schedule a new one to run it again"
                )
            book.lift(row)
            book.take(row, node, batch)
            return row.claimed(book.now(), batch)

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        book = self._book
        answers: list[Stored | None] = []
        with book.lock:
            for finish in finishes:
                row = book.holder(finish.id, node, finish.batch)
                if row is not None:
                    answers.append(_finish_one(book, row, finish))
                else:
                    answers.append(_written_before(book, node, finish) if repeated else None)
            leases = book.leases.get(node, {})
            for batch in over:
                leases.pop(batch, None)
        return answers

    def pause_queue(self, queue: str, reason: str) -> None:
        with self._book.lock:
            self._book.paused[queue] = reason

    def resume_queue(self, queue: str) -> bool:
        with self._book.lock:
            return self._book.paused.pop(queue, None) is not None

    def paused_queues(self) -> dict[str, str]:
        with self._book.lock:
            return dict(self._book.paused)


def give_back(book: Book, row: Row, run_at: int) -> Stored:
    """Let a working task wait again without cost, or end it if it was asked to stop."""
    if row.cancel_reason is not None:
        book.end(row, Stored.CANCELLED, reason=row.cancel_reason)
        return row.state
    book.lift(row)
    row.attempt -= 1
    row.run_at = max(row.run_at, run_at)
    book.place(row)
    return row.state


def _offered(book: Book, want: Want, *, now: int, until: int) -> list[str]:
    lane = book.lane(want.queue, want.priority)
    if lane is None:
        return []
    taken = lane.take(
        ready=want.ready, ahead=want.ahead, now=now, until=until, since=want.cursor or 0
    )
    book.close_lane(want.queue, want.priority)
    return taken


def _take_all(book: Book, rows: Sequence[Row], *, node: int, batch: int, now: int) -> list[Claimed]:
    """Claim what was offered: together, but what was lost before each in a lease of its own."""
    alone = itertools.count(batch + 1)
    taken = []
    for row in rows:
        own = next(alone) if row.losses else batch
        book.take(row, node, own)
        taken.append(row.claimed(now, own))
    return taken


def _finish_one(book: Book, row: Row, finish: Finish) -> Stored:
    ending = finish.ending
    now = book.now()
    if ending.terminal:
        state = Stored(int(ending))
        book.end(row, state, reason=finish.reason, payload=finish.payload, ago=finish.ago)
        _end_recurring(book, row, finish)
    elif row.cancel_reason is not None:
        reason = row.cancel_reason
        book.end(row, Stored.CANCELLED, reason=reason, payload=finish.payload, ago=finish.ago)
    elif ending is Ending.RELEASE:
        give_back(book, row, now + span(finish.delay))
    elif ending is Ending.PARK:
        kept_from = row.node if finish.keep_from else None
        book.lift(row)
        row.attempt -= 1
        book.park(row, kept_from)
    else:
        _try_again(book, row, finish, run_at=now + span(finish.delay))
    return row.state


def _try_again(book: Book, row: Row, finish: Finish, *, run_at: int) -> None:
    book.note_attempt(
        row,
        finish.ending.name.lower(),
        reason=finish.reason,
        error=load(finish.payload),
        ago=finish.ago,
    )
    book.lift(row)
    row.losses = 0
    row.run_at = run_at
    if finish.ending is Ending.AGAIN:
        row.attempt = 0
    if finish.params is not None:
        row.params = finish.params
        row.version += 1
    book.place(row)


def _end_recurring(book: Book, row: Row, finish: Finish) -> None:
    definition = None if row.recurring is None else book.definitions.get(row.recurring)
    if finish.end_recurring and definition is not None:
        book.definitions[definition.id] = definition._replace(
            next_fire_at=None, version=definition.version + 1
        )


def _written_before(book: Book, node: int, finish: Finish) -> Stored | None:
    """The state an earlier try of this very finish led to, if history shows one."""
    row = book.rows.get(finish.id)
    if row is None:
        return None
    if row.final and (row.node, row.batch) == (node, finish.batch):
        return row.state
    outcome = finish.ending.name.lower()
    for told in book.attempts.get(finish.id, ()):
        if (told.node, told.batch, told.outcome) == (node, finish.batch, outcome):
            return Stored.SCHEDULED
    return None
