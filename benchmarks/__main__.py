"""``python -m benchmarks NAME [--url URL]``: one line of JSON with figures, settings, versions."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from benchmarks.catalogue import Benchmark, benchmarks
from benchmarks.figures import medians
from benchmarks.machine import machine, versions
from benchmarks.place import fresh_place
from benchmarks.process import measured


@click.command()
@click.argument("name", type=click.Choice(list(benchmarks())))
@click.option("--url", help="postgresql://…; a fresh SQLite file without it")
@click.option(
    "--tasks", "--rows", type=click.IntRange(1), help="how many, instead of the usual number"
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="each in a process of its own; the figures are the medians",
)
@click.option("--quick", is_flag=True, help="very few tasks: whether it runs, not how fast")
@click.option("--profile", is_flag=True, help="print where the time went, as cProfile sees it")
@click.option("--json", "as_json", is_flag=True, help="accepted for symmetry: output is JSON")
def main(
    name: str,
    url: str | None,
    tasks: int | None,
    rounds: int,
    *,
    quick: bool,
    profile: bool,
    as_json: bool,  # noqa: ARG001
) -> None:
    """Run one benchmark and print one line of JSON."""
    if rounds > 1:
        told = medians([measured(name, url=url, tasks=tasks, quick=quick) for _ in range(rounds)])
    else:
        told = _run(name, url, tasks, quick=quick, profile=profile)
    click.echo(json.dumps(told))


def _run(
    name: str, url: str | None, tasks: int | None, *, quick: bool, profile: bool
) -> dict[str, Any]:
    chosen, on = benchmarks()[name], machine()
    size = tasks or (chosen.quick if quick else chosen.tasks)
    extra = dict(chosen.quickly) if quick else {}
    told = {"name": name, "machine": on, "versions": versions()}
    if not chosen.stored:
        figures = _figures(chosen, None, size, extra, profile=profile)
        return {**figures, **told, "database": "none", "settings": {}}
    with fresh_place(url) as place:
        figures = _figures(chosen, place, size, extra, profile=profile)
        return {**figures, **told, "database": place.kind, "settings": place.settings()}


def _figures(
    chosen: Benchmark, place: object, size: int, extra: dict[str, Any], *, profile: bool
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return await chosen.run(place, tasks=size, **extra)

    if not profile:
        return asyncio.run(run())
    import cProfile
    import pstats

    with cProfile.Profile() as profiler:
        figures = asyncio.run(run())
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    return figures


if __name__ == "__main__":
    main()
