"""Definitions and their firing: the memory repository's ``RecurringStore``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from rota.core.recurring import Child, Decision, Definition, Fire, Fired, Put
from rota.core.task import NewTask
from rota.storage.deciding import Entry, decide
from rota.storage.memory.book import Book
from rota.storage.memory.firing import MemoryLedger, count_unfinished, record
from rota.storage.memory.inserting import check_storable
from rota.storage.memory.rows import MICROS, from_micros, span, to_micros
from rota.storage.restating import founded, restated


class MemoryRecurring:
    """Recurring tasks by id."""

    _book: Book

    def put_recurring(self, definition: Definition, *, replace: bool = True) -> Put:
        book = self._book
        with book.lock:
            known = book.definitions.get(definition.id)
            if known is None:
                book.definitions[definition.id] = founded(definition)
                return Put.CREATED
            answer, changed = restated(known, definition, replace=replace)
            book.definitions[definition.id] = changed
            return answer

    def get_recurring(self, recurring_id: str) -> Definition | None:
        with self._book.lock:
            known = self._book.definitions.get(recurring_id)
        return None if known is None else _shown(known)

    def list_recurring(self, limit: int = 1000, after: str | None = None) -> list[Definition]:
        with self._book.lock:
            everything = sorted(self._book.definitions.items())
        wanted = (one for name, one in everything if after is None or name > after)
        return [_shown(one) for one in islice(wanted, limit)]

    def remove_recurring(self, recurring_id: str) -> bool:
        with self._book.lock:
            return self._book.definitions.pop(recurring_id, None) is not None

    def pause_recurring(self, recurring_id: str) -> bool | None:
        book = self._book
        with book.lock:
            known = book.definitions.get(recurring_id)
            if known is None:
                return None
            book.definitions[recurring_id] = known._replace(paused=True)
            return not known.paused

    def resume_recurring(
        self,
        recurring_id: str,
        expected: datetime | None,
        following: datetime | None,
        missed: Fire | None = None,
    ) -> bool:
        book = self._book
        with book.lock:
            known = book.definitions.get(recurring_id)
            if known is None or not known.paused or known.next_fire_at != expected:
                return False
            if missed is not None and missed.version not in {None, known.version}:
                return False
            book.definitions[recurring_id] = known._replace(
                paused=False, next_fire_at=following, due_at=following
            )
            if missed is not None:
                record(book, Entry.of(missed, missed.decision, missed.task, known.version))
            return True

    def due_recurring(
        self, within: float, limit: int, *, but: Sequence[str] = ()
    ) -> tuple[list[Definition], float | None]:
        book, passed_over = self._book, set(but)
        with book.lock:
            now = book.now()
            ordered = sorted(
                (to_micros(one.due_at or one.next_fire_at), one.id, one)
                for one in book.definitions.values()
                if one.next_fire_at is not None and not one.paused and one.id not in passed_over
            )
        until = now + span(within)
        due = [one for at, _, one in ordered if at <= until][:limit]
        rest = ordered[len(due) :]
        return due, max(0.0, (rest[0][0] - now) / MICROS) if rest else None

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Fired]:
        for _, child in fires:
            if child is not None:
                check_storable(child)
        with self._book.lock:
            return decide(MemoryLedger(self._book), fires)

    def look_again(self, recurring_ids: Sequence[str]) -> None:
        book = self._book
        with book.lock:
            for name in recurring_ids:
                known = book.definitions.get(name)
                if known is not None:
                    book.definitions[name] = known._replace(due_at=known.next_fire_at)

    def outstanding(self, recurring_id: str, limit: int = 10_000) -> int:
        with self._book.lock:
            return count_unfinished(self._book, recurring_id, limit)

    def children_of(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Child]:
        book = self._book
        with book.lock:
            offspring = book.offspring.get(recurring_id, [])
            end = len(offspring)
            if before is not None:
                end = bisect_left(offspring, (to_micros(before),))
            return [
                Child(one.task, from_micros(one.fire_at), one.version, book.rows[one.task].state)
                for one in reversed(offspring[max(0, end - limit) : end])
            ]

    def decisions(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Decision]:
        with self._book.lock:
            told = self._book.decisions.get(recurring_id, [])
            end = len(told)
            if before is not None:
                end = bisect_left(told, before, key=lambda one: one.fire_at)
            return told[max(0, end - limit) : end][::-1]


def _shown(definition: Definition) -> Definition:
    """What has ended is due no more; ``end_recurring`` says the first only."""
    return definition if definition.next_fire_at is not None else definition._replace(due_at=None)
