"""``make bench``: every benchmark on both databases, a table, and the reference page."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.catalogue import Benchmark, benchmarks
from benchmarks.figures import medians
from benchmarks.page import page, short, table
from benchmarks.process import ROOT, BenchmarkFailed, measured
from benchmarks.server import durable_server

PAGE = ROOT / "docs" / "reference" / "performance.md"
DATABASES = ("postgresql", "sqlite")


class Turn(NamedTuple):
    """One round of one benchmark on one database."""

    name: str
    database: str
    round: int


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="at most so many of each; the slow ones have fewer",
)
@click.option("--only", help="names, separated by commas")
@click.option("--database", type=click.Choice(DATABASES), help="only this one")
@click.option("--url", help="postgresql://… of a server that is there; else a private one")
@click.option("--quick", is_flag=True, help="very few tasks: whether it runs, not how fast")
@click.option(
    "--page",
    "where",
    type=click.Path(dir_okay=False, path_type=Path),
    help="write the page there; a complete run writes docs/reference/performance.md",
)
@click.option(
    "--raw",
    type=click.Path(dir_okay=False, path_type=Path),
    help="write every round's figures there, a line of JSON each",
)
def main(
    rounds: int,
    only: str | None,
    database: str | None,
    url: str | None,
    *,
    quick: bool,
    where: Path | None,
    raw: Path | None,
) -> None:
    """Measure, print the table against what must be reached, and write the page."""
    if quick and where is not None:
        raise click.UsageError("--quick measures nothing; there is no page to write of it")
    chosen = _chosen(only)
    databases = (database,) if database else DATABASES
    complete = not (only or database or quick)
    began = time.monotonic()
    told: dict[tuple[str, str], list[dict[str, Any]]] = {}
    failed: list[str] = []
    with ExitStack() as stack:
        if "postgresql" in databases and url is None:
            url = stack.enter_context(durable_server()).url
        for turn in _turns(chosen, databases, rounds):
            try:
                figures = _take(turn, url, quick=quick)
            except BenchmarkFailed as error:
                failed.append(f"{turn.name} on {turn.database}, round {turn.round}")
                click.echo(f"failed: {failed[-1]}: {error}", err=True)
                continue
            told.setdefault((turn.name, turn.database), []).append(figures)
            if raw is not None:
                with raw.open("a") as lines:
                    lines.write(json.dumps({**figures, "round": turn.round}) + "\n")
    result = {key: medians(all_rounds) for key, all_rounds in told.items()}
    click.echo(table(result, judged=not quick))
    click.echo(f"\n{time.monotonic() - began:.0f} s; failed: {'; '.join(failed) or 'none'}")
    if not quick:
        click.echo(f"short of what must be reached: {', '.join(short(result)) or 'nothing'}")
    target = where or (PAGE if complete else None)
    if target is not None:
        target.write_text(page(result, failed=failed, day=datetime.now(UTC).date()))
        click.echo(f"written to {target}")
    sys.exit(1 if failed else 0)


def _chosen(only: str | None) -> dict[str, Benchmark]:
    known = benchmarks()
    if only is None:
        return known
    names = only.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(
            f"{', '.join(unknown)}: not among {', '.join(known)}", param_hint="--only"
        )
    return {name: known[name] for name in names}


def _turns(chosen: dict[str, Benchmark], databases: tuple[str, ...], rounds: int) -> Iterator[Turn]:
    """Round by round, so that a busy minute of the machine falls on one round of each."""
    for number in range(rounds):
        for name, benchmark in chosen.items():
            if number >= benchmark.rounds:
                continue
            for database in databases if benchmark.stored else ("none",):
                yield Turn(name, database, number + 1)


def _take(turn: Turn, url: str | None, *, quick: bool) -> dict[str, Any]:
    began = time.monotonic()
    figures = measured(turn.name, url=url if turn.database == "postgresql" else None, quick=quick)
    told = {key: value for key, value in figures.items() if isinstance(value, int | float)}
    shown = ", ".join(f"{key} {value}" for key, value in list(told.items())[:4])
    took = time.monotonic() - began
    click.echo(f"{turn.round} {turn.name} {turn.database}: {shown} ({took:.0f} s)", err=True)
    return figures


if __name__ == "__main__":
    main()
