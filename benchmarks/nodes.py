"""Drain with several node processes; run as a script, this file is one of them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rota
from benchmarks.drain import CONCURRENCY
from benchmarks.noops import PATIENCE, noop_works, put
from benchmarks.place import Place

ROOT = Path(__file__).resolve().parents[1]
FLEETS = (2, 4)


async def drain_nodes(
    place: Place, *, tasks: int, fleets: Sequence[int] = FLEETS
) -> dict[str, Any]:
    """The tasks drained by 2, then as many by 4 nodes; each process has its imports behind it."""
    figures: dict[str, Any] = {"tasks": tasks, "concurrency": CONCURRENCY}
    drained = 0
    for count in fleets:
        await put(place, tasks)
        place.settle()
        fleet = await asyncio.gather(*(_process(place) for _ in range(count)))
        try:
            began = time.perf_counter()
            await _say(fleet, b"go\n")
            drained += tasks
            await _until_done(place, drained)
            took = time.perf_counter() - began
        finally:
            await _end(fleet)
        place.verify_done(drained)
        figures[f"tasks_per_s_{count}"] = round(tasks / took)
    return figures


async def _process(place: Place) -> Process:
    """A node's process, about to start its scheduler."""
    asked = json.dumps([place.url, place.options])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.nodes", asked, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise RuntimeError("a node's process ended before it was ready")
    return process


async def _say(fleet: Sequence[Process], line: bytes) -> None:
    for process in fleet:
        assert process.stdin is not None
        process.stdin.write(line)
        await process.stdin.drain()


async def _until_done(place: Place, tasks: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while place.done() < tasks:
            await asyncio.sleep(0.005)


async def _end(fleet: Sequence[Process]) -> None:
    for process in fleet:
        assert process.stdin is not None
        process.stdin.close()
    for process in fleet:
        if await process.wait():
            raise RuntimeError(f"a node's process ended with {process.returncode}")


async def _serve(url: str, options: dict[str, Any]) -> None:
    """One node: it starts at the word and stops when its input is closed."""
    works = noop_works()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with rota.Scheduler(works, url, concurrency=CONCURRENCY, **options):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(*json.loads(sys.argv[1])))
