"""How many tasks have ended, per minute, queue, work and state; older ones per hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rota.core.task import Stored

_MINUTE = 60_000_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
#: Minutes are kept apart for so long.
_FINE = 2 * _DAY

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
        """Drop what is older than ``before``, and make hours of what is two days old."""
        kept: Counter[_Key] = Counter()
        for (minute, queue, work, state), n in self._counts.items():
            if minute >= before:
                width = _MINUTE if minute >= now - _FINE else _HOUR
                kept[minute - minute % width, queue, work, state] += n
        self._counts = kept
