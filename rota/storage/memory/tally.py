"""How many tasks have ended, per minute, queue, work and state; older ones more coarsely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rota.core.task import Stored
from rota.storage.folding import FOLDS
from rota.storage.memory.rows import MICROS

_MINUTE = 60 * MICROS

_Key = tuple[int, str, str, Stored]


class Tally:
    """Counts by when and what; not of single tasks, so deleting one changes nothing."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[_Key] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, now: int, queue: str, work: str, state: Stored) -> None:
        """Count one end."""
        self._counts[now - now % _MINUTE, queue, work, state] += 1

    def since(self, moment: int) -> Iterator[tuple[str, str, Stored, int]]:
        """Queue, work, state and how many, of the minutes from this one on."""
        for (minute, queue, work, state), n in self._counts.items():
            if minute >= moment:
                yield queue, work, state, n

    def forget(self, before: int, now: int) -> None:
        """Drop what is older than ``before``; the older the rest, the wider its stretches."""
        kept: Counter[_Key] = Counter()
        for (minute, queue, work, state), n in self._counts.items():
            if minute >= before:
                kept[_start(minute, now), queue, work, state] += n
        self._counts = kept


def _start(minute: int, now: int) -> int:
    """When the stretch begins that a minute belongs to by now."""
    for fold in reversed(FOLDS):
        width = fold.width * MICROS
        old = now - fold.after * MICROS
        if minute < old - old % width:
            return minute - minute % width
    return minute
