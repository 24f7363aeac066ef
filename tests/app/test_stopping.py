"""One scheduler on each database: cancels, time limits, refusals."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime

import pytest

import rota
from rota import BlockingContext, WorkRegistry
from rota.errors import (
    InvalidArgument,
    InvalidParams,
    ResultTimeout,
    SchedulerNotRunning,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnknownWork,
)
from tests.conftest import Database


async def test_a_waiting_task_is_cancelled_at_once(database: Database, works: WorkRegistry) -> None:
    @works.register("never")
    async def never() -> None:
        raise AssertionError("a cancelled task ran")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(never.bind(), delay=3600)
        assert await handle.cancel("not needed") == "cancelled"
        with pytest.raises(TaskCancelled, match="not needed"):
            await handle.result(timeout=20)
        assert await handle.cancel("again") == "cancelled"


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_running_task_is_asked_to_stop(
    database: Database, works: WorkRegistry, kind: str
) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    @works.register("coroutine")
    async def in_loop() -> None:
        started.set()
        await asyncio.Event().wait()

    @works.register("thread")
    def in_thread(ctx: BlockingContext) -> None:
        loop.call_soon_threadsafe(started.set)
        assert ctx.wait(30)
        raise RuntimeError("stopped half-way")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(kind)
        await started.wait()
        assert await handle.cancel("enough") == "requested"
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result(timeout=20)


async def test_a_value_returned_after_a_cancel_counts(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Event()

    @works.register("stubborn")
    async def stubborn() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished anyway"
        return "never"

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(stubborn.bind())
        await started.wait()
        await handle.cancel("stop")
        assert await handle.result(timeout=20) == "finished anyway"


async def test_a_timeout_ends_the_attempt_while_the_thread_goes_on(
    database: Database, works: WorkRegistry
) -> None:
    release = threading.Event()

    @works.register("slow", timeout=0.1)
    def slow() -> str:
        release.wait(30)
        return "too late"

    @works.register("deaf", timeout=0.1)
    async def deaf() -> None:
        await asyncio.Event().wait()

    async with database.scheduler(works, concurrency=2) as scheduler:
        handle = await scheduler.schedule(slow.bind())
        with pytest.raises(TaskFailed, match=r"timeout of 0\.1 s"):
            await handle.result(timeout=20)
        with pytest.raises(TaskFailed, match=r"timeout of 0\.1 s"):
            await (await scheduler.schedule(deaf.bind())).result(timeout=20)
        release.set()

        assert (await handle.info()).state == "failed"


async def test_what_expires_is_cancelled_without_running(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("never")
    async def never() -> None:
        raise AssertionError("an expired task ran")

    async with database.scheduler(works, queues=[]) as client:
        handle = await client.schedule(never.bind(), expires=0)
        async with database.scheduler(works):
            with pytest.raises(TaskCancelled, match="expired"):
                await handle.result(timeout=20)


async def test_waiting_for_a_result_has_an_end(database: Database, works: WorkRegistry) -> None:
    @works.register("later")
    async def later() -> None:
        pass

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(later.bind(), delay=3600)
        with pytest.raises(ResultTimeout):
            await handle.result(timeout=0.05)
        with pytest.raises(TaskNotFound):
            await scheduler.handle(rota.derive_id("nothing")).result(timeout=1)


async def test_what_is_refused_leaves_nothing_behind(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("add")
    async def add(a: int) -> int:
        return a

    naive = datetime(2026, 1, 1)
    async with database.scheduler(works) as scheduler:
        for error, field, call in (
            (InvalidParams, "a", lambda: scheduler.schedule("add", {"a": "x"})),
            (InvalidParams, "a", lambda: scheduler.schedule("add", {})),
            (InvalidArgument, "at", lambda: scheduler.schedule("add", {"a": 1}, at=naive)),
            (InvalidArgument, "delay", lambda: scheduler.schedule("add", {"a": 1}, delay=-1)),
            (InvalidArgument, "queue", lambda: scheduler.schedule("add", {"a": 1}, queue="A b")),
            (
                InvalidArgument,
                "priority",
                lambda: scheduler.schedule("add", {"a": 1}, priority=1000),
            ),
            (InvalidArgument, "id", lambda: scheduler.schedule("add", {"a": 1}, id="order-77")),
            (InvalidArgument, "unique", lambda: scheduler.schedule("add", {"a": 1}, unique="")),
            (
                InvalidParams,
                "meta.x",
                lambda: scheduler.schedule("add", {"a": 1}, meta={"x": "\x00"}),
            ),
        ):
            with pytest.raises(error) as caught:
                await call()
            assert caught.value.field == field
        with pytest.raises(UnknownWork):
            await scheduler.schedule("ad", {"a": 1})
        assert sum((await scheduler.counts()).values()) == 0


async def test_a_stopped_scheduler_says_so(works: WorkRegistry) -> None:
    scheduler = rota.Scheduler(works)
    with pytest.raises(SchedulerNotRunning, match="start"):
        await scheduler.counts()
