"""Seed 002 (gokugen), flaws from 11 on; the table is in ``test_gokugen.py``."""

from __future__ import annotations

import asyncio

import pytest

from rota import (
    Again,
    BlockingContext,
    Context,
    WorkRegistry,
)
from rota.errors import (
    StaleVersion,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    WrongState,
)
from tests.conftest import Database


# 002.11 [R]: a cancel during a run did not stop what came after (9 runs instead of 1).
async def test_a_cancel_ends_a_task_that_would_run_again(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[int] = []
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("forever")
    async def forever() -> None:
        ran.append(1)
        started.set()
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        raise Again(after=0)

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(forever.bind())
        await started.wait()
        assert await handle.cancel("enough") == "requested"
        gate.set()
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result(timeout=20)
    assert ran == [1]


# 002.13 [r]: memory and SQLite disagreed about what may be changed, and about the error.
async def test_an_update_means_the_same_everywhere(database: Database, works: WorkRegistry) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold(n: int = 0) -> None:
        started.set()
        await gate.wait()

    async with database.scheduler(works) as scheduler:
        waiting = await scheduler.schedule(hold.bind(), delay=3600)
        changed = await waiting.update(priority=7, params={"n": 3}, expected_version=1)
        assert (changed.priority, changed.params, changed.version) == (7, {"n": 3}, 2)
        with pytest.raises(StaleVersion):
            await waiting.update(priority=8, expected_version=1)
        handle = await scheduler.schedule(hold.bind())
        await started.wait()
        with pytest.raises(WrongState) as working:
            await handle.update(delay=5)
        gate.set()
        await handle.result(timeout=20)
        with pytest.raises(WrongState) as done:
            await handle.update(delay=5)
        with pytest.raises(TaskNotFound):
            await scheduler.update("00000000-0000-4000-8000-000000000000", delay=5)
        await waiting.cancel()
        with pytest.raises(WrongState) as cancelled:
            await waiting.update(delay=5)
    states = [caught.value.state for caught in (working, done, cancelled)]
    assert states == ["working", "done", "cancelled"]


# 002 HEAD [r]: a start took back what all the others were running.
async def test_a_node_that_starts_leaves_the_others_alone(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[int] = []
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("long")
    async def long(ctx: Context) -> None:
        ran.append(ctx.attempt)
        started.set()
        await gate.wait()

    async with database.scheduler(works) as first:
        handle = await first.schedule(long.bind())
        await started.wait()
        token = (await handle.info()).batch
        async with database.scheduler(works) as second:
            report = await second.restore(wait=0)
            assert (report.rescued, report.buried, report.interrupted) == (0, 0, [])
            info = await second.info(handle.id)
            assert (info.state, info.node, info.batch) == ("working", first.node, token)
        gate.set()
        await handle.result(timeout=20)
    assert ran == [1]


# 002 HEAD [r]: with a cancelled context the result could not be recorded.
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_the_end_of_a_cancelled_run_is_recorded(
    database: Database, works: WorkRegistry, kind: str
) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    @works.register("coroutine")
    async def coroutine() -> None:
        started.set()
        await asyncio.Event().wait()

    @works.register("thread")
    def thread(ctx: BlockingContext) -> None:
        loop.call_soon_threadsafe(started.set)
        ctx.wait(60)
        raise RuntimeError("stopped")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(kind)
        await started.wait()
        assert await handle.cancel("enough") == "requested"
        with pytest.raises((TaskCancelled, TaskFailed), match="enough"):
            await handle.result(timeout=20)
        info = await handle.info()
        assert (info.state, info.reason) == ("cancelled", "enough")
        assert sum((await scheduler.counts()).values()) == 0
