"""Works that do nothing but count their runs, and how their tasks are put in."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import rota
from benchmarks.place import Place

COROUTINE, PLAIN = "bench.noop", "bench.plain"
#: So many tasks go into one transaction while a database is filled.
SLICE = 5_000
#: A benchmark that has not come to its end by then never will.
PATIENCE = 300.0


class Runs:
    """Counts runs, on any thread; ``all`` is set when so many have begun.

    ``before`` are in the database's history as done already.
    """

    def __init__(self, wanted: int, *, before: int = 0) -> None:
        self.all = asyncio.Event()
        self._wanted = wanted
        self._before = before
        self._loop = asyncio.get_running_loop()
        self._next = itertools.count(1).__next__

    def note(self) -> None:
        """One more."""
        if self._next() == self._wanted:
            self._loop.call_soon_threadsafe(self.all.set)

    async def done(self, place: Place) -> None:
        """Wait until all have run and the database says that all are done."""
        async with asyncio.timeout(PATIENCE):
            await self.all.wait()
            # In a thread: the loop is what some benchmarks watch.
            while await asyncio.to_thread(place.done) < self._before + self._wanted:
                await asyncio.sleep(0.002)


def noop_works(note: Callable[[], object] = lambda: None) -> rota.WorkRegistry:
    """The no-op as a coroutine and as a plain function."""
    works = rota.WorkRegistry()

    @works.register(COROUTINE)
    async def noop() -> None:
        note()

    @works.register(PLAIN)
    def plain() -> None:
        note()

    return works


async def put(
    place: Place, tasks: int, *, work: str = COROUTINE, slice_size: int = SLICE, **options: Any
) -> float:
    """Put tasks in through a client of their own; how many seconds that took."""
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        began = time.perf_counter()
        for first in range(0, tasks, slice_size):
            count = min(slice_size, tasks - first)
            await client.schedule_many([(work, {})] * count, **options)
        return time.perf_counter() - began
