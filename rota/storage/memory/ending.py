"""What an outcome does to a working task in the book."""

from __future__ import annotations

from rota.core.codec import load
from rota.core.task import Ending, Finish, Stored
from rota.storage.memory.book import Book
from rota.storage.memory.rows import Row, span


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


def finish_one(book: Book, row: Row, finish: Finish) -> Stored:
    """Do to a working task what its outcome says, or its cancel; the state that led to."""
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
        row.run_at = max(row.run_at, now + span(finish.delay))
        book.park(row, kept_from)
    else:
        _try_again(book, row, finish, now)
    return row.state


def _try_again(book: Book, row: Row, finish: Finish, now: int) -> None:
    book.note_attempt(
        row,
        finish.ending.name.lower(),
        now=now,
        reason=finish.reason,
        error=load(finish.payload),
        ago=finish.ago,
    )
    book.lift(row)
    row.losses = 0
    row.run_at = now + span(finish.delay)
    if finish.ending is Ending.AGAIN:
        row.attempt = 0
    if finish.params is not None:
        row.params = finish.params
        row.version += 1
    book.place(row)


def _end_recurring(book: Book, row: Row, finish: Finish) -> None:
    definition = None if row.recurring is None else book.definitions.get(row.recurring)
    if finish.end_recurring and definition is not None:
        book.definitions[definition.id] = definition._replace(next_fire_at=None)


def written_before(book: Book, node: int, finish: Finish) -> Stored | None:
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
