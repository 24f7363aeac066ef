"""What a claim costs over dead rows that an old transaction keeps from being cleaned away."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import Any, NamedTuple

import rota
from benchmarks.backlog import CLAIM, CLAIMS, UNCOUNTED, timed_claim
from benchmarks.figures import in_ms
from benchmarks.noops import COROUTINE, Runs, noop_works, put
from benchmarks.place import Connection, Place
from rota.core.ports import Repository
from rota.core.task import Claimed

SLOW = "bench.slow"
#: Long enough that a node has a claim of all its slots to make, and the machine is quiet.
RUNS_FOR = 0.06
#: Slow tasks per task that is churned through: some before them, twice as many after.
SLOW_SHARE = 0.01
#: What a node prefetches beyond its slots makes a claim no other thing.
MOST = round(1.5 * CLAIM)


class OneClaim(NamedTuple):
    """How long it took, how many tasks it brought, and whether only slow ones."""

    seconds: float
    tasks: int
    slow: bool


async def pinned(place: Place, *, tasks: int) -> dict[str, Any]:
    """A node's claims before and after so many tasks that a held transaction outlives.

    A node's, since it keeps a cursor, timed at its repository while slow tasks keep its 100
    slots busy; then those of ``scheduler.claim``, which begin at the front.
    """
    slow = max(3 * CLAIM, round(tasks * SLOW_SHARE))
    await put(place, slow, work=SLOW, allow_unknown=True)
    await put(place, tasks)
    await put(place, 2 * slow, work=SLOW, allow_unknown=True)
    place.settle()
    repository, claims = _timed(place)
    runs = Runs(tasks + 3 * slow)
    with closing(place.connect()) as stranger:
        _pin(place, stranger)
        async with rota.Scheduler(_works(runs), repository, concurrency=CLAIM):
            await runs.done(place)
        pulled = await _pulled(place)
    before, after = _apart(claims)
    return {
        **in_ms(after),
        **in_ms(before, prefix="before_"),
        **in_ms(pulled, prefix="pull_"),
        "claims": len(after),
        "tasks": tasks,
    }


def _works(runs: Runs) -> rota.WorkRegistry:
    works = noop_works(runs.note)

    @works.register(SLOW)
    async def slow() -> None:
        await asyncio.sleep(RUNS_FOR)
        runs.note()

    return works


def _timed(place: Place) -> tuple[Repository, list[OneClaim]]:
    """A repository that notes each of its claims."""
    repository = place.repository()
    claim, claims = repository.claim, list[OneClaim]()

    def timed(*args: Any, **kwargs: Any) -> list[Claimed]:
        began = time.perf_counter()
        taken = claim(*args, **kwargs)
        took = time.perf_counter() - began
        claims.append(OneClaim(took, len(taken), all(item.work == SLOW for item in taken)))
        return taken

    repository.claim = timed  # type: ignore[method-assign]
    return repository, claims


def _apart(claims: list[OneClaim]) -> tuple[list[float], list[float]]:
    """How long those of slow tasks only took, before the churn and after it."""
    churn = [index for index, claim in enumerate(claims) if not claim.slow]

    def usual(some: list[OneClaim]) -> list[float]:
        return [claim.seconds for claim in some if 0 < claim.tasks <= MOST]

    return usual(claims[: churn[0]]), usual(claims[churn[-1] + 1 :])


async def _pulled(place: Place) -> list[float]:
    count = UNCOUNTED + CLAIMS
    await put(place, count * CLAIM, work=COROUTINE)
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        return [await timed_claim(client) for _ in range(count)][UNCOUNTED:]


def _pin(place: Place, stranger: Connection) -> None:
    """Hold a snapshot: nothing that ends from now on can be cleaned away."""
    stranger.execute("begin" if place.kind == "sqlite" else "begin isolation level repeatable read")
    stranger.execute(f"select count(*) from {place.prefix}rota_node").fetchone()
