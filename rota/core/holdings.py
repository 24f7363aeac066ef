"""What this node holds: its batches and how much of each is left to end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from rota.core.task import Claimed


class Holdings:
    """Counts the unfinished tasks of each batch, so that a lease goes with its last one.

    Used by the claimer (adds), the finisher (ends) and the reconciler (asks); has its
    own lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: Counter[int] = Counter()
        self._expected: dict[int, range] = {}
        self._next = 1

    def reserve(self, count: int) -> int:
        """The first of ``count`` batch numbers never used before by this process."""
        with self._lock:
            first = self._next
            self._next += count
            return first

    def expect(self, batch: int, count: int = 1) -> None:
        """Tasks of this batch may be this node's already, and the answer that says so on its way.

        The same for the ``count`` - 1 batches numbered after it.
        """
        with self._lock:
            self._expected[batch] = range(batch, batch + count)

    def expect_no_more(self, batch: int) -> None:
        """The answer is here, or will not come."""
        with self._lock:
            self._expected.pop(batch, None)

    @property
    def expecting(self) -> bool:
        """Whether an answer may be on its way."""
        return bool(self._expected)

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Count freshly claimed tasks."""
        with self._lock:
            self._left.update(item.batch for item in claimed)

    def end(self, batches: Iterable[int]) -> list[int]:
        """One task of each given batch ended; the batches that have none left."""
        over = []
        with self._lock:
            for batch, count in Counter(batches).items():
                self._left[batch] -= count
                if self._left[batch] <= 0:
                    del self._left[batch]
                    over.append(batch)
        return over

    def knows(self, batch: int) -> bool:
        """Whether something of the batch is still to end, or on its way here."""
        with self._lock:
            if self._left.get(batch, 0) > 0:
                return True
            return any(batch in expected for expected in self._expected.values())

    def clear(self) -> None:
        """Forget all: the incarnation died, its leases are somebody else's."""
        with self._lock:
            self._left.clear()
            self._expected.clear()

    def __bool__(self) -> bool:
        """Whether anything is held, or on its way here."""
        with self._lock:
            return bool(self._left or self._expected)

    def __len__(self) -> int:
        with self._lock:
            return self._left.total()
