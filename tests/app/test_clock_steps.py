"""The database's clock jumps: leases and times go with it, and nothing counts twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from rota import Context, Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.core.events import Died, Event, Finished
from tests.app.holding import Held, opened
from tests.conftest import BACKENDS, Database

PATIENCE = 20
HOUR = 3600.0


class Stepping(SystemClock):
    """The machine's clocks; the database's can be set, by which no interval is longer."""

    offset = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.offset)


@pytest.fixture
def clock() -> Stepping:
    return Stepping()


@pytest.fixture(params=BACKENDS)
def stepping(
    request: pytest.FixtureRequest, make_database: Callable[..., Database], clock: Stepping
) -> Iterator[Database]:
    made = make_database(request.param, clock)
    yield made
    made.close()


class Holding:
    """A work that runs until it is let go; the tokens it ran under."""

    def __init__(self, works: WorkRegistry) -> None:
        self.started = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        self.tokens: list[object] = []

        @works.register("hold")
        async def hold(ctx: Context) -> str:
            self.tokens.append(ctx.token)
            self.started.release()
            await self.go_on.wait()
            return "well"

        @works.register("note")
        async def note() -> str:
            return "well"

    async def running(self) -> None:
        await asyncio.wait_for(self.started.acquire(), PATIENCE)


async def test_forward_past_every_lease(
    stepping: Database, clock: Stepping, works: WorkRegistry
) -> None:
    """All leases are over at once: a node that is buried for it comes back as another."""
    held, told = Holding(works), asyncio.Event()
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, Died):
            told.set()

    mine, witness = opened(stepping), stepping.repository()
    beat = Held(mine, "beat")
    options = {"lease": 3, "heartbeat": 1, "on_event": hear, "clock": clock}
    async with Scheduler(works, mine, **options) as one:
        handle = await one.schedule("hold")
        await held.running()
        async with stepping.scheduler(works, **options) as other:
            before = {one.node, other.node}
            beat.node = one.node
            beat.hold()  # else it may say that it lives before anybody looks
            clock.offset += HOUR
            async with asyncio.timeout(PATIENCE):
                while one.node in {view.id for view in await asyncio.to_thread(witness.nodes)}:
                    await asyncio.sleep(0)
                beat.let_go()
                await told.wait()
            held.go_on.set()
            assert await other.handle(handle.id).result(timeout=PATIENCE) == "well"
            after = await other.schedule("note")
            assert await after.result(timeout=PATIENCE) == "well"
            assert {one.node, other.node} != before
            ended = [item.outcome for item in await handle.history()]
    assert ended.count("done") == 1
    accepted = [
        event
        for event in events
        if isinstance(event, Finished)
        and event.task == handle.id
        and event.state is not None
        and event.ending.terminal  # a buried node may still release what nobody has taken back
    ]
    assert len(accepted) == 1


async def test_backward_by_an_hour(
    stepping: Database, clock: Stepping, works: WorkRegistry
) -> None:
    """Nobody's lease is over, and what is scheduled now is due now."""
    held = Holding(works)
    async with stepping.scheduler(works, lease=3, heartbeat=1) as scheduler:
        node = scheduler.node
        handle = await scheduler.schedule("hold")
        await held.running()
        clock.offset -= HOUR
        later = [await scheduler.schedule("note") for _ in range(5)]
        for one in later:
            assert await one.result(timeout=PATIENCE) == "well"
        held.go_on.set()
        assert await handle.result(timeout=PATIENCE) == "well"
        assert scheduler.node == node
    assert len(held.tokens) == 1
