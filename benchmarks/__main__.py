"""``python -m benchmarks NAME [--url URL]``: one line of JSON with figures, settings, versions."""

from __future__ import annotations

import asyncio
import json
import platform
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import sqlalchemy

from benchmarks.drain import drain
from benchmarks.lazy import lazy
from rota.core.clock import SystemClock

BENCHMARKS = {
    "drain": lambda url, tasks, options: drain(url, tasks=tasks, **options),
    "drain_threads": lambda url, tasks, options: drain(
        url, tasks=tasks, work="bench.plain", **options
    ),
    "lazy": lambda url, tasks, options: lazy(url, tasks=tasks, **options),
}


@click.command()
@click.argument("name", type=click.Choice(sorted(BENCHMARKS)))
@click.option("--url", help="postgresql://…; a fresh SQLite file without it")
@click.option("--tasks", default=20_000, show_default=True)
@click.option("--profile", is_flag=True, help="print where the time went, as cProfile sees it")
@click.option("--json", "as_json", is_flag=True, help="accepted for symmetry: output is JSON")
def main(name: str, url: str | None, tasks: int, profile: bool, as_json: bool) -> None:  # noqa: ARG001
    """Run one benchmark and print one line of JSON."""
    with _database(url) as (where, options):
        figures = _run(name, where, tasks, options, profile=profile)
    figures |= {
        "name": name,
        "database": where.split(":", 1)[0],
        "python": platform.python_version(),
        "sqlalchemy": sqlalchemy.__version__,
    }
    click.echo(json.dumps(figures))


@contextmanager
def _database(url: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """A fresh SQLite file, or a fresh schema on the given server, gone afterwards."""
    if url is None:
        with tempfile.TemporaryDirectory(prefix="rota-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'bench.db'}", {}
        return
    from rota.storage.postgres import PostgresRepository

    schema = f"bench_{uuid.uuid4().hex[:12]}"
    repository = PostgresRepository(url, clock=SystemClock(), schema=schema)
    repository.upgrade()
    repository.close()
    try:
        yield url, {"schema": schema}
    finally:
        engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as connection:
            connection.exec_driver_sql(f'drop schema "{schema}" cascade')
        engine.dispose()


def _run(
    name: str, url: str, tasks: int, options: dict[str, Any], *, profile: bool
) -> dict[str, Any]:
    if not profile:
        return asyncio.run(BENCHMARKS[name](url, tasks, options))
    import cProfile
    import pstats

    with cProfile.Profile() as profiler:
        figures = asyncio.run(BENCHMARKS[name](url, tasks, options))
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return figures


if __name__ == "__main__":
    main()
