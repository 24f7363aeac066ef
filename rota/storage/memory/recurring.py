"""Definitions and their firing: the memory repository's ``RecurringStore``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rota.core.recurring import Decision, Definition, Fire
from rota.core.task import Inserted, NewTask, Stored
from rota.storage.memory.book import Book
from rota.storage.memory.inserting import check_storable, insert_one
from rota.storage.memory.rows import MICROS, from_micros, span, to_micros


class MemoryRecurring:
    """Recurring tasks by id."""

    _book: Book

    def put_recurring(self, definition: Definition) -> bool:
        book = self._book
        with book.lock:
            known = book.definitions.get(definition.id)
            if known is None:
                book.definitions[definition.id] = definition
                return True
            if _content(known) == _content(definition):
                return False
            book.definitions[definition.id] = definition._replace(
                last_fire_at=known.last_fire_at, version=known.version + 1
            )
            return True

    def get_recurring(self, recurring_id: str) -> Definition | None:
        with self._book.lock:
            return self._book.definitions.get(recurring_id)

    def list_recurring(self) -> list[Definition]:
        with self._book.lock:
            return sorted(self._book.definitions.values(), key=lambda one: one.id)

    def remove_recurring(self, recurring_id: str) -> bool:
        with self._book.lock:
            return self._book.definitions.pop(recurring_id, None) is not None

    def due_recurring(self, within: float, limit: int) -> tuple[list[Definition], float | None]:
        book = self._book
        with book.lock:
            now = book.now()
            until = now + span(within)
            ordered = sorted(
                (to_micros(one.next_fire_at), one.id, one)
                for one in book.definitions.values()
                if one.next_fire_at is not None and not one.paused
            )
        due = [one for at, _, one in ordered if at <= until][:limit]
        rest = ordered[len(due) :]
        return due, (rest[0][0] - now) / MICROS if rest else None

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Inserted | None]:
        for _, child in fires:
            if child is not None:
                check_storable(child)
        with self._book.lock:
            return [_fire_one(self._book, fire, child) for fire, child in fires]

    def decisions(self, recurring_id: str, limit: int) -> list[Decision]:
        with self._book.lock:
            told = self._book.decisions.get(recurring_id, ())
            return list(islice(reversed(told), limit))


def _content(definition: Definition) -> Definition:
    return definition._replace(next_fire_at=None, last_fire_at=None, version=0)


def _fire_one(book: Book, fire: Fire, child: NewTask | None) -> Inserted | None:
    known = book.definitions.get(fire.recurring)
    if known is None or known.paused or known.next_fire_at != fire.expected:
        return None
    book.definitions[known.id] = known._replace(
        next_fire_at=fire.following, last_fire_at=fire.fire_at
    )
    if child is None:
        answer = Inserted(fire.task or "", False, Stored.SCHEDULED)
    else:
        answer = insert_one(book, child)
    book.decisions[known.id].append(
        Decision(
            recurring=known.id,
            fire_at=fire.fire_at,
            decision=fire.decision,
            count=fire.count,
            task=fire.task if child is None else answer.id,
            decided_at=from_micros(book.now()),
        )
    )
    return answer
