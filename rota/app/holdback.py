"""What is paused for all nodes, as this one knows it, and what it hands back for that."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from rota.scheduler.executor import Held

if TYPE_CHECKING:
    from rota.app.house import House


class Holdback:
    """Looked at when told, and every second while this node holds anything; glances tell, too.

    Claims leave paused queues out by themselves; what was claimed before is handed back.
    Tasks of paused works are parked by whoever claims them, and not claimed from there.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self.works: frozenset[str] = frozenset()
        self._known_at = float("-inf")
        self._guard = threading.Lock()
        self._suspected = False  # the claimer glances before its first claim, and is told

    def holds(self, work: str) -> bool:
        """Whether this work's tasks are to be parked; any thread."""
        return work in self.works

    def suspect(self) -> None:
        """Something may have been paused or resumed: have a look; any thread."""
        self._suspected = True
        self._house.life.duty.wake()

    def know(self, works: Collection[str], began: float) -> None:
        """These are the paused works, as they were read from ``began`` on; any thread."""
        with self._guard:
            if began < self._known_at:
                return
            self._known_at = began
            resumed, self.works = self.works - frozenset(works), frozenset(works)
        if resumed:
            self._house.sync.look_parked()

    def look(self) -> None:
        """In the heartbeat's thread; blocks on the database."""
        house = self._house
        if house.closing or house.settings.client_only:
            return
        if not (self._suspected or house.holdings):
            return
        self._suspected = False
        began = house.clock.monotonic()
        self.know(house.repository.paused_works(), began)
        if not house.engine.dispatcher.held:
            return
        queues = frozenset(house.repository.paused_queues())
        if queues or self.works:
            house.loop.call_soon_threadsafe(self._hand_back, queues, self.works)

    def _hand_back(self, queues: frozenset[str], works: frozenset[str]) -> None:
        """Give back what has not started; on the loop."""
        house = self._house
        if house.closing:
            return
        for entry in house.engine.dispatcher.holding():
            if not isinstance(entry, Held):
                continue
            paused = entry.claimed.queue in queues or entry.claimed.work in works
            if paused and house.engine.dispatcher.withdraw(entry):
                house.intake.give_back(entry)
