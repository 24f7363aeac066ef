"""Time limits and cancels end a run's wait, whatever the work does; its slot waits for the work."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from rota import BlockingContext, Context, Scheduler, WorkRegistry
from rota.core.outcome import Done, Outcome
from rota.core.run import ExecuteNext, Run
from rota.errors import TaskCancelled, TaskFailed
from rota.scheduler.dispatcher import Dispatcher
from rota.testing.clock import FakeClock
from tests.middleware.parts import PATIENCE, House, turns


def slots(scheduler: Scheduler) -> Dispatcher:
    assert scheduler._house is not None
    return scheduler._house.engine.dispatcher


async def test_a_coroutine_is_cancelled_at_its_limit_and_not_before(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @works.register("slow", timeout=5)
    async def slow(ctx: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert ctx.cancelled
            assert ctx.cancel_reason == "ran longer than 5 s"
            ended.set()

    async with House(works, clock=fake_clock) as scheduler:
        handle = await scheduler.schedule(slow.bind())
        await started.wait()
        fake_clock.advance(4.9)
        await turns()
        assert not ended.is_set()
        fake_clock.advance(0.1)
        with pytest.raises(TaskFailed, match=r"RunTimeout: ran longer than its timeout of 5 s"):
            await handle.result()
        await ended.wait()
        await turns()
        assert (slots(scheduler).running, slots(scheduler).overdue) == (0, 0)


async def test_a_run_can_ask_how_much_time_is_left(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    loop = asyncio.get_running_loop()
    asked, go = asyncio.Event(), asyncio.Event()

    @works.register("limited", timeout=5)
    async def limited(ctx: Context) -> list[float | None]:
        told = [ctx.time_remaining]
        asked.set()
        await go.wait()
        return [*told, ctx.time_remaining]

    @works.register("thread", timeout=7)
    def thread(ctx: BlockingContext) -> float | None:
        loop.call_soon_threadsafe(asked.set)
        return ctx.time_remaining

    @works.register("free")
    async def free(ctx: Context) -> float | None:
        return ctx.time_remaining

    async with House(works, clock=fake_clock) as scheduler:
        handle = await scheduler.schedule(limited.bind())
        await asked.wait()
        fake_clock.advance(3)
        go.set()
        assert await handle.result() == [5.0, 2.0]
        assert await (await scheduler.schedule(thread.bind())).result() == 7.0
        assert await (await scheduler.schedule(free.bind())).result() is None


async def test_a_thread_past_its_limit_is_told_keeps_its_slot_and_its_result_is_dropped(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    loop = asyncio.get_running_loop()
    inside, told, release = asyncio.Event(), asyncio.Event(), threading.Event()
    after_ran = asyncio.Event()

    @works.register("slow", timeout=5)
    def slow(ctx: BlockingContext) -> str:
        loop.call_soon_threadsafe(inside.set)
        if ctx.wait(PATIENCE):
            loop.call_soon_threadsafe(told.set)
        assert release.wait(PATIENCE)
        return "too late"

    @works.register("after")
    async def after() -> None:
        after_ran.set()

    async with House(works, clock=fake_clock, concurrency=1) as scheduler:
        handle = await scheduler.schedule(slow.bind())
        await inside.wait()
        fake_clock.advance(5)
        with pytest.raises(TaskFailed, match="timeout of 5 s"):
            await handle.result()
        await told.wait()
        await scheduler.schedule(after.bind())
        await turns(100)
        assert (slots(scheduler).running, slots(scheduler).overdue) == (1, 1)
        assert not after_ran.is_set()
        release.set()
        await after_ran.wait()
        assert slots(scheduler).overdue == 0
        info = await handle.info()
        assert (info.state, info.result) == ("failed", None)


async def test_a_coroutine_that_swallows_the_cancel_keeps_its_slot_and_its_result_is_dropped(
    works: WorkRegistry, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    started, release, after_ran = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @works.register("deaf", timeout=5)
    async def deaf() -> str:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    @works.register("after")
    async def after() -> None:
        after_ran.set()

    caplog.set_level("INFO", "rota.middleware")
    async with House(works, clock=fake_clock, concurrency=1) as scheduler:
        handle = await scheduler.schedule(deaf.bind())
        await started.wait()
        fake_clock.advance(5)
        with pytest.raises(TaskFailed, match="timeout of 5 s"):
            await handle.result()
        await scheduler.schedule(after.bind())
        await turns(100)
        assert slots(scheduler).overdue == 1
        assert not after_ran.is_set()
        release.set()
        await after_ran.wait()
        assert (await handle.info()).state == "failed"
        assert len(await handle.history()) == 1
    assert "late result" in caplog.text


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_with_or_without_a_limit_nothing_a_work_raises_ends_the_loop(
    works: WorkRegistry, fake_clock: FakeClock, limit: float | None, error: BaseException
) -> None:
    @works.register("boom", timeout=limit)
    async def boom() -> None:
        raise error

    async with House(works, clock=fake_clock, concurrency=1) as scheduler:
        for _ in range(2):
            with pytest.raises(TaskFailed, match=type(error).__name__):
                await (await scheduler.schedule(boom.bind())).result()
        assert slots(scheduler).running == 0


@pytest.mark.parametrize("limit", [None, 60])
@pytest.mark.parametrize("then", ["cancelled", "value", "error"])
async def test_a_cancel_reaches_the_work_through_the_limit(
    works: WorkRegistry, fake_clock: FakeClock, limit: float | None, then: str
) -> None:
    started = asyncio.Event()

    @works.register("work", timeout=limit, max_attempts=5)
    async def work() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "value":
                return "finished anyway"
            if then == "error":
                raise ValueError("on the way out") from None
            raise
        return "never"

    async with House(works, clock=fake_clock) as scheduler:
        handle = await scheduler.schedule(work.bind())
        await started.wait()
        assert await handle.cancel("enough") == "requested"
        if then == "value":
            assert await handle.result() == "finished anyway"
        else:
            with pytest.raises(TaskCancelled, match="enough"):
                await handle.result()
        info = await handle.info()
        assert ("on the way out" in str(info.error)) is (then == "error")
        assert len(await handle.history()) == 1


async def test_a_cancel_that_is_ignored_ends_at_the_limit(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @works.register("deaf", timeout=5)
    async def deaf() -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with House(works, clock=fake_clock) as scheduler:
        handle = await scheduler.schedule(deaf.bind())
        await started.wait()
        await handle.cancel("enough")
        fake_clock.advance(5)
        with pytest.raises(TaskCancelled, match="enough"):
            await handle.result()
        release.set()


@pytest.mark.parametrize("limit", [None, 60])
async def test_a_thread_left_behind_by_a_middleware_keeps_its_slot(
    works: WorkRegistry, fake_clock: FakeClock, limit: float | None
) -> None:
    """A cancel that rota did not send: the attempt fails, the thread goes on in its slot."""
    loop = asyncio.get_running_loop()
    inside, release, after_ran = asyncio.Event(), threading.Event(), asyncio.Event()

    async def impatient(run: Run, call_next: ExecuteNext) -> Outcome:
        rest: asyncio.Task[Any] = asyncio.ensure_future(call_next(run))  # type: ignore[arg-type]
        if run.work == "slow":
            await inside.wait()
            rest.cancel()
        return await rest

    @works.register("slow", timeout=limit)
    def slow(ctx: BlockingContext) -> bool:
        loop.call_soon_threadsafe(inside.set)
        assert ctx.wait(PATIENCE)
        return release.wait(PATIENCE)

    @works.register("after")
    async def after() -> None:
        after_ran.set()

    async with House(works, impatient, clock=fake_clock, concurrency=1) as scheduler:
        handle = await scheduler.schedule(slow.bind())
        with pytest.raises(TaskFailed, match="CancelledError"):
            await handle.result()
        await scheduler.schedule(after.bind())
        await turns(100)
        assert (slots(scheduler).running, slots(scheduler).overdue) == (1, 1)
        assert not after_ran.is_set()
        release.set()
        await after_ran.wait()


async def test_the_alarm_of_a_run_that_ended_in_time_is_gone(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    @works.register("quick", timeout=3600)
    async def quick() -> str:
        return "in time"

    async with House(works, clock=fake_clock) as scheduler:
        assert await (await scheduler.schedule(quick.bind())).result() == "in time"
        assert scheduler._house is not None
        assert len(scheduler._house.engine.timer) == 0


async def test_a_middleware_of_yours_is_inside_the_limit(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    started = asyncio.Event()

    async def slow_too(run: Run, call_next: ExecuteNext) -> Outcome:
        started.set()
        await asyncio.Event().wait()
        return Done()

    @works.register("quick", timeout=5)
    async def quick() -> None: ...

    async with House(works, slow_too, clock=fake_clock) as scheduler:
        handle = await scheduler.schedule(quick.bind())
        await started.wait()
        fake_clock.advance(5)
        with pytest.raises(TaskFailed, match="timeout of 5 s"):
            await handle.result()
