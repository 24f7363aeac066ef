"""How the nodes that share one memory repository wake each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from rota.core.clock import Clock
from rota.core.task import Lane


@dataclass(frozen=True, slots=True)
class MemoryWakeup:
    """What was heard since the last wait."""

    lanes: tuple[Lane, ...] = ()
    tasks: tuple[str, ...] = ()
    everything: bool = False


class Exchange:
    """The open signals of all nodes; hands what one says to all the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: list[MemorySignals] = []

    def enter(self, ear: MemorySignals) -> None:
        with self._lock:
            self._ears.append(ear)

    def leave(self, ear: MemorySignals) -> None:
        with self._lock:
            if ear in self._ears:
                self._ears.remove(ear)

    def tell(
        self, sender: int, lanes: Sequence[Lane], tasks: Sequence[str], *, everything: bool
    ) -> None:
        with self._lock:
            ears = [ear for ear in self._ears if ear.node != sender]
        for ear in ears:
            ear.hear(lanes, tasks, everything=everything)


class MemorySignals:
    """One node's end of the exchange."""

    #: Beyond so many names a listener is told "everything" instead.
    BOUND = 1000

    def __init__(self, *, node: int, exchange: Exchange, clock: Clock) -> None:
        self.node = node
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._tasks: dict[str, None] = {}
        self._everything = False
        exchange.enter(self)

    @property
    def hears(self) -> bool:
        return True

    def announce(
        self, *, lanes: Sequence[Lane] = (), tasks: Sequence[str] = (), everything: bool = False
    ) -> None:
        if lanes or tasks or everything:
            self._exchange.tell(self.node, lanes, tasks, everything=everything)

    def hear(self, lanes: Sequence[Lane], tasks: Sequence[str], *, everything: bool) -> None:
        """Note what another node said; of one lane the earliest due moment."""
        with self._lock:
            for lane in lanes:
                known = self._lanes.get(lane[:2])
                if known is None or lane.due_in < known.due_in:
                    self._lanes[lane[:2]] = lane
            self._tasks.update(dict.fromkeys(tasks))
            self._everything |= everything
            if len(self._tasks) + len(self._lanes) > self.BOUND:
                self._everything = True
                self._lanes.clear()
                self._tasks.clear()
            self._event.set()

    def wait(self, timeout: float) -> MemoryWakeup | None:
        self._clock.wait(self._event, timeout)
        with self._lock:
            self._event.clear()
            heard = MemoryWakeup(tuple(self._lanes.values()), tuple(self._tasks), self._everything)
            self._lanes.clear()
            self._tasks.clear()
            self._everything = False
        return heard if heard != MemoryWakeup() else None

    def interrupt(self) -> None:
        self._event.set()

    def close(self) -> None:
        self._exchange.leave(self)
        self._event.set()
