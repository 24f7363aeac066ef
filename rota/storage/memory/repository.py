"""The memory repository: the stores over one book."""

from __future__ import annotations

from datetime import datetime

from rota.core.clock import Clock, SystemClock
from rota.storage.memory.auditing import MemoryAuditing
from rota.storage.memory.book import Book
from rota.storage.memory.claims import MemoryClaims
from rota.storage.memory.finding import MemoryLooking
from rota.storage.memory.following import MemoryFollowing
from rota.storage.memory.glancing import MemoryGlancing
from rota.storage.memory.keeping import MemoryKeeping
from rota.storage.memory.nodes import MemoryNodes
from rota.storage.memory.recurring import MemoryRecurring
from rota.storage.memory.signals import Exchange, MemorySignals


class MemoryRepository(
    MemoryLooking,
    MemoryFollowing,
    MemoryClaims,
    MemoryNodes,
    MemoryGlancing,
    MemoryRecurring,
    MemoryKeeping,
    MemoryAuditing,
):
    """Tasks in this process's memory, behind one lock; several nodes may share one object.

    ``open`` and ``close`` do nothing: what is in it lives as long as the object.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._book = Book(clock or SystemClock())
        self._exchange = Exchange()

    @property
    def durable(self) -> bool:
        return False

    @property
    def embedded(self) -> bool:
        return True

    def open(self) -> None:
        """Nothing to connect to."""

    def close(self) -> None:
        """Nothing to give back; another node may go on using it."""

    def signals(self, node: int) -> MemorySignals:
        return MemorySignals(node=node, exchange=self._exchange, clock=self._book.clock)

    def now(self) -> datetime:
        return self._book.clock.now()

    def abort_overdue(self) -> int:
        return 0  # no statement here can hang
