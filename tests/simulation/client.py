"""What the service in a process asks of its scheduler, at moments and in an order of the seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rota.core.context import Token
from rota.core.ids import derive_id
from rota.errors import (
    DuplicateTask,
    InvalidTrigger,
    LeaseLost,
    NodeDead,
    RotaError,
    SchedulerNotRunning,
    StorageUnavailable,
    WrongState,
)
from rota.triggers import Every
from tests.simulation.loops import BEGAN

if TYPE_CHECKING:
    from tests.simulation.process import Process

WORKS = ["play", "play", "play", "brief", "thread", "rare"]
ACTS = [
    "done", "done", "done", "retry", "error", "again", "release", "spawn", "report", "stubborn",
    "fail", "cancel",
]  # fmt: skip
#: What a verb may raise in such a world.
EXPECTED = (
    StorageUnavailable,
    WrongState,
    DuplicateTask,
    LeaseLost,
    NodeDead,
    SchedulerNotRunning,
)


class Client:
    """Asks until told to stop; ``known`` are the ids of tasks, of all processes together."""

    def __init__(self, process: Process, rng: random.Random, known: dict[str, int]) -> None:
        self._process = process
        self._rng = rng
        self._known = known
        self._verbs: list[tuple[int, Callable[[], Awaitable[object]]]] = [
            (40, self.schedule),
            (8, self.schedule_many),
            (8, self.schedule_same),
            (8, self.schedule_unique),
            (5, self.schedule_and_update),
            (4, self.schedule_with_follow_up),
            (10, self.cancel),
            (4, self.pause),
            (6, self.pull),
            (5, self.recur),
            (2, self.run_now),
        ]
        self.busy = True
        self._going: set[asyncio.Task[None]] = set()

    async def act(self) -> None:
        weights = [weight for weight, _ in self._verbs]
        while self.busy:
            await asyncio.sleep(self._rng.expovariate(1.0))
            if not self.busy:
                return
            (_, verb), *_ = self._rng.choices(self._verbs, weights)
            # On their own, so that a slow answer does not keep the others from being asked.
            going = asyncio.create_task(self._say(verb))
            self._going.add(going)
            going.add_done_callback(self._going.discard)

    async def _say(self, verb: Callable[[], Awaitable[object]]) -> None:
        ledger = self._process.ledger
        ledger.trace(self._process.name, "asks", verb.__name__)
        try:
            await verb()
        except EXPECTED as error:
            ledger.trace(self._process.name, "is told", type(error).__name__)
        except (RotaError, RuntimeError, AssertionError) as error:
            if not self._process.leaving and not self._process.dead:
                ledger.broken("verb_failed", verb.__name__, repr(error))

    def _params(self) -> dict[str, Any]:
        rng = self._rng
        plan = [rng.choice(ACTS) for _ in range(rng.choice([1, 1, 2, 3]))]
        return {"plan": plan, "lasts": rng.choice([0.0, 0.0, 0.05, 0.3, 1.0, 2.5])}

    def _options(self) -> dict[str, Any]:
        rng = self._rng
        options: dict[str, Any] = {"queue": rng.choice(["mail", "mail", "slow"])}
        options["allow_unknown"] = True
        if rng.random() < 0.5:
            options["delay"] = rng.choice([0.3, 1.0, 2.0, 4.0])
        if rng.random() < 0.2:
            options["priority"] = rng.choice([-10, 10])
        if rng.random() < 0.05:
            options["expires"] = 3.0
        return options

    def _noted(self, handle: Any, *, timed: bool = True) -> None:
        if handle.created:
            self._known[handle.id] = 1
            self._process.ledger.acknowledged(handle.id, timed=timed)

    async def schedule(self) -> None:
        work = self._rng.choice(WORKS)
        self._noted(await self._process.scheduler.schedule(work, self._params(), **self._options()))

    async def schedule_many(self) -> None:
        tasks = [("play", self._params()) for _ in range(self._rng.randint(2, 8))]
        for handle in await self._process.scheduler.schedule_many(tasks, **self._options()):
            self._noted(handle)

    async def schedule_same(self) -> None:
        """An id of the caller's own, asked again and again by several."""
        task_id = derive_id("same", self._rng.randrange(4))
        handle = await self._process.scheduler.schedule(
            "play", self._params(), id=task_id, on_conflict="return"
        )
        self._noted(handle)

    async def schedule_unique(self) -> None:
        conflict: Any = self._rng.choice(["raise", "return", "replace"])
        handle = await self._process.scheduler.schedule(
            "play",
            self._params(),
            unique=f"key{self._rng.randrange(2)}",
            on_conflict=conflict,
            **self._options(),
        )
        self._noted(handle, timed=False)

    async def schedule_and_update(self) -> None:
        options = {**self._options(), "delay": 6.0}
        handle = await self._process.scheduler.schedule("play", self._params(), **options)
        self._noted(handle, timed=False)
        await asyncio.sleep(self._rng.uniform(0, 6))
        await handle.update(delay=self._rng.choice([0.0, 1.0]), priority=5)

    async def schedule_with_follow_up(self) -> None:
        then = self._process.scheduler.works.find("play").bind(plan=["done"])  # type: ignore[union-attr]
        handle = await self._process.scheduler.schedule(
            "play", self._params(), on_done=then, on_failed=then, **self._options()
        )
        self._noted(handle)

    async def cancel(self) -> None:
        if self._known:
            ids = list(self._known)
            await self._process.scheduler.cancel(ids[int(self._rng.random() * len(ids))])

    async def run_now(self) -> None:
        if self._known:
            ids = list(self._known)
            await self._process.scheduler.run_now(ids[int(self._rng.random() * len(ids))])

    async def pause(self) -> None:
        queue = self._rng.choice(["mail", "slow"])
        await self._process.scheduler.pause_queue(queue, "for a while")
        await asyncio.sleep(self._rng.uniform(0.2, 3.0))
        await self._process.scheduler.resume_queue(queue)

    async def pull(self) -> None:
        for task in await self._process.scheduler.claim(["mail"], 2, lease=2.0):
            await asyncio.sleep(self._rng.choice([0.0, 0.5, 2.5]))
            match self._rng.randrange(5):
                case 0:
                    await task.fail("as planned", after=0.2)
                case 1:
                    await task.release()
                case 2:
                    continue  # forgotten: its lease runs out
                case _:
                    held = Token(task._lease.owner, task._claimed.batch)
                    self._process.acts(task.id, held)
                    await task.done()

    async def recur(self) -> None:
        """One of a few definitions, always the same content; the first to say it counts."""
        n, end = self._rng.randrange(3), BEGAN + timedelta(seconds=self._process.weather.until)
        catchup, overlap = (("all", "allow"), ("latest", "skip"), ("all", "queue"))[n]
        rules: dict[str, Any] = {"catchup": catchup, "overlap": overlap}
        with contextlib.suppress(InvalidTrigger):  # its end is too near
            await self._process.scheduler.add_recurring(
                f"every{n}",
                "play",
                Every(1.0 + n / 2, anchor=BEGAN),
                {"plan": ["done"], "lasts": 0.3},
                end=end,
                **rules,
            )
