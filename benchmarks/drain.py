"""Drain due no-op tasks on one node, verified done in the database."""

from __future__ import annotations

import time
from typing import Any

import rota
from benchmarks.memory import forget_peak, peak_mb
from benchmarks.noops import COROUTINE, PLAIN, Runs, noop_works, put
from benchmarks.place import Place

CONCURRENCY = 500


async def drain(place: Place, *, tasks: int, work: str = COROUTINE) -> dict[str, Any]:
    """Put the tasks in, start one node, wait until the database says all are done.

    The time counts from before the node's start.
    """
    inserted = await put(place, tasks, work=work)
    place.settle()
    forget_peak()
    runs = Runs(tasks)
    works = noop_works(runs.note)
    cpu = time.process_time()
    began = time.perf_counter()
    async with rota.Scheduler(works, place.url, concurrency=CONCURRENCY, **place.options):
        started = time.perf_counter() - began
        await runs.done(place)
        took = time.perf_counter() - began
        cpu = time.process_time() - cpu
    place.verify_done(tasks)
    return {
        "tasks_per_s": round(tasks / took),
        "insert_per_s": round(tasks / inserted),
        "cpu_us_per_task": round(cpu / tasks * 1e6, 1),
        "rss_mb": peak_mb(),
        "start_ms": round(started * 1000, 1),
        "tasks": tasks,
        "concurrency": CONCURRENCY,
    }


async def drain_threads(place: Place, *, tasks: int) -> dict[str, Any]:
    """The same with plain functions, which run in threads."""
    return await drain(place, tasks=tasks, work=PLAIN)
