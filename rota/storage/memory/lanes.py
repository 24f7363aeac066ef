"""The scheduled tasks of one (queue, priority), in the order they become due."""

from __future__ import annotations

import heapq

_Entry = tuple[int, str]


class Lane:
    """Two heaps of (run_at, id): what is due, and what is not yet.

    Tasks that leave are forgotten lazily: an entry counts only while ``_live`` holds
    that very entry, and a heap of mostly dead entries is built anew.
    """

    __slots__ = ("_due", "_later", "_live")

    def __init__(self) -> None:
        self._live: dict[str, _Entry] = {}
        self._due: list[_Entry] = []
        self._later: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._live)

    def put(self, task_id: str, run_at: int) -> None:
        """Enter a task, or move it."""
        if task_id in self._live:
            self.discard(task_id)
        entry = (run_at, task_id)
        self._live[task_id] = entry
        heapq.heappush(self._later, entry)

    def discard(self, task_id: str) -> None:
        """Forget a task, if it is here."""
        self._live.pop(task_id, None)
        if len(self._due) + len(self._later) > 2 * len(self._live) + 64:
            self._due = []
            self._later = list(self._live.values())
            heapq.heapify(self._later)

    def first(self, now: int) -> int | None:
        """When the first task is due."""
        self._ripen(now)
        for heap in (self._due, self._later):
            while heap:
                if self._counts(heap[0]):
                    return heap[0][0]
                heapq.heappop(heap)
        return None

    def take(self, *, ready: int, ahead: int, now: int, until: int, since: int) -> list[str]:
        """Remove and return so many that are due, then so many that are due before ``until``."""
        self._ripen(now)
        taken = self._pop(self._due, ready, since, now)
        if ahead:
            taken += self._pop(self._later, ahead, since, until)
        return taken

    def _counts(self, entry: _Entry) -> bool:
        return self._live.get(entry[1]) is entry

    def _ripen(self, now: int) -> None:
        while self._later and self._later[0][0] <= now:
            entry = heapq.heappop(self._later)
            if self._counts(entry):
                heapq.heappush(self._due, entry)

    def _pop(self, heap: list[_Entry], limit: int, since: int, until: int) -> list[str]:
        taken: list[str] = []
        passed_over: list[_Entry] = []
        while heap and len(taken) < limit and heap[0][0] <= until:
            entry = heapq.heappop(heap)
            if not self._counts(entry):
                continue
            if entry[0] < since:
                passed_over.append(entry)
            else:
                del self._live[entry[1]]
                taken.append(entry[1])
        for entry in passed_over:
            heapq.heappush(heap, entry)
        return taken
