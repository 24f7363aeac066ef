"""What the engine's tests stand on: a dispatcher on a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from rota.scheduler.dispatcher import Dispatcher, Entry
from rota.scheduler.timer import Timer
from rota.testing.clock import FakeClock


async def turns(count: int = 25) -> None:
    """Let the loop do what it has in hand, and what follows from it."""
    for _ in range(count):
        await asyncio.sleep(0)


class Floor:
    """Timer and dispatcher, and the order in which things started."""

    def __init__(
        self,
        *,
        concurrency: int = 2,
        limits: Mapping[str, int] | None = None,
        on_free: Callable[[], object] = lambda: None,
        **how: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = FakeClock()
        self.allowed = True
        self.started: list[Probe] = []
        self.timer = Timer(loop=loop, clock=self.clock)
        self.dispatcher = Dispatcher(
            loop=loop,
            clock=self.clock,
            timer=self.timer,
            concurrency=concurrency,
            limits=limits,
            may_start=lambda: self.allowed,
            on_free=on_free,
            **how,
        )

    def add(self, name: str = "", *, wait: float = 0.0, **how: Any) -> Probe:
        """Hold one entry, due in so many seconds."""
        probe = Probe(self, name, self.clock.monotonic() + wait, **how)
        self.dispatcher.add([probe])
        return probe

    @property
    def names(self) -> list[str]:
        return [probe.name for probe in self.started]


class Probe(Entry):
    """Runs until told to end; may leave something behind, or raise."""

    __slots__ = ("ending", "floor", "gate", "leaves", "name")

    def __init__(self, floor: Floor, name: str, due: float, **how: Any) -> None:
        super().__init__(due, **how)
        self.floor = floor
        self.name = name
        self.gate = asyncio.Event()
        self.leaves: asyncio.Future[object] | None = None
        self.ending: BaseException | None = None

    async def run(self) -> None:
        dispatcher = self.floor.dispatcher
        assert dispatcher.running <= dispatcher.concurrency
        self.floor.started.append(self)
        await self.gate.wait()
        self.lingering = self.leaves
        if self.ending is not None:
            raise self.ending
