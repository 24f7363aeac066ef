"""Putting tasks in, looking at them, changing them: the memory repository's ``TaskStore``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from rota.core.conflict import refuse_met
from rota.core.task import Along, Attempt, Inserted, NewTask, Stored, Task
from rota.errors import InvalidArgument, StaleVersion, TaskNotFound, WrongState
from rota.storage.memory.book import Book, no_transactions
from rota.storage.memory.inserting import (
    bury_unborn,
    check_fences,
    check_storable,
    foresee,
    insert_one,
    rewrite,
    take_along,
)
from rota.storage.memory.rows import Row, span, to_micros

_CHANGEABLE = frozenset({"at", "delay", "priority", "queue", "params"})


class MemoryTasks:
    """Tasks by id."""

    _book: Book

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> list[Inserted]:
        for task in tasks:
            check_storable(task)
        with self._book.lock:
            check_fences(self._book, tasks)
            if together:
                refuse_met(tasks, foresee(self._book, tasks), repeated=repeated)
            answers = [insert_one(self._book, task, repeated=repeated) for task in tasks]
            plain = not repeated and all(one.created for one in answers)
            if along is None or not plain or any(task.keyed for task in tasks):
                return answers
            return take_along(self._book, answers, along)

    def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        return self.insert([task for part in parts for task in part], together=True)

    def insert_in(
        self,
        connection: object,  # noqa: ARG002 - there is nothing it could mean
        tasks: Sequence[NewTask],  # noqa: ARG002
        *,
        together: bool = False,  # noqa: ARG002
    ) -> list[Inserted]:
        """Refused: there is no transaction to join."""
        raise no_transactions()

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
            return self._book.attempts_of(task_id)

    def find_key(self, unique: str) -> str | None:
        book = self._book
        with book.lock:
            holder = book.keys.get(unique)
            taker, until = book.periods.get(unique, ("", 0))
            if holder is None and until > book.now():
                row = book.rows.get(taker)
                holder = None if row is None or row.final else row.id
            return holder

    def bodies(self, task_ids: Sequence[str]) -> dict[str, str]:
        rows = self._book.rows
        with self._book.lock:
            return {task_id: rows[task_id].params for task_id in task_ids if task_id in rows}

    def cancel(self, task_id: str, reason: str, *, tombstone: bool = False) -> Stored | None:
        book = self._book
        with book.lock:
            row = book.rows.get(task_id)
            if row is None:
                if tombstone:
                    bury_unborn(book, task_id, reason)
                return Stored.CANCELLED if tombstone else None
            met = row.state
            if row.waiting:
                book.end(row, Stored.CANCELLED, reason=reason)
            elif met is Stored.WORKING and row.node is not None:
                if row.cancel_reason is None:
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


def _change(book: Book, row: Row, changes: Mapping[str, object]) -> None:
    fields = {name: changes[name] for name in ("priority", "queue", "params") if name in changes}
    now = book.now()
    if "at" in changes:
        fields["due_at"] = to_micros(cast("datetime", changes["at"]))
    elif "delay" in changes:
        fields["due_at"] = now + span(float(cast("float", changes["delay"])))
    if "due_at" in fields:
        fields["run_at"] = max(cast("int", fields["due_at"]), now)
    rewrite(book, row, **fields)
