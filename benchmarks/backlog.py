"""What a claim costs over a long backlog."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import rota
from benchmarks.figures import part
from benchmarks.noops import noop_works, put
from benchmarks.place import Place, WrongResult, fresh_place

CLAIM = 100
CLAIMS = 40
#: The first ones prepare the statements, and the processor for them.
UNCOUNTED = 10
#: Claimed tasks stay so until the benchmark is over.
LEASE = 3_600


async def backlog(place: Place, *, tasks: int) -> dict[str, Any]:
    """``scheduler.claim(limit=100)`` while at least 10,000, 100,000, … ``tasks`` are due.

    Each size is in a database of its own, and their claims take turns: what disturbs one
    disturbs all.
    """
    sizes = [10**power for power in range(4, 9) if 10**power < tasks] + [tasks]
    took: dict[int, list[float]] = {size: [] for size in sizes}
    async with AsyncExitStack() as stack:
        clients = {size: await stack.enter_async_context(_filled(place, size)) for size in sizes}
        for number in range(UNCOUNTED + CLAIMS):
            for size, client in clients.items():
                seconds = await timed_claim(client)
                if number >= UNCOUNTED:
                    took[size].append(seconds)
    figures: dict[str, Any] = {"claim": CLAIM, "claims": CLAIMS, "tasks": tasks}
    for size, each in took.items():
        figures[f"p50_ms_{size}"] = round(part(each, 0.5) * 1000, 2)
        figures[f"p99_ms_{size}"] = round(part(each, 0.99) * 1000, 2)
    return {**figures, "ratio": round(part(took[tasks], 0.5) / part(took[sizes[0]], 0.5), 2)}


@asynccontextmanager
async def _filled(near: Place, size: int) -> AsyncIterator[rota.Scheduler]:
    """A client of a fresh database that still holds so many due tasks after all claims."""
    with fresh_place(None if near.kind == "sqlite" else near.url) as place:
        await put(place, size + CLAIM * (CLAIMS + UNCOUNTED))
        place.settle()
        async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
            yield client


async def timed_claim(client: rota.Scheduler) -> float:
    """How many seconds a claim of 100 takes, which must bring as many."""
    began = time.perf_counter()
    taken = await client.claim(["default"], CLAIM, lease=LEASE)
    took = time.perf_counter() - began
    if len(taken) != CLAIM:
        raise WrongResult(f"a claim of {CLAIM} brought {len(taken)} of those due")
    return took
