"""Whoever waits for work is told of it where it really is: no poll comes within these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock
from rota.core.outcome import Release
from rota.testing.clock import FakeClock
from tests.app.callers import calling, default_driver
from tests.conftest import Database

NO_POLL = 600.0
PATIENCE = 20


@pytest.fixture(params=["memory", "postgres"])
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Database:
    """Those whose nodes tell each other; SQLite's see the file change."""
    return make_database(request.param, fake_clock)


async def _at_once_elsewhere(request: Any, call_next: Any) -> Any:
    return await call_next(request.replace(queue="moved", priority=7, delay=0.0))


async def test_after_a_commit_the_lane_the_chain_chose_is_told_of(durable: Database) -> None:
    works = WorkRegistry()

    @works.register("note")
    async def note(n: int) -> int:
        return n

    caller = f"{default_driver(durable)} connection"
    async with (
        durable.scheduler(
            works, queues=["moved"], poll=NO_POLL, middleware=[_at_once_elsewhere]
        ) as scheduler,
        calling(durable, caller) as mine,
    ):
        one = await scheduler.schedule("note", {"n": 1}, delay=3600, connection=mine.given)
        await mine.commit()
        assert await one.result(timeout=PATIENCE) == 1
        many = await scheduler.schedule_many(
            [("note", {"n": n}) for n in (2, 3)], delay=3600, connection=mine.given
        )
        await mine.commit()
        assert [await handle.result(timeout=PATIENCE) for handle in many] == [2, 3]


async def test_a_transaction_the_chain_took_a_task_out_of_is_not_waited_for(
    durable: Database,
) -> None:
    works = WorkRegistry()

    @works.register("note")
    async def note(n: int) -> int:
        return n

    async def by_itself(request: Any, call_next: Any) -> Any:
        return await call_next(request.replace(connection=None))

    caller = f"{default_driver(durable)} connection"
    async with (
        durable.scheduler(works, poll=NO_POLL, middleware=[by_itself]) as scheduler,
        calling(durable, caller) as mine,
    ):
        handle = await scheduler.schedule("note", {"n": 1}, connection=mine.given)
        assert await handle.result(timeout=PATIENCE) == 1


async def test_what_one_node_releases_another_hears_of(frozen: Database) -> None:
    """The clock stands still, so nobody looks by himself."""
    async with frozen.scheduler(_releasing(started := asyncio.Event(), go := asyncio.Event())) as a:
        await a.schedule("w")
        await started.wait()
        async with frozen.scheduler(_working(done := asyncio.Event())):
            go.set()
            await asyncio.wait_for(done.wait(), PATIENCE)


async def test_what_a_node_releases_a_puller_hears_of(frozen: Database) -> None:
    async with frozen.scheduler(_releasing(started := asyncio.Event(), go := asyncio.Event())) as a:
        handle = await a.schedule("w")
        await started.wait()
        waiting = asyncio.create_task(_claim(a))
        await a.claim(["none"])  # by then the first has looked and sleeps
        go.set()
        (pulled,) = await asyncio.wait_for(waiting, PATIENCE)
        assert pulled.id == handle.id
        await pulled.done()


async def _claim(scheduler: Scheduler) -> list[Any]:
    return list(await scheduler.claim(wait=3600))


def _releasing(started: asyncio.Event, go: asyncio.Event) -> WorkRegistry:
    works = WorkRegistry()

    @works.register("w")
    async def w() -> None:
        started.set()
        await go.wait()
        raise Release

    return works


def _working(done: asyncio.Event) -> WorkRegistry:
    works = WorkRegistry()

    @works.register("w")
    async def w() -> None:
        done.set()

    return works
