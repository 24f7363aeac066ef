"""How soon tasks start: right after they were scheduled, at their time, and many at one time."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import rota
from benchmarks.drain import CONCURRENCY
from benchmarks.figures import in_ms
from benchmarks.noops import PATIENCE, Runs, noop_works, put
from benchmarks.place import Place, WrongResult
from benchmarks.stalls import Stalls

#: Due instants a second, and how far ahead the first is.
PER_SECOND, AHEAD = 30, 2.5
#: Two clocks of one machine may differ by so much.
EARLY = 0.0005
#: What is expected, at worst, of filling the database before the instant of a burst.
FILLED_PER_S, WARM_UP = 10_000, 5.0
#: The node is there so long before the instant.
NODE_BEFORE = 1.5


async def timing(place: Place, *, tasks: int) -> dict[str, Any]:
    """Distinct due instants, 30 in a second on average: from due to started, on an idle node."""
    late: list[float] = []
    all_ran = asyncio.Event()
    works = rota.WorkRegistry()

    @works.register("bench.due")
    async def due(at: float) -> None:
        late.append(time.time() - at)
        if len(late) == tasks:
            all_ran.set()

    chance = random.Random(6)
    async with rota.Scheduler(works, place.url, **place.options) as node:
        first = time.time() + AHEAD
        instants = sorted(first + chance.random() * tasks / PER_SECOND for _ in range(tasks))
        await node.schedule_many([_due_at(instant) for instant in instants])
        async with asyncio.timeout(PATIENCE):
            await all_ran.wait()
    if min(late) < -EARLY:
        raise WrongResult(f"a task started {-min(late) * 1000:.3f} ms before its time")
    return {**in_ms(late), "max_ms": round(max(late) * 1000, 2), "tasks": tasks}


def _due_at(instant: float) -> rota.TaskSpec:
    at = datetime.fromtimestamp(instant, UTC)
    return rota.TaskSpec("bench.due", {"at": at.timestamp()}, {"at": at})


async def burst(place: Place, *, tasks: int) -> dict[str, Any]:
    """Tasks all due at one instant: the loop's longest stall from then until all are done.

    Twice: as Python comes, and with what the process had at its start left out of garbage
    collection, as `rota run` does it and the page on deployment asks services to.
    """
    as_it_comes = await _burst(place, tasks, before=0)
    gc.collect()
    gc.freeze()
    frozen = await _burst(place, tasks, before=tasks)
    gc.unfreeze()
    return {
        "stall_ms": frozen["stall_ms"],
        "unfrozen_stall_ms": as_it_comes["stall_ms"],
        **{key: value for key, value in frozen.items() if key != "stall_ms"},
    }


async def _burst(place: Place, tasks: int, *, before: int) -> dict[str, Any]:
    """One of them; ``before`` tasks are in history already."""
    moment = datetime.now(UTC) + timedelta(seconds=WARM_UP + tasks / FILLED_PER_S)
    await put(place, tasks, at=moment)
    place.settle()
    left = _seconds_until(moment)
    if left < NODE_BEFORE:
        raise RuntimeError(f"putting {tasks} tasks in took too long: {left:.1f} s are left")
    runs = Runs(tasks, before=before)
    await asyncio.sleep(left - NODE_BEFORE)
    works = noop_works(runs.note)
    async with rota.Scheduler(works, place.url, concurrency=CONCURRENCY, **place.options):
        async with Stalls() as calm:
            await asyncio.sleep(max(0.0, _seconds_until(moment) - 0.05))
        async with Stalls() as stalls:
            await asyncio.sleep(max(0.0, _seconds_until(moment)))
            began = time.perf_counter()
            await runs.done(place)
            took = time.perf_counter() - began
    place.verify_done(before + tasks)
    return {
        "stall_ms": stalls.longest_ms,
        "stall_p99_ms": in_ms(stalls.seen)["p99_ms"],
        "calm_stall_ms": calm.longest_ms,
        "tasks_per_s": round(tasks / took),
        "tasks": tasks,
        "concurrency": CONCURRENCY,
    }


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
