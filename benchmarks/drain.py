"""Drain due no-op tasks on one node, verified done in the database."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import rota

works = rota.WorkRegistry()


@works.register("bench.noop")
async def noop() -> None:
    """Nothing, as a coroutine."""


@works.register("bench.plain")
def plain() -> None:
    """Nothing, as a plain function in a thread."""


async def drain(
    url: str | None,
    *,
    tasks: int = 20_000,
    concurrency: int = 500,
    work: str = "bench.noop",
    **options: Any,
) -> dict[str, Any]:
    """Put the tasks in, start one node, wait until the database says all are done."""
    async with rota.Scheduler(works, url, queues=[], **options) as client:
        began = time.perf_counter()
        for first in range(0, tasks, 2_000):
            count = min(2_000, tasks - first)
            await client.schedule_many([(work, {})] * count)
        inserted = time.perf_counter() - began
    cpu = time.process_time()
    began = time.perf_counter()
    async with rota.Scheduler(works, url, concurrency=concurrency, **options) as node:
        while sum((await node.counts()).values()):
            await asyncio.sleep(0.02)
        took = time.perf_counter() - began
        cpu = time.process_time() - cpu
    return {
        "tasks_per_s": round(tasks / took),
        "insert_per_s": round(tasks / inserted),
        "cpu_us_per_task": round(cpu / tasks * 1e6, 1),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "tasks": tasks,
        "concurrency": concurrency,
    }
