"""How fast tasks are put in: one after the other, by many callers, and in bulk."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import rota
from benchmarks.noops import COROUTINE, noop_works
from benchmarks.place import Place, WrongResult

CALLERS = 64


async def enqueue(place: Place, *, tasks: int) -> dict[str, Any]:
    """One caller that awaits each ``schedule`` before the next."""
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        began = time.perf_counter()
        for _ in range(tasks):
            await client.schedule(COROUTINE)
        took = time.perf_counter() - began
    return _figures(place, tasks, took)


async def concurrent(place: Place, *, tasks: int) -> dict[str, Any]:
    """Many callers at once, each of which awaits its own ``schedule`` before the next."""
    left = iter(range(tasks))
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:

        async def call() -> None:
            for _ in left:
                await client.schedule(COROUTINE)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        took = time.perf_counter() - began
    return {**_figures(place, tasks, took), "callers": CALLERS}


async def bulk(place: Place, *, tasks: int) -> dict[str, Any]:
    """One ``schedule_many``: one transaction."""
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        wanted: list[tuple[str, dict[str, Any]]] = [(COROUTINE, {})] * tasks
        began = time.perf_counter()
        await client.schedule_many(wanted)
        took = time.perf_counter() - began
    return _figures(place, tasks, took)


def _figures(place: Place, tasks: int, took: float) -> dict[str, Any]:
    stored = place.value("select count(*) from {s}rota_task where state = 0")
    if stored != tasks:
        raise WrongResult(f"{stored} of {tasks} tasks are in the database")
    return {"tasks_per_s": round(tasks / took), "tasks": tasks}
