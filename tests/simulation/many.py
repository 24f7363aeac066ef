"""Many seeds, in several processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.simulation.world import Result, Simulator

#: So many seeds are given to a process at a time.
CHUNK = 50


def live_through(seeds: range, processes: int, *, tail: int) -> Iterator[Result]:
    """Their lives in order; of one that is well no trace is kept, of the others its end."""
    live = partial(_live, tail=tail)
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if processes < 2:
        for chunk in chunks:
            yield from live(chunk)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for results in pool.map(live, chunks):
            yield from results


def _live(seeds: range, *, tail: int) -> list[Result]:
    simulator = Simulator()
    return [simulator.live(seed).shortened(tail) for seed in seeds]
