"""The engine alone, and the scheduler in memory: no database."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import rota
from benchmarks.drain import CONCURRENCY
from benchmarks.noops import COROUTINE, PATIENCE, Runs, noop_works
from benchmarks.place import WrongResult
from rota.scheduler import Engine

FAR = timedelta(hours=1)
#: What is to fire is added at this pace, at worst, and due after that.
ADDED_PER_S, MARGIN = 50_000, 0.5
#: Of the calls, so many are scheduled as tasks in memory.
SHARE = 5


async def timers(_: object, *, tasks: int) -> dict[str, Any]:
    """``call_at``, its firing and cancelling, so many of each; ``schedule`` in memory."""
    added, cancelled = await _add_and_cancel(tasks)
    fired = await _fire(tasks)
    scheduled, count = await _schedule(max(1, tasks // SHARE)), max(1, tasks // SHARE)
    return {
        "add_per_s": round(tasks / added),
        "fire_per_s": round(tasks / fired),
        "cancel_per_s": round(tasks / cancelled),
        "tasks_per_s": round(count / scheduled),
        "calls": tasks,
        "tasks": count,
        "concurrency": CONCURRENCY,
    }


async def _nothing() -> None:
    """What the engine calls and never should."""


async def _add_and_cancel(calls: int) -> tuple[float, float]:
    async with Engine(concurrency=CONCURRENCY) as engine:
        when = datetime.now(UTC) + FAR
        began = time.perf_counter()
        made = [engine.call_at(when, _nothing) for _ in range(calls)]
        added = time.perf_counter() - began
        began = time.perf_counter()
        for call in made:
            call.cancel()
        return added, time.perf_counter() - began


async def _fire(calls: int) -> float:
    """From the due instant of all of them until the last one's call."""
    runs = Runs(calls)

    async def note() -> None:
        runs.note()

    async with Engine(concurrency=CONCURRENCY) as engine:
        wait = calls / ADDED_PER_S + MARGIN
        due = time.perf_counter() + wait
        when = datetime.now(UTC) + timedelta(seconds=wait)
        for _ in range(calls):
            engine.call_at(when, note)
        if time.perf_counter() > due:
            raise WrongResult("adding the calls took longer than until their time")
        async with asyncio.timeout(PATIENCE):
            await runs.all.wait()
        return time.perf_counter() - due


async def _schedule(tasks: int) -> float:
    async with rota.Scheduler(noop_works()) as scheduler:
        began = time.perf_counter()
        for _ in range(tasks):
            await scheduler.schedule(COROUTINE, delay=FAR)
        return time.perf_counter() - began
