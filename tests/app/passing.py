"""Time that passes for schedulers on a fake clock: step by step, each once all is at rest."""

from __future__ import annotations

import asyncio
import math

from rota import Scheduler
from rota.app.house import House
from rota.testing.clock import FakeClock

PATIENCE = 20.0


class Passing:
    """Moves the clock for these schedulers, whose threads and loop keep up with it."""

    def __init__(self, clock: FakeClock, *schedulers: Scheduler) -> None:
        self._clock = clock
        self._houses = [house_of(scheduler) for scheduler in schedulers]
        # Where nodes share memory the listener waits on the clock, too.
        self._threads = sum(5 if not one.repository.durable else 4 for one in self._houses)

    async def by(self, seconds: float, step: float = 0.25) -> None:
        """Let so much time pass."""
        for _ in range(math.ceil(seconds / step)):
            self._clock.advance(step)
            await self.rest()

    async def rest(self) -> None:
        """Wait until nobody does anything any more at the present time."""
        await asyncio.to_thread(self._clock.block_until, self._threads)
        for house in self._houses:
            if house.keeper._duty is not None:  # a turn of house-keeping takes its own time
                await asyncio.to_thread(house.keeper.join, PATIENCE)
        while any(house.firing._until == -math.inf for house in self._houses):
            await asyncio.sleep(0)


def house_of(scheduler: Scheduler) -> House:
    """What a scheduler that was started is made of."""
    found = scheduler._house
    assert found is not None
    return found
