"""The manual scheduler: nothing runs unasked, everything due runs when asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rota import Again, Backoff, BlockingContext, Context, Every, TaskState, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.events import Event, Finished
from rota.errors import InvalidArgument, TaskCancelled
from rota.testing import FakeClock, ManualBackgroundScheduler, ManualScheduler
from tests.conftest import BACKENDS, Database

Manual = Callable[..., ManualScheduler]


@pytest.fixture(params=BACKENDS)
def manual(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    works: WorkRegistry,
) -> Manual:
    """Makes manual schedulers on one database, of each kind."""
    made = make_database(request.param, FakeClock())

    def make(**options: Any) -> ManualScheduler:
        options = {"clock": made.clock, **made.options, **options}
        return ManualScheduler(works, made.target, **options)

    return make


@pytest.fixture
def ran(works: WorkRegistry) -> list[str]:
    """What the work ``note`` was called with."""
    notes: list[str] = []

    @works.register("note")
    async def note(text: str) -> str:
        notes.append(text)
        return text

    return notes


async def test_nothing_runs_before_it_is_told_to(manual: Manual, ran: list[str]) -> None:
    async with manual() as scheduler:
        handle = await scheduler.schedule("note", {"text": "now"})
        await scheduler.schedule("note", {"text": "later"}, delay=60)
        assert (await handle.info()).state is TaskState.SCHEDULED
        assert await scheduler.run_due() == 1
        assert ran == ["now"]
        assert await scheduler.advance(50) == 0
        assert await scheduler.advance(10) == 1
        assert ran == ["now", "later"]
        assert await handle.result() == "now"


async def test_advance_runs_each_attempt_at_its_moment(manual: Manual, works: WorkRegistry) -> None:
    moments: list[float] = []
    clock: FakeClock

    @works.register("flaky", max_attempts=3, backoff=Backoff(first=600, max=1200, jitter="none"))
    async def flaky() -> str:
        moments.append(clock.offset)
        if len(moments) < 3:
            raise ConnectionError
        return "well"

    async with manual() as scheduler:
        clock = scheduler.clock
        handle = await scheduler.schedule("flaky", delay=3600)
        assert await scheduler.advance(timedelta(days=2)) == 3
        assert clock.offset == 2 * 86_400
        assert await handle.result() == "well"
    # A database's own clock goes on underneath, by what the test takes.
    assert moments == pytest.approx([3600, 4200, 5400], abs=30)


async def test_recurring_tasks_fire_as_the_clock_passes(manual: Manual, ran: list[str]) -> None:
    async with manual() as scheduler:
        await scheduler.add_recurring("hourly", "note", Every(3600), {"text": "tick"})
        # Whenever in the hour it begins, three hours have three ticks; a minute more may have four.
        assert await scheduler.advance(timedelta(hours=3)) == 3
        assert ran == ["tick"] * 3


async def test_what_expires_on_the_way_is_cancelled(manual: Manual, ran: list[str]) -> None:
    async with manual(queues=["served"]) as scheduler:
        handle = await scheduler.schedule("note", {"text": "x"}, queue="other", expires=60)
        assert await scheduler.advance(3600) == 0
        with pytest.raises(TaskCancelled):
            await handle.result()
    assert ran == []


async def test_what_a_run_puts_in_runs_too_while_it_waits(works: WorkRegistry) -> None:
    @works.register("child")
    async def child() -> int:
        return 20

    @works.register("parent", queue="parents")
    async def parent(ctx: Context) -> int:
        handle = await ctx.spawn("child")
        return 1 + int(await handle.result())

    async with ManualScheduler(works) as scheduler:
        handle = await scheduler.schedule("parent")
        assert await scheduler.run_due() == 2
        assert await handle.result() == 21


async def test_more_than_there_are_slots_run_in_order(works: WorkRegistry, ran: list[str]) -> None:
    async with ManualScheduler(works, concurrency=1) as scheduler:
        for n in range(5):
            await scheduler.schedule("note", {"text": str(n)}, priority=n)
        assert await scheduler.run_due() == 5
    assert ran == ["4", "3", "2", "1", "0"]


async def test_works_nobody_knows_wait_and_block_nothing(
    works: WorkRegistry, ran: list[str]
) -> None:
    async with ManualScheduler(works, allow_unknown=True) as scheduler:
        stranger = await scheduler.schedule("stranger", priority=9)
        await scheduler.schedule("note", {"text": "mine"})
        assert await scheduler.run_due() == 1
        assert await scheduler.run_due() == 0
        assert (await stranger.info()).parked
    assert ran == ["mine"]


async def test_what_never_ends_without_time_is_named(works: WorkRegistry) -> None:
    @works.register("circle")
    async def circle() -> Again:
        return Again()

    async with ManualScheduler(works) as scheduler:
        await scheduler.schedule("circle")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rota.testing.manual.MOST_RUNS", 20)
            with pytest.raises(RuntimeError, match="20 attempts ran and more are due"):
                await scheduler.run_due()


async def test_what_waits_for_the_clock_is_named_and_left_at_shutdown(works: WorkRegistry) -> None:
    @works.register("waits")
    async def waits() -> None:
        await asyncio.Event().wait()

    async with ManualScheduler(works, patience=0.1) as scheduler:
        handle = await scheduler.schedule("waits")
        with pytest.raises(RuntimeError, match=rf"waits \({handle.id}\) did not end within 0.1"):
            await scheduler.run_due()


async def test_a_timeout_is_reached_by_moving_the_clock_meanwhile(works: WorkRegistry) -> None:
    started = asyncio.Event()

    @works.register("slow", timeout=30)
    async def slow() -> None:
        started.set()
        await asyncio.Event().wait()

    async with ManualScheduler(works) as scheduler:
        handle = await scheduler.schedule("slow")
        running = asyncio.ensure_future(scheduler.run_due())
        await started.wait()
        scheduler.clock.advance(30)
        assert await running == 1
        assert (await handle.info()).state is TaskState.FAILED


async def test_events_and_a_restart_are_as_ever(manual: Manual, ran: list[str]) -> None:
    events: list[Event] = []
    async with manual(on_event=events.append) as scheduler:
        await scheduler.schedule("note", {"text": "a"})
        await scheduler.schedule_soon("note", {"text": "b"})
        assert await scheduler.run_due() == 2
    assert len([event for event in events if isinstance(event, Finished)]) == 2
    async with manual() as first:
        waiting = await first.schedule("note", {"text": "kept"}, delay=5)
    async with manual() as second:
        assert second.restored.waiting == 1
        assert await second.advance(5) == 1
        assert await second.handle(waiting.id).result() == "kept"


def test_the_blocking_one_runs_plain_and_coroutine_works(works: WorkRegistry) -> None:
    threads: list[str] = []

    @works.register("plain")
    def plain(ctx: BlockingContext, n: int) -> int:
        threads.append(threading.current_thread().name)
        ctx.report(n)
        return 2 * n

    @works.register("coroutine")
    async def coroutine() -> str:
        return "well"

    with ManualBackgroundScheduler(works) as scheduler:
        one = scheduler.schedule("plain", {"n": 4})
        other = scheduler.schedule("coroutine", delay=10)
        assert scheduler.run_due() == 1
        assert threads
        assert scheduler.advance(10) == 1
        assert (one.result(), other.result()) == (8, "well")
        assert scheduler.clock.offset == 10


def test_a_clock_nobody_can_move_is_refused(works: WorkRegistry) -> None:
    with pytest.raises(InvalidArgument, match="give a FakeClock") as met:
        ManualScheduler(works, clock=SystemClock())
    assert met.value.field == "clock"
