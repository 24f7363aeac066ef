"""What a node's memory takes for held tasks whose params are read only when they run.

Each figure comes from a process of its own: one that puts the tasks in, then one node that
holds all of them and runs none. Run as a script, this file is such a process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import rota
from benchmarks.memory import peak_mb, resident_mb

works = rota.WorkRegistry()
ROOT = Path(__file__).resolve().parents[1]
SIZE = 10_000
#: The tasks are due in so many seconds: held within the look-ahead, run by nobody.
DUE_IN = 3_600
LOOK_AHEAD = 2 * DUE_IN


@works.register("bench.text")
async def text(value: str) -> None:
    """Nothing; its params are what is measured."""


class Case(NamedTuple):
    """One node: how long the params of its tasks are, and when they are read."""

    size: int
    lazy: bool
    tasks: int

    @property
    def queue(self) -> str:
        return f"lazy-{self.size}-{int(self.lazy)}"


async def lazy(url: str, *, tasks: int = 20_000, **options: Any) -> dict[str, Any]:
    """The resident memory with large params, read late and at once, against empty ones."""
    cases = {
        "empty": Case(0, lazy=True, tasks=tasks),
        "lazy": Case(SIZE, lazy=True, tasks=tasks),
        "eager": Case(SIZE, lazy=False, tasks=tasks),
    }
    figures = {name: _measured(url, case, options) for name, case in cases.items()}
    return {
        "ratio": round(figures["lazy"]["rss_mb"] / figures["empty"]["rss_mb"], 3),
        "peak_ratio": round(figures["lazy"]["peak_mb"] / figures["empty"]["peak_mb"], 3),
        "tasks": tasks,
        "params_bytes": SIZE,
        **figures,
    }


def _measured(url: str, case: Case, options: dict[str, Any]) -> dict[str, Any]:
    for act in ("put", "hold"):
        asked = json.dumps([act, url, case, options])
        command = [sys.executable, "-m", "benchmarks.lazy", asked]
        said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    figures: dict[str, Any] = json.loads(said)
    return figures


async def _put(url: str, case: Case, options: dict[str, Any]) -> dict[str, Any]:
    """Put the tasks in, all due at one time."""
    async with rota.Scheduler(works, url, queues=[], **options) as client:
        for first in range(0, case.tasks, 500):
            count = min(500, case.tasks - first)
            batch = [text.bind("x" * case.size)] * count
            await client.schedule_many(batch, queue=case.queue, delay=DUE_IN)
    return {"put": case.tasks}


async def _hold(url: str, case: Case, options: dict[str, Any]) -> dict[str, Any]:
    """Claim all of them ahead of their time and say what that takes.

    Of what is not due yet a node holds as many as may run at once.
    """
    node = rota.Scheduler(
        works,
        url,
        queues=[case.queue],
        concurrency=case.tasks,
        look_ahead=LOOK_AHEAD,
        lazy_params=case.lazy,
        **options,
    )
    async with node:
        while (await node.health()).held < case.tasks:
            await asyncio.sleep(0.05)
        gc.collect()
        return {
            "rss_mb": resident_mb(),
            "peak_mb": peak_mb(),
        }


def _main() -> None:
    act, url, case, options = json.loads(sys.argv[1])
    run = {"put": _put, "hold": _hold}[act]
    print(json.dumps(asyncio.run(run(url, Case(*case), options))))


if __name__ == "__main__":
    _main()
