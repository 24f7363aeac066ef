"""One process of the simulated world: a whole scheduler of rota's, and what its service asks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from rota import Scheduler, WorkRegistry
from rota.core.context import Facts, Token
from rota.errors import StorageUnavailable
from rota.storage.memory import MemoryRepository
from rota.testing import history
from tests.simulation.client import Client
from tests.simulation.faults import FaultyRepository, Weather
from tests.simulation.ledger import Ledger
from tests.simulation.loops import NodeClock, VirtualLoop
from tests.simulation.turns import Host, Turns

LEASE, HEARTBEAT = 3.0, 1.0


def a_skew(rng: random.Random) -> float:
    """By how many seconds a wall clock is wrong: a little, or up to an hour."""
    most: float = rng.choice([1.0, 60.0, 3600.0])
    return rng.uniform(-most, most)


class Process(Host):
    """Begins with ``boot``; ends by ``crash``, or by a shutdown of its own."""

    def __init__(
        self,
        name: str,
        *,
        turns: Turns,
        shared: MemoryRepository,
        weather: Weather,
        ledger: Ledger,
        works: WorkRegistry,
        rng: random.Random,
        tasks: dict[str, int],
        settings: dict[str, Any],
    ) -> None:
        super().__init__(name)
        self.turns = turns
        self.ledger = ledger
        self.weather = weather
        self.settings = settings
        self.running: dict[str, int] = {}
        self.clock = NodeClock(
            turns, skew=rng.choice([0.0, a_skew(rng)]), booted=rng.uniform(0, 1e6)
        )
        self.repository = FaultyRepository(
            shared=shared, turns=turns, host=self, weather=weather, ledger=ledger
        )
        self.loop = VirtualLoop(turns, self)
        self.loop.set_exception_handler(self._unhandled)
        self.scheduler = Scheduler(
            works,
            self.repository,
            name=name,
            lease=LEASE,
            heartbeat=HEARTBEAT,
            clock=self.clock,  # type: ignore[arg-type]
            **settings,
        )
        self.client = Client(self, rng, tasks)
        self.up = False
        self.leaving = False  #: it was told to end, and has not yet
        self._runs: dict[str, int] = {}
        self._incarnations: set[int] = set()
        self._main: asyncio.Task[None] | None = None

    def boot(self, runs: dict[str, int]) -> None:
        """Start the scheduler; ``runs`` counts the runs of each task, in all processes."""
        self._runs = runs
        self._main = self.loop.create_task(self._serve(), name="main")
        self.turns.ready(self.loop)

    def crash(self) -> None:
        """Gone without a word; what it has sent arrives all the same."""
        self.dead = True
        self.up = self.leaving = False
        for ear in self.repository.ears:
            ear.close()

    def shut_down(self, timeout: float) -> None:
        """End in good order; ``dead`` when it has."""
        self.up = False
        self.leaving = True
        self.loop.call_soon(lambda: self.loop.create_task(self._leave(timeout), name="leaving"))
        self.turns.ready(self.loop)

    async def _serve(self) -> None:
        try:
            await self.scheduler.start()
        except StorageUnavailable:
            self.crash()
            return
        self.up = True
        await self.client.act()

    async def _leave(self, timeout: float) -> None:
        if self._main is not None:
            self._main.cancel()
        await self.scheduler.shutdown(timeout)
        self.crash()

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.turns.failures.append(f"{self.name}: {context['message']}: {error!r}")

    # --- the stage of its works -----------------------------------------------------------

    def enters(self, context: Facts, plan: list[str]) -> str:
        task_id, token = context.task_id, context.token
        if token.node not in self._incarnations:
            self._incarnations.add(token.node)
            self._tell_limits(token.node)
        self.ledger.started(task_id, context.attempt, token, context.queue)
        self.running[context.queue] = self.running.get(context.queue, 0) + 1
        self._check_limits(context)
        done = self._runs.get(task_id, 0)
        self._runs[task_id] = done + 1
        return plan[done] if done < len(plan) else "done"

    def acts(self, task_id: str, token: Token) -> None:
        self.ledger.tell(history.Effect(task_id, token, self.turns.now))

    def leaves(self, context: Facts) -> None:
        self.running[context.queue] -= 1
        self.ledger.tell(history.Stopped(context.task_id, context.token, self.turns.now))

    def _tell_limits(self, node: int) -> None:
        queues = self.settings["queues"] or {}
        limits = {None: self.settings["concurrency"], **queues}
        for queue, limit in limits.items():
            if limit is not None:
                self.ledger.tell(history.Limited(node, limit, self.turns.now, queue))

    def _check_limits(self, context: Facts) -> None:
        """Over all incarnations, too: what a dead one left running keeps its slot."""
        queues = self.settings["queues"]
        limit = queues.get(context.queue) if isinstance(queues, dict) else None
        if limit is not None and self.running[context.queue] > limit:
            self.ledger.broken("limit", context.task_id, f"{self.running} of {queues}")
        if sum(self.running.values()) > self.settings["concurrency"]:
            self.ledger.broken("concurrency", context.task_id, str(self.running))
