"""The order in which entries that are due take slots."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rota.scheduler.dispatcher import Entry

#: (-priority, due, arrival, entry)
Place = tuple[int, float, int, "Entry"]

_COMPACT_FROM = 64


class Line:
    """Places in order; its length counts what has not been withdrawn.

    What comes behind the last, as most does, is appended; the rest goes to a heap, and the
    smaller of the two heads is the first. What is ``withdrawn`` stays until half of it is,
    as in the timer.
    """

    __slots__ = ("_dead", "_heap", "_row")

    def __init__(self) -> None:
        self._row: deque[Place] = deque()
        self._heap: list[Place] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._row) + len(self._heap) - self._dead

    def push(self, place: Place) -> None:
        place[3].line = self
        row = self._row
        if not row or place > row[-1]:
            row.append(place)
        else:
            heapq.heappush(self._heap, place)

    def pop(self) -> Place | None:
        """The first that has not been withdrawn; None if there is none."""
        row, heap = self._row, self._heap
        while row or heap:
            if heap and not (row and row[0] < heap[0]):
                place = heapq.heappop(heap)
            else:
                place = row.popleft()
            entry = place[3]
            entry.line = None
            if not entry.withdrawn:
                return place
            self._dead -= 1
        return None

    def forget(self) -> None:
        """Count one withdrawn entry, and clear them out when they are the half."""
        self._dead += 1
        if self._dead > _COMPACT_FROM and self._dead > len(self):
            self._row = deque(place for place in self._row if not place[3].withdrawn)
            self._heap = [place for place in self._heap if not place[3].withdrawn]
            heapq.heapify(self._heap)
            self._dead = 0

    def entries(self) -> list[Entry]:
        """Who waits, in no order."""
        return [place[3] for place in chain(self._row, self._heap) if not place[3].withdrawn]
