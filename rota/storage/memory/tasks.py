"""Putting tasks in, looking at them, changing them: the memory repository's ``TaskStore``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from rota.core.task import Attempt, Inserted, NewTask, Stored, Task
from rota.errors import DataRefused, InvalidArgument, StaleVersion, TaskNotFound, WrongState
from rota.storage.memory.book import Book
from rota.storage.memory.rows import Row, span, to_micros

_CHANGEABLE = frozenset({"at", "delay", "priority", "queue", "params"})


class MemoryTasks:
    """Tasks by id."""

    _book: Book

    def insert(self, tasks: Sequence[NewTask], *, repeated: bool = False) -> list[Inserted]:  # noqa: ARG002 - history is always looked at here
        for task in tasks:
            check_storable(task)
        with self._book.lock:
            return [insert_one(self._book, task) for task in tasks]

    def get(self, task_id: str) -> Task | None:
        with self._book.lock:
            row = self._book.rows.get(task_id)
            return None if row is None else row.task()

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        rows = self._book.rows
        with self._book.lock:
            return {task_id: rows[task_id].state for task_id in task_ids if task_id in rows}

    def attempts(self, task_id: str) -> list[Attempt]:
        with self._book.lock:
            told = list(self._book.attempts.get(task_id, ()))
            row = self._book.rows.get(task_id)
            last = None if row is None else row.last_attempt()
        return told if last is None else [*told, last]

    def find_key(self, unique: str) -> str | None:
        with self._book.lock:
            return self._book.keys.get(unique)

    def cancel(self, task_id: str, reason: str) -> Stored | None:
        book = self._book
        with book.lock:
            row = book.rows.get(task_id)
            if row is None:
                return None
            met = row.state
            if row.waiting:
                book.end(row, Stored.CANCELLED, reason=reason)
            elif met is Stored.WORKING and row.node is not None:
                row.cancel_reason = reason
                book.asked[row.node].add(row.id)
            return met

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        if unknown := changes.keys() - _CHANGEABLE:
            name = min(unknown)
            raise InvalidArgument(
                f"{name} cannot be changed; what can is {', '.join(sorted(_CHANGEABLE))}",
                field=name,
            )
        book = self._book
        with book.lock:
            row = book.rows.get(task_id)
            if row is None:
                raise TaskNotFound(task_id)
            if not row.waiting:
                raise WrongState(task_id, str(row.state.public), "only a waiting task is changed")
            if expected_version is not None and expected_version != row.version:
                raise StaleVersion(f"task {task_id}", expected_version, row.version)
            _change(book, row, changes)
            return row.task()

    def counts(self) -> dict[str, int]:
        book = self._book
        with book.lock:
            return {
                "scheduled": sum(len(lane) for lane in book.lanes.values()),
                "working": book.working,
                "parked": sum(len(rows) for rows in book.parked.values()),
            }


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


def insert_one(book: Book, task: NewTask) -> Inserted:
    """Enter one task, or name the one that is there; the caller holds the lock."""
    known = book.rows.get(task.id)
    if known is not None:
        return _meet(book, known, task, by_key=False)
    holder = None if task.unique is None else book.keys.get(task.unique)
    if holder is not None:
        return _meet(book, book.rows[holder], task, by_key=True)
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
        unique=task.unique,
        parent=task.parent,
        recurring=task.recurring,
        fire_at=None if task.fire_at is None else to_micros(task.fire_at),
    )
    book.rows[row.id] = row
    if row.unique is not None:
        book.keys[row.unique] = row.id
    book.place(row)
    return Inserted(row.id, True, Stored.SCHEDULED)


def _meet(book: Book, row: Row, task: NewTask, *, by_key: bool) -> Inserted:
    if task.on_conflict == "replace" and row.waiting:
        _replace(book, row, task)
    return Inserted(row.id, False, row.state, by_key)


def _replace(book: Book, row: Row, task: NewTask) -> None:
    now = book.now()
    due_at, expires_at = _times(task, now)
    _rewrite(
        book,
        row,
        due_at=due_at,
        run_at=max(due_at, now),
        priority=task.priority,
        queue=task.queue,
        params=task.params,
        meta=task.meta,
        expires_at=expires_at,
    )


def _change(book: Book, row: Row, changes: Mapping[str, object]) -> None:
    fields = {name: changes[name] for name in ("priority", "queue", "params") if name in changes}
    now = book.now()
    if "at" in changes:
        fields["due_at"] = to_micros(cast("datetime", changes["at"]))
    elif "delay" in changes:
        fields["due_at"] = now + span(float(cast("float", changes["delay"])))
    if "due_at" in fields:
        fields["run_at"] = max(cast("int", fields["due_at"]), now)
    _rewrite(book, row, **fields)


def _rewrite(book: Book, row: Row, **fields: Any) -> None:
    """Give a waiting task new fields; it stays where it waits, in its new place."""
    parked, kept_from = row.state is Stored.PARKED, row.kept_from
    book.lift(row)
    for name, value in fields.items():
        setattr(row, name, value)
    row.version += 1
    if parked:
        book.park(row, kept_from)
    else:
        book.place(row)


def _times(task: NewTask, now: int) -> tuple[int, int | None]:
    due_at = now + span(task.delay) if task.at is None else to_micros(task.at)
    if task.expires_at is not None:
        return due_at, to_micros(task.expires_at)
    return due_at, None if task.expires_in is None else due_at + span(task.expires_in)
