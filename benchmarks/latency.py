"""From ``schedule`` to the start of the run; as a script, this file is who schedules."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import rota
from benchmarks.figures import in_ms
from benchmarks.noops import PATIENCE
from benchmarks.place import Place

ROOT = Path(__file__).resolve().parents[1]
PER_SECOND = 20
WORK = "bench.latency"


async def latency(place: Place, *, tasks: int) -> dict[str, Any]:
    """20 tasks a second: scheduled by the node itself, then half as many by another process.

    The monotonic clock is the machine's, so that both ends can be in different processes.
    """
    waits: list[float] = []
    works = _works(waits)
    async with rota.Scheduler(works, place.url, **place.options) as node:
        await _schedule(node, tasks)
        await _until(waits, tasks)
        own, others = list(waits), max(1, tasks // 2)
        asked = json.dumps([place.url, place.options, others])
        command = [sys.executable, "-m", "benchmarks.latency", asked]
        client = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        if await client.wait():
            raise RuntimeError(f"the process that schedules ended with {client.returncode}")
        await _until(waits, tasks + others)
    return {
        **in_ms(own),
        **in_ms(waits[tasks:], prefix="other_process_"),
        "tasks": tasks,
        "scheduled_per_s": PER_SECOND,
    }


def _works(waits: list[float]) -> rota.WorkRegistry:
    works = rota.WorkRegistry()

    @works.register(WORK)
    async def note(sent: float) -> None:
        waits.append(time.monotonic() - sent)

    return works


async def _schedule(scheduler: rota.Scheduler, tasks: int) -> None:
    began = time.monotonic()
    for n in range(tasks):
        await asyncio.sleep(max(0.0, began + n / PER_SECOND - time.monotonic()))
        await scheduler.schedule(WORK, {"sent": time.monotonic()})


async def _until(waits: list[float], tasks: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(waits) < tasks:
            await asyncio.sleep(0.02)


async def _client(url: str, options: dict[str, Any], tasks: int) -> None:
    async with rota.Scheduler(_works([]), url, queues=[], **options) as client:
        await _schedule(client, tasks)


if __name__ == "__main__":
    asyncio.run(_client(*json.loads(sys.argv[1])))
