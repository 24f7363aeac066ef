"""What is paused for all nodes, as this one knows it, and what it hands back for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rota.scheduler.executor import Held

if TYPE_CHECKING:
    from rota.app.house import House


class Holdback:
    """Looked at in each turn of the heartbeat's thread, about every second and when told.

    Claims leave paused queues out by themselves; what was claimed before is handed back.
    Tasks of paused works are parked by whoever claims them, and not claimed from there.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self.works: frozenset[str] = frozenset()

    def holds(self, work: str) -> bool:
        """Whether this work's tasks are to be parked; any thread."""
        return work in self.works

    def look(self) -> None:
        """In the heartbeat's thread; blocks on the database."""
        house = self._house
        if house.closing or house.settings.client_only:
            return
        works = frozenset(house.repository.paused_works())
        resumed, self.works = self.works - works, works
        if resumed:
            house.sync.look_parked()
        if not house.engine.dispatcher.held:
            return
        queues = frozenset(house.repository.paused_queues())
        if queues or works:
            house.loop.call_soon_threadsafe(self._hand_back, queues, works)

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
