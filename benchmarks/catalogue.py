"""The benchmarks by name: what each measures, at which size, and how often it is repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from benchmarks import (
    backlog,
    drain,
    history,
    idle,
    latency,
    limit,
    nodes,
    pinned,
    punctual,
    restore,
    scheduling,
    timers,
)
from benchmarks.lazy import lazy
from benchmarks.place import Place
from benchmarks.recurring import QUICKLY, recurring


class Benchmark(NamedTuple):
    """One of them; ``tasks`` is its size, ``rounds`` how many its figures are the median of."""

    run: Callable[..., Awaitable[dict[str, Any]]]
    tasks: int
    quick: int
    rounds: int = 5
    stored: bool = True  #: needs a database
    quickly: Mapping[str, Any] = {}  #: what else is different when it is to be quick


async def _lazy(place: Place, *, tasks: int) -> dict[str, Any]:
    return await lazy(place.url, tasks=tasks, **place.options)


async def _recurring(place: Place, *, tasks: int, **pace: Any) -> dict[str, Any]:
    return await recurring(place.url, tasks=tasks, **pace, **place.options)


def benchmarks() -> dict[str, Benchmark]:
    """All of them, in the order in which they are run and shown."""
    return {
        "enqueue": Benchmark(scheduling.enqueue, 1_000, 50),
        "concurrent": Benchmark(scheduling.concurrent, 20_000, 500),
        "bulk": Benchmark(scheduling.bulk, 20_000, 1_000),
        "drain": Benchmark(drain.drain, 20_000, 500),
        "drain_threads": Benchmark(drain.drain_threads, 20_000, 500),
        "drain_nodes": Benchmark(
            nodes.drain_nodes, 40_000, 500, rounds=3, quickly={"fleets": (2,)}
        ),
        "limit": Benchmark(limit.limit, 20_000, 500),
        "latency": Benchmark(latency.latency, 200, 10, rounds=3),
        "timing": Benchmark(punctual.timing, 300, 20, rounds=3),
        "burst": Benchmark(punctual.burst, 50_000, 1_000, rounds=3),
        "idle": Benchmark(idle.idle, 10, 1, rounds=3),
        "timers": Benchmark(timers.timers, 100_000, 2_000, stored=False),
        "backlog": Benchmark(backlog.backlog, 1_000_000, 1_000, rounds=1),
        "pinned": Benchmark(pinned.pinned, 200_000, 1_000, rounds=3),
        "restore": Benchmark(restore.restore, 1_000_000, 200, rounds=1),
        "history": Benchmark(history.history, 1_000_000, 2_000, rounds=1),
        "recurring": Benchmark(_recurring, 10_000, 20, rounds=1, quickly=QUICKLY),
        "lazy": Benchmark(_lazy, 20_000, 100, rounds=1),
    }
