"""Entering a task into the book, or naming the one that is there."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any

from rota.core.task import Along, Inserted, NewTask, Stored
from rota.errors import DataRefused, LeaseLost
from rota.storage.memory.book import Book
from rota.storage.memory.rows import Row, span, to_micros


def check_storable(task: NewTask) -> None:
    """Refuse what no database could store, so that memory promises no more than they do."""
    for text in (task.params, task.options, task.meta, task.unique):
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise DataRefused(
                    f"task {task.id} contains a lone surrogate (half a character); "
                    "decode the bytes with the right encoding"
                ) from error


def check_fences(book: Book, tasks: Sequence[NewTask]) -> None:
    """Raise ``LeaseLost`` unless every fence is its parent's token; the caller holds the lock."""
    for task in tasks:
        fence = task.fence
        if fence is not None and book.holder(fence.task, fence.node, fence.batch) is None:
            raise LeaseLost(fence.task)


def insert_one(book: Book, task: NewTask, *, repeated: bool = False) -> Inserted:
    """Enter one task, or name the one that is there; the caller holds the lock."""
    known = book.rows.get(task.id)
    if known is not None:
        if repeated and not task.given_id:
            return Inserted(known.id, False, known.state)  # the earlier try's: it is as asked
        return _meet(book, known, task, by_key=False)
    holder = _holder_of_key(book, task)
    if holder is not None:
        row = book.rows.get(holder)
        if row is None:
            return Inserted(holder, False, Stored.DONE, True)
        return _meet(book, row, task, by_key=True)
    _enter(book, task)
    return Inserted(task.id, True, Stored.SCHEDULED)


def take_along(book: Book, answers: Sequence[Inserted], along: Along) -> list[Inserted]:
    """Claim what has just been entered; the caller holds the lock."""
    if along.node not in book.nodes:
        return list(answers)
    now = book.now()
    told = []
    for answer in answers:
        row = book.rows[answer.id]
        if row.id in along.ids and row.queue not in book.paused:
            book.lift(row)
            book.take(row, along.node, along.batch)
            answer = answer._replace(claimed=row.claimed(now, along.batch))  # noqa: PLW2901
        told.append(answer)
    return told


def foresee(book: Book, tasks: Sequence[NewTask]) -> list[Inserted]:
    """What ``insert_one`` would answer for each of these in turn, with nothing entered."""
    answers: list[Inserted] = []
    ids: set[str] = set()
    keys: dict[str, str] = {}
    for task in tasks:
        known = book.rows.get(task.id)
        holder = _holder_of_key(book, task)
        if known is None and holder is None and task.unique is not None:
            holder = keys.setdefault(task.unique, task.id)
            holder = None if holder == task.id else holder
        if known is not None or task.id in ids:
            state = Stored.SCHEDULED if known is None else known.state
            answers.append(Inserted(task.id, False, state))
        elif holder is not None:
            row = book.rows.get(holder)
            state = Stored.SCHEDULED if row is None else row.state
            answers.append(Inserted(holder, False, state, True))
        else:
            answers.append(Inserted(task.id, True, Stored.SCHEDULED))
        ids.add(task.id)
    return answers


def bury_unborn(book: Book, task_id: str, reason: str) -> None:
    """Write an id nobody knows down as a cancelled task."""
    now = book.now()
    row = Row(
        id=task_id,
        work="",
        queue="default",
        priority=0,
        params="{}",
        options="{}",
        created_at=now,
        due_at=now,
        run_at=now,
        expires_at=None,
        meta=None,
        unique=None,
        parent=None,
        recurring=None,
        fire_at=None,
    )
    book.rows[task_id] = row
    book.end(row, Stored.CANCELLED, reason=reason, counted=False)


def rewrite(book: Book, row: Row, **fields: Any) -> None:
    """Give a waiting task new fields; it stays where it waits, in its new place."""
    parked, kept_from = row.state is Stored.PARKED, row.kept_from
    book.lift(row)
    for name, value in fields.items():
        setattr(row, name, value)
    row.version += 1
    if parked:
        book.park(row, kept_from, told=False)
    else:
        book.place(row, told=False)


def _holder_of_key(book: Book, task: NewTask) -> str | None:
    if task.unique is None:
        return None
    if task.period is None:
        return book.keys.get(task.unique)
    holder, until = book.periods.get(task.unique, ("", 0))
    return holder if until > book.now() else None


def _enter(book: Book, task: NewTask) -> None:
    now = book.now()
    due_at, expires_at = _times(task, now)
    row = Row(
        id=task.id,
        work=task.work,
        queue=task.queue,
        priority=task.priority,
        params=task.params,
        options=task.options,
        created_at=now,
        due_at=due_at,
        run_at=max(due_at, now),
        expires_at=expires_at,
        meta=task.meta,
        unique=task.unique if task.period is None else None,
        parent=task.parent,
        recurring=task.recurring,
        fire_at=None if task.fire_at is None else to_micros(task.fire_at),
    )
    book.rows[row.id] = row
    if row.unique is not None:
        book.keys[row.unique] = row.id
    elif task.unique is not None and task.period is not None:
        book.periods[task.unique] = (row.id, now + span(task.period))
    if row.parent is not None:
        insort(book.children[row.parent], row.id)
    book.place(row)


def _meet(book: Book, row: Row, task: NewTask, *, by_key: bool) -> Inserted:
    if task.on_conflict == "replace" and row.waiting:
        _replace(book, row, task)
    return Inserted(row.id, False, row.state, by_key)


def _replace(book: Book, row: Row, task: NewTask) -> None:
    now = book.now()
    due_at, expires_at = _times(task, now)
    rewrite(
        book,
        row,
        due_at=due_at,
        run_at=max(due_at, now),
        priority=task.priority,
        queue=task.queue,
        params=task.params,
        options=task.options,
        meta=task.meta,
        expires_at=expires_at,
    )


def _times(task: NewTask, now: int) -> tuple[int, int | None]:
    due_at = now + span(task.delay) if task.at is None else to_micros(task.at)
    if task.expires_at is not None:
        return due_at, to_micros(task.expires_at)
    return due_at, None if task.expires_in is None else due_at + span(task.expires_in)
