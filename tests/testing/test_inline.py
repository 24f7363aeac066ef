"""Inline mode: what is scheduled has run when the verb returns."""

from __future__ import annotations

from typing import Any

import pytest

from rota import Again, Context, Every, TaskState, WorkRegistry
from rota.errors import TaskFailed
from rota.testing import InlineBackgroundScheduler, InlineScheduler


async def test_the_handle_holds_the_outcome_due_or_not(works: WorkRegistry) -> None:
    @works.register("double")
    def double(n: int) -> int:
        return 2 * n

    async with InlineScheduler(works) as scheduler:
        handle = await scheduler.schedule("double", {"n": 4}, delay=3600)
        assert (await handle.info()).state is TaskState.DONE
        assert await handle.result() == 8
        assert scheduler.clock.offset == 0


async def test_retries_follow_at_once_and_a_failure_is_the_outcome(works: WorkRegistry) -> None:
    @works.register("broken", max_attempts=3)
    async def broken() -> None:
        raise ValueError("no")

    async with InlineScheduler(works) as scheduler:
        handle = await scheduler.schedule("broken")
        with pytest.raises(TaskFailed):
            await handle.result()
        assert [one.outcome for one in await handle.history()] == ["retry", "retry", "failed"]


async def test_nested_verbs_run_inside_and_again_once(works: WorkRegistry) -> None:
    order: list[str] = []

    @works.register("inner")
    async def inner() -> None:
        order.append("inner")

    @works.register("outer")
    async def outer(ctx: Context) -> None:
        order.append("outer begins")
        await ctx.spawn("inner")
        await scheduler.schedule("inner")
        order.append("outer ends")

    @works.register("round")
    async def again() -> Again:
        order.append("round")
        return Again(after=60)

    async with InlineScheduler(works) as scheduler:
        await scheduler.schedule_many([("outer", {}), ("round", {})])
        assert order == ["outer begins", "inner", "inner", "outer ends", "round"]
        await scheduler.add_recurring("every", "inner", Every(30))
        assert await scheduler.advance(30) == 1


async def test_an_unknown_work_or_a_task_met_does_not_hang(works: WorkRegistry) -> None:
    ran: list[int] = []

    @works.register("note")
    async def note() -> None:
        ran.append(1)

    async with InlineScheduler(works, allow_unknown=True) as scheduler:
        stranger = await scheduler.schedule("stranger", unique="k")
        assert (await stranger.info()).parked
        met = await scheduler.schedule("note", unique="k", on_conflict="return")
        assert (met.created, ran) == (False, [])
        soon = await scheduler.schedule_soon("note")
        await scheduler.flush()
        assert (await soon.info()).state is TaskState.DONE


@pytest.mark.parametrize("bind", [True, False])
def test_the_blocking_one(works: WorkRegistry, bind: bool) -> None:
    @works.register("double")
    async def double(n: int) -> int:
        return 2 * n

    what: Any = (double.bind(2),) if bind else ("double", {"n": 2})
    with InlineBackgroundScheduler(works) as scheduler:
        assert scheduler.schedule(*what).result() == 4
