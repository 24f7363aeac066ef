"""What the tests of recurring tasks stand on: databases whose time only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Self

import pytest

from rota import Context, Scheduler, WorkRegistry
from rota.control.recurrence import Recurring
from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.triggers import Every
from tests.conftest import BACKENDS, Database

__all__ = ["memory_stage", "note", "stage"]

PATIENCE = 20


class Stage:
    """A database on a clock that stands still; fire times count from ``zero``."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.database = database
        self.clock = clock
        self.repository: Repository = database.repository()
        self.zero: datetime = self.repository.now()

    def scheduler(self, works: WorkRegistry, **options: Any) -> Scheduler:
        """A node that days without a heartbeat do not kill."""
        return self.database.scheduler(works, **{"lease": 30 * 86_400, **options})

    def every(self, seconds: float) -> Every:
        return Every(seconds, self.zero)

    def at(self, seconds: float) -> datetime:
        return self.zero + timedelta(seconds=seconds)

    async def go(self, seconds: float) -> None:
        """Move the clock, and wait until nothing is left to decide."""
        self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        async def decided() -> bool:
            return not (await asyncio.to_thread(self.repository.due_recurring, 0.0, 1))[0]

        await until(decided)

    async def told(self, recurring: Recurring) -> list[tuple[str, float, int]]:
        """Decisions, oldest first: what, for which second, how many."""
        decisions = await recurring.decisions(1_000)
        return [
            (one.decision, round((one.fire_at - self.zero).total_seconds(), 3), one.count)
            for one in sorted(decisions, key=lambda one: (one.fire_at, one.decision))
        ]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0)


class Gate:
    """Works of this gate run until it lets them go, at the latest when its block ends."""

    def __init__(self, works: WorkRegistry, name: str = "hold") -> None:
        self.started = asyncio.Semaphore(0)
        self._open = asyncio.Semaphore(0)
        self._over = asyncio.Event()
        works.register(name)(self._hold)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.open()
        self.let_go(100)

    def open(self) -> None:
        """What starts from now on takes no time."""
        self._over.set()

    async def _hold(self) -> None:
        self.started.release()
        if not self._over.is_set():
            await self._open.acquire()

    async def running(self, count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.started.acquire()

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._open.release()


@pytest.fixture(params=BACKENDS)
def stage(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Iterator[Stage]:
    """Each of the three databases."""
    database = make_database(request.param, fake_clock)
    yield Stage(database, fake_clock)
    database.close()


@pytest.fixture
def memory_stage(fake_clock: FakeClock) -> Stage:
    """Memory only."""
    return Stage(Database("memory", MemoryRepository(clock=fake_clock), fake_clock), fake_clock)


@pytest.fixture
def note(works: WorkRegistry) -> list[tuple[Any, ...]]:
    """What the work ``note`` was run with."""
    ran: list[tuple[Any, ...]] = []

    @works.register("note")
    async def note(ctx: Context, n: int = 0) -> int:
        ran.append((ctx.recurring, ctx.fire_at, n))
        return n

    return ran
