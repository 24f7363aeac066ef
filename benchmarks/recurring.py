"""Ten thousand recurring tasks due at one moment: how late they fire, and who else suffers."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import rota
from rota.core.clock import SystemClock
from rota.core.events import Event, Started
from rota.core.ports import Repository
from rota.storage.open import open_repository

works = rota.WorkRegistry()

#: The others: one task every so many seconds.
PROBE_EVERY = 0.02

#: Definitions are put in at this pace, at worst, and due after that.
DEFINED_PER_S = 200


class Pace(NamedTuple):
    """The others are due from ``before`` the moment until ``after`` it; when the node starts."""

    before: float = 4.0
    after: float = 6.0
    warm_up: float = 8.0


USUAL = Pace()
#: For a try whether it runs at all.
QUICKLY = {"pace": Pace(1.5, 1.0, 4.0)}


@works.register("bench.child", queue="children")
async def child() -> None:
    """Nothing; one for each definition."""


@works.register("bench.probe", queue="probes")
async def probe() -> None:
    """Nothing; what is measured is when it starts."""


async def recurring(
    url: str,
    *,
    tasks: int = 10_000,
    run_children: bool = True,
    pace: Pace = USUAL,
    **options: Any,
) -> dict[str, Any]:
    """Define ``tasks`` recurring tasks for one moment, let one node fire them."""
    repository = open_repository(url, clock=SystemClock(), **options)
    await asyncio.to_thread(repository.open)
    try:
        return await _measure(
            url, repository, tasks, run_children=run_children, pace=pace, options=options
        )
    finally:
        await asyncio.to_thread(repository.close)


async def _measure(
    url: str,
    repository: Repository,
    tasks: int,
    *,
    run_children: bool,
    pace: Pace,
    options: dict[str, Any],
) -> dict[str, Any]:
    moment, defined = await _define(url, repository, tasks, pace, options)
    lates: dict[str, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, Started) and event.work == "bench.probe":
            lates[event.task] = event.late

    queues = ["children", "probes"] if run_children else ["probes"]
    async with rota.Scheduler(works, url, queues=queues, on_event=note, **options) as node:
        start = moment - timedelta(seconds=pace.before)
        due = [
            start + timedelta(seconds=n * PROBE_EVERY)
            for n in range(int((pace.before + pace.after) / PROBE_EVERY))
        ]
        handles = await node.schedule_many(
            [rota.TaskSpec("bench.probe", None, {"at": at}) for at in due]
        )
        stalls: list[float] = []
        watching = asyncio.create_task(_watch_loop(stalls))
        await _fired(repository)
        while len(lates) < len(handles):
            await asyncio.sleep(0.1)
        watching.cancel()
    lags = await asyncio.to_thread(_lags, repository, tasks)
    probes = list(zip(due, (lates[handle.id] for handle in handles), strict=True))
    last = moment + timedelta(seconds=max(lags))
    during = [late for at, late in probes if moment <= at <= last + timedelta(seconds=0.5)]
    calm = [late for at, late in probes if at < moment - timedelta(seconds=1)]
    return {
        "fired_within_s": round(max(lags), 3),
        "fire_lag_p50_s": round(_part(lags, 0.5), 3),
        "others_lag_p50_ms": round(_part(during, 0.5) * 1000, 1),
        "others_lag_p99_ms": round(_part(during, 0.99) * 1000, 1),
        "calm_lag_p50_ms": round(_part(calm, 0.5) * 1000, 1),
        "calm_lag_p99_ms": round(_part(calm, 0.99) * 1000, 1),
        "stall_p99_ms": round(_part(stalls, 0.99) * 1000, 1),
        "longest_stall_ms": round(max(stalls) * 1000, 1),
        "defined_per_s": round(tasks / defined),
        "definitions": tasks,
        "run_children": run_children,
    }


async def _define(
    url: str, repository: Repository, tasks: int, pace: Pace, options: dict[str, Any]
) -> tuple[datetime, float]:
    """The definitions, all due at one moment ahead; the moment, and how long that took."""
    patience = pace.warm_up + tasks / DEFINED_PER_S
    now = await asyncio.to_thread(repository.now)
    moment = now + timedelta(seconds=patience)
    trigger = rota.Every(86_400, moment)
    began = time.perf_counter()
    async with rota.Scheduler(works, url, queues=[], **options) as client:
        for first in range(0, tasks, 100):
            await asyncio.gather(
                *(
                    client.add_recurring(f"bench-{n}", "bench.child", trigger)
                    for n in range(first, min(first + 100, tasks))
                )
            )
    took = time.perf_counter() - began
    left = (moment - await asyncio.to_thread(repository.now)).total_seconds()
    if left < pace.before + 1:
        raise RuntimeError(f"defining took too long: {left:.1f} s are left")
    await asyncio.sleep(max(0.0, left - pace.warm_up))
    return moment, took


async def _fired(repository: Repository) -> None:
    """Wait until the moment has come and nothing is due any more."""
    while True:
        due, following = await asyncio.to_thread(repository.due_recurring, 0.0, 1)
        if not due and (following is None or following > 3_600):
            return
        await asyncio.sleep(0.05)


async def _watch_loop(stalls: list[float]) -> None:
    """How much later than asked this coroutine gets its turn, again and again."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        stalls.append(time.perf_counter() - began - 0.005)


def _lags(repository: Repository, tasks: int) -> list[float]:
    """Per definition: how long after its fire time the decision was written."""
    lags = []
    for n in range(tasks):
        (told,) = repository.decisions(f"bench-{n}", 2)
        lags.append((told.decided_at - told.fire_at).total_seconds())
    return lags


def _part(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
