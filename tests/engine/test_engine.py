"""The engine by itself: calls at their time, in a coroutine or a thread, until it stops."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from datetime import UTC, datetime, timedelta

import pytest

from rota.errors import InvalidArgument, SchedulerNotRunning
from rota.scheduler import Engine
from rota.testing.clock import FakeClock
from tests.engine.parts import turns

PATIENCE = 20.0


async def test_a_call_happens_at_its_instant_and_gives_its_result(fake_clock: FakeClock) -> None:
    async with Engine(clock=fake_clock) as engine:
        call = engine.call_at(fake_clock.now() + timedelta(seconds=60), max, 3, 7)
        past = engine.call_at(datetime(2020, 1, 1, tzinfo=UTC), min, 3, 7)
        assert await past.wait() == 3
        fake_clock.advance(59.9)
        await turns()
        assert not call.done
        fake_clock.advance(0.1)
        assert await call.wait() == 7
        assert await call.wait() == 7


async def test_coroutines_run_on_the_loop_and_plain_functions_in_threads() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def twice(n: int) -> int:
        return 2 * n

    async with Engine() as engine:
        assert await engine.call_later(0, where).wait() == threading.current_thread().name
        thread = await engine.call_later(0, threading.current_thread).wait()
        assert thread.name.startswith("rota-work")
        assert thread.daemon
        assert await engine.call_later(0, functools.partial(twice, 4)).wait() == 8


@pytest.mark.parametrize(
    "error", [ValueError("a"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_what_a_call_raises_is_raised_by_wait_and_the_slot_returns(
    kind: str, error: BaseException
) -> None:
    async def in_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    async with Engine(concurrency=1) as engine:
        call = engine.call_later(0, in_loop if kind == "coroutine" else in_thread)
        with pytest.raises(type(error)) as caught:
            await call.wait()
        assert caught.value is error is call.error
        assert await engine.call_later(0, max, 1, 2).wait() == 2


async def test_before_its_time_a_call_can_be_cancelled(fake_clock: FakeClock) -> None:
    ran: list[int] = []
    async with Engine(clock=fake_clock) as engine:
        call = engine.call_later(10, ran.append, 1)
        waiter = asyncio.ensure_future(call.wait())
        await turns()
        assert call.cancel() is True
        assert call.cancel() is False
        fake_clock.advance(20)
        with pytest.raises(asyncio.CancelledError):
            await waiter
        with pytest.raises(asyncio.CancelledError):
            await call.wait()
    assert ran == []


async def test_a_running_coroutine_is_cancelled() -> None:
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    async with Engine(concurrency=1) as engine:
        call = engine.call_later(0, forever)
        await started.wait()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.wait()
        assert await engine.call_later(0, max, 1, 2).wait() == 2
        assert engine.dispatcher.freed == 2


async def test_a_call_cancelled_right_after_its_start_gives_its_slot_back() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async with Engine(concurrency=1) as engine:
        call = engine.call_later(0, forever)
        while not call.started:
            await asyncio.sleep(0)
        assert call.cancel()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await call.wait()
            assert await engine.call_later(0, max, 1, 2).wait() == 2


async def test_a_cancelled_thread_keeps_its_slot_until_it_ends() -> None:
    loop = asyncio.get_running_loop()
    inside, release = asyncio.Event(), threading.Event()

    def stubborn() -> None:
        loop.call_soon_threadsafe(inside.set)
        release.wait(PATIENCE)

    async with Engine(concurrency=1) as engine:
        call = engine.call_later(0, stubborn)
        await inside.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.wait()
        after = engine.call_later(0, max, 1, 2)
        await turns()
        assert (engine.dispatcher.running, engine.dispatcher.overdue) == (1, 1)
        assert not after.started
        release.set()
        assert await after.wait() == 2


async def test_cancelling_who_waits_does_not_touch_the_call(fake_clock: FakeClock) -> None:
    async with Engine(clock=fake_clock) as engine:
        call = engine.call_later(1, max, 1, 2)
        impatient, patient = (asyncio.ensure_future(call.wait()) for _ in range(2))
        await turns()
        impatient.cancel()
        await turns()
        fake_clock.advance(1)
        assert await patient == 2
        assert impatient.cancelled()


async def test_higher_priority_goes_first() -> None:
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)

    async with Engine(concurrency=1) as engine:
        low = engine.call_later(0, note, "low", priority=-1)
        engine.call_later(0, note, "high", priority=1)
        await low.wait()
    assert order == ["high", "low"]


async def test_arguments_are_checked(fake_clock: FakeClock) -> None:
    for value in (0, -1, 1.5, "2", True, None):
        with pytest.raises(InvalidArgument, match="concurrency"):
            Engine(concurrency=value)  # type: ignore[arg-type]
    engine = Engine(clock=fake_clock)
    for use in (
        lambda: engine.call_later(0, print),
        lambda: engine.timer,
        lambda: engine.threads,
        lambda: engine.dispatcher,
    ):
        with pytest.raises(SchedulerNotRunning, match="start"):
            use()
    async with engine:
        with pytest.raises(InvalidArgument, match="naive"):
            engine.call_at(datetime(2026, 1, 1), print)
        with pytest.raises(InvalidArgument, match="delay"):
            engine.call_later(-1, print)
        with pytest.raises(InvalidArgument, match="concurrency"):
            engine.concurrency = 0
        with pytest.raises(InvalidArgument, match="timeout"):
            await engine.stop(-1)
        assert await engine.call_later(0, max, 1, 2).wait() == 2


async def test_the_concurrency_may_change_while_it_runs() -> None:
    gate, running, three = asyncio.Event(), 0, asyncio.Event()

    async def count() -> None:
        nonlocal running
        running += 1
        if running == 3:
            three.set()
        await gate.wait()

    async with Engine(concurrency=1) as engine:
        for _ in range(4):
            engine.call_later(0, count)
        await turns()
        assert running == 1
        engine.concurrency = 3
        await three.wait()
        await turns()
        assert (running, engine.concurrency) == (3, 3)
        gate.set()


async def test_starting_twice_is_starting_once() -> None:
    engine = Engine()
    engine.start()
    call = engine.call_later(0, max, 1, 2)
    async with engine:
        assert await call.wait() == 2


async def test_stopping_lets_what_runs_end_and_cancels_what_waits(fake_clock: FakeClock) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        started.set()
        await gate.wait()
        return "ended"

    engine = Engine(concurrency=1, clock=fake_clock)
    engine.start()
    runs, ripe = engine.call_later(0, slow), engine.call_later(0, slow)
    timed = engine.call_later(60, slow)
    await started.wait()
    stopping = asyncio.ensure_future(engine.stop())
    await turns()
    assert not stopping.done()
    with pytest.raises(SchedulerNotRunning):
        engine.call_later(0, print)
    gate.set()
    await stopping
    assert await runs.wait() == "ended"
    for call in (ripe, timed):
        with pytest.raises(asyncio.CancelledError):
            await call.wait()
        assert call.cancel() is False
    await engine.stop()


async def test_past_its_timeout_stopping_cancels_what_still_runs(fake_clock: FakeClock) -> None:
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    engine = Engine(clock=fake_clock)
    engine.start()
    call = engine.call_later(0, forever)
    await started.wait()
    stopping = asyncio.ensure_future(engine.stop(timeout=5))
    await turns()
    fake_clock.advance(4.9)
    await turns()
    assert not stopping.done()
    fake_clock.advance(0.1)
    await stopping
    with pytest.raises(asyncio.CancelledError):
        await call.wait()


async def test_it_can_be_started_again_after_stopping() -> None:
    engine = Engine()
    for _ in range(2):
        async with engine:
            assert await engine.call_later(0, max, 1, 2).wait() == 2


VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_runs_see_a_copy_of_the_context_at_start(kind: str) -> None:
    async def in_loop() -> str:
        seen = VARIABLE.get()
        VARIABLE.set("changed by a run")
        return seen

    def in_thread() -> str:
        seen = VARIABLE.get()
        VARIABLE.set("changed by a run")
        return seen

    function = in_loop if kind == "coroutine" else in_thread
    VARIABLE.set("at start")
    async with Engine() as engine:
        VARIABLE.set("afterwards")
        seen = [await engine.call_later(0, function).wait() for _ in range(3)]
    assert seen == ["at start"] * 3
    assert VARIABLE.get() == "afterwards"
