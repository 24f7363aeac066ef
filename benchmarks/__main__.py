"""``python -m benchmarks NAME [--url URL] [--json]``: one line with figures, settings, versions."""

from __future__ import annotations

import asyncio
import json
import platform
import tempfile
from pathlib import Path

import click
import sqlalchemy

from benchmarks.drain import drain

BENCHMARKS = {
    "drain": lambda url, tasks: drain(url, tasks=tasks),
    "drain_threads": lambda url, tasks: drain(url, tasks=tasks, work="bench.plain"),
}


@click.command()
@click.argument("name", type=click.Choice(sorted(BENCHMARKS)))
@click.option("--url", help="postgresql://…; a fresh SQLite file without it")
@click.option("--tasks", default=20_000, show_default=True)
@click.option("--profile", is_flag=True, help="print where the time went, as cProfile sees it")
def main(name: str, url: str | None, tasks: int, profile: bool) -> None:
    """Run one benchmark and print one line of JSON."""
    with tempfile.TemporaryDirectory(prefix="rota-bench-") as folder:
        where = url or f"sqlite:///{Path(folder) / 'bench.db'}"
        figures = _run(name, where, tasks, profile=profile)
    figures |= {
        "name": name,
        "database": where.split(":", 1)[0],
        "python": platform.python_version(),
        "sqlalchemy": sqlalchemy.__version__,
    }
    click.echo(json.dumps(figures))


def _run(name: str, url: str, tasks: int, *, profile: bool) -> dict[str, object]:
    if not profile:
        return asyncio.run(BENCHMARKS[name](url, tasks))
    import cProfile
    import pstats

    with cProfile.Profile() as profiler:
        figures = asyncio.run(BENCHMARKS[name](url, tasks))
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return figures


if __name__ == "__main__":
    main()
