"""A restart over a million future tasks; as a script, this file is the process that restarts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import rota
from benchmarks.memory import peak_mb
from benchmarks.noops import COROUTINE, PATIENCE, SLICE, Runs, noop_works, put
from benchmarks.place import Place, WrongResult

ROOT = Path(__file__).resolve().parents[1]
#: Future tasks are spread over so many hours, from the next one on.
HOURS = 20
#: The node stays so long after its first run, in seconds: its memory is taken at the end.
STAYS = 3.0


async def restore(place: Place, *, tasks: int) -> dict[str, Any]:
    """From a node's start to the run of the one task that is due, and the memory it takes.

    Growth is against the same process on the same database without the future tasks.
    """
    empty = await _restart(place)
    loading = await _fill(place, tasks)
    place.settle()
    full = await _restart(place)
    waiting = place.value("select count(*) from {s}rota_task where state = 0")
    if waiting != tasks:
        raise WrongResult(f"{waiting} of {tasks} future tasks wait after the restart")
    return {
        "first_run_ms": full["first_run_ms"],
        "rss_growth_mb": round(full["rss_mb"] - empty["rss_mb"], 1),
        "rss_mb": full["rss_mb"],
        "empty_first_run_ms": empty["first_run_ms"],
        "insert_per_s": round(waiting / loading),
        "tasks": tasks,
    }


async def _fill(place: Place, tasks: int) -> float:
    """Put the future tasks in; how many seconds that took."""
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        began = time.perf_counter()
        for n, first in enumerate(range(0, tasks, SLICE)):
            slice_of = [(COROUTINE, dict[str, Any]())] * min(SLICE, tasks - first)
            await client.schedule_many(slice_of, delay=timedelta(hours=1 + n % HOURS))
        return time.perf_counter() - began


async def _restart(place: Place) -> dict[str, Any]:
    await put(place, 1)
    command = [sys.executable, "-m", "benchmarks.restore", json.dumps([place.url, place.options])]
    ended = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


async def _node(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Start, run what is due, stay a little."""
    ran: list[float] = []
    runs = Runs(1)

    def note() -> None:
        ran.append(time.perf_counter())
        runs.note()

    works = noop_works(note)
    began = time.perf_counter()
    async with rota.Scheduler(works, url, **options):
        async with asyncio.timeout(PATIENCE):
            await runs.all.wait()
        await asyncio.sleep(STAYS)
    return {
        "first_run_ms": round((ran[0] - began) * 1000, 1),
        "rss_mb": peak_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_node(*json.loads(sys.argv[1])))))
