"""The order in which entries that are due take slots."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rota.scheduler.dispatcher import Entry

#: (-priority, due, arrival, entry)
Place = tuple[int, float, int, "Entry"]

_COMPACT_FROM = 64


class Line:
    """A heap of places; its length counts what has not been withdrawn.

    What is ``withdrawn`` stays in the heap until half of it is, as in the timer.
    """

    __slots__ = ("_dead", "_heap")

    def __init__(self) -> None:
        self._heap: list[Place] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, place: Place) -> None:
        place[3].line = self
        heapq.heappush(self._heap, place)

    def pop(self) -> Place | None:
        """The first that has not been withdrawn; None if there is none."""
        while self._heap:
            place = heapq.heappop(self._heap)
            entry = place[3]
            entry.line = None
            if not entry.withdrawn:
                return place
            self._dead -= 1
        return None

    def forget(self) -> None:
        """Count one withdrawn entry, and clear them out when they are the half."""
        self._dead += 1
        if self._dead > _COMPACT_FROM and self._dead * 2 > len(self._heap):
            self._heap = [place for place in self._heap if not place[3].withdrawn]
            heapq.heapify(self._heap)
            self._dead = 0

    def entries(self) -> list[Entry]:
        """Who waits, in no order."""
        return [place[3] for place in self._heap if not place[3].withdrawn]
