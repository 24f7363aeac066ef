"""The memory repository's ledger: what deciding ticks reads and writes in the book."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rota.core.recurring import Decision
from rota.core.task import Inserted, NewTask
from rota.storage.deciding import LOOK_AGAIN, Entry, Standing, Verdict
from rota.storage.memory.book import Book, Offspring
from rota.storage.memory.inserting import insert_one
from rota.storage.memory.rows import from_micros


class MemoryLedger:
    """The book, whose lock the caller holds."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def lock(self, ids: Sequence[str], by_hand: Sequence[str]) -> dict[str, Standing]:
        """All that exist: the book's lock is everybody's."""
        known = self._book.definitions
        return {
            name: Standing(
                next_fire_at=known[name].next_fire_at,
                last_fire_at=known[name].last_fire_at,
                paused=known[name].paused,
                version=known[name].version,
                runs=known[name].runs,
            )
            for name in (*ids, *by_hand)
            if name in known
        }

    def unfinished(self, most: Mapping[str, int]) -> dict[str, int]:
        return {name: count_unfinished(self._book, name, n) for name, n in most.items()}

    def insert(self, children: Sequence[NewTask]) -> list[Inserted]:
        return [insert_one(self._book, child) for child in children]

    def insert_keyed(self, child: NewTask) -> Inserted:
        """Never held up: nobody else has the book."""
        return insert_one(self._book, child)

    def write(self, verdict: Verdict) -> None:
        book = self._book
        later = from_micros(book.now()) + timedelta(seconds=LOOK_AGAIN)
        for name, standing in verdict.standings.items():
            book.definitions[name] = book.definitions[name]._replace(
                next_fire_at=standing.next_fire_at,
                due_at=later if standing.waiting else standing.next_fire_at,
                last_fire_at=standing.last_fire_at,
                runs=standing.runs,
            )
        for task_id, made in verdict.children.items():
            fire_at = book.rows[task_id].fire_at
            book.outstanding[made.recurring][task_id] = None
            if fire_at is not None:
                insort(book.offspring[made.recurring], Offspring(fire_at, task_id, made.version))
        for entry in verdict.entries.values():
            record(book, entry)


def count_unfinished(book: Book, recurring: str, limit: int) -> int:
    """Forget those that have ended, and count the others."""
    book.forget_ended_children(recurring)
    return min(limit, len(book.outstanding.get(recurring, ())))


def record(book: Book, entry: Entry) -> None:
    """Keep the decision; one of its kind about the same fire time grows by it."""
    told = book.decisions[entry.recurring]
    new = Decision(
        recurring=entry.recurring,
        fire_at=entry.fire_at,
        decision=entry.decision,
        count=entry.count,
        task=entry.task,
        decided_at=from_micros(book.now()),
        version=entry.version,
    )
    kind = _kind(new)
    place = bisect_left(told, kind, key=_kind)
    if place < len(told) and _kind(told[place]) == kind:
        told[place] = replace(new, count=told[place].count + new.count)
    else:
        told.insert(place, new)


def _kind(decision: Decision) -> tuple[datetime, str]:
    return decision.fire_at, decision.decision
