"""``rota demo``: the promises, on real input, with one node killed and one frozen."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from rota.cli import database, exits
from rota.errors import InvalidArgument, RotaError

if TYPE_CHECKING:
    from rota.cli.library import Source
    from rota.cli.verdict import Figures
    from rota.testing.history import Violation


class Stage(NamedTuple):
    """Where it is performed: the database, its schema, and a directory for the logs."""

    url: str
    schema: str | None
    directory: Path
    dialect: database.Dialect


@click.command()
@click.option("--url", help="A PostgreSQL server, or a new SQLite file; else a temporary file.")
@click.option("--nodes", type=click.IntRange(3, 16), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(3, 60),
    default=12,
    show_default=True,
    help="The time the tasks are spread over; all of it takes about 10 s longer.",
)
@click.option(
    "--files",
    type=click.IntRange(30),
    help="Take so many files, evenly chosen, instead of all.",
)
@click.option("--keep", is_flag=True, help="Keep the database and the nodes' logs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, no progress.")
@click.pass_context
def demo(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    url: str | None,
    nodes: int,
    seconds: float,
    files: int | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Show the promises kept while nodes die.

    Three node processes share one database. They digest every .py file of Python's
    standard library, each at its time, and run one task every second. One node is
    killed (SIGKILL), another frozen past its lease (SIGSTOP). At the end everything is
    compared with a plain hashlib pass. Exit status 1 if a promise broke.
    """
    from rota.cli import library, verdict

    logging.getLogger("rota").addHandler(logging.NullHandler())
    sources = library.sources(files)
    with _stage(url, keep=keep, quiet=as_json) as stage:
        if not as_json:
            click.echo(
                f"digesting {len(sources)} files over {seconds:g} s "
                f"on {nodes} nodes, {stage.dialect}"
            )
        performance = _perform(stage, sources, nodes=nodes, seconds=seconds, quiet=as_json)
        figures, violations = asyncio.run(performance)
    promises = verdict.judge(figures, violations)
    if as_json:
        click.echo(json.dumps(verdict.as_json(figures, promises)))
    else:
        click.echo("\n".join(["", *verdict.table(figures), "", *verdict.lines(promises)]))
    if not all(promise.kept for promise in promises):
        ctx.exit(exits.FAILED)


async def _perform(
    stage: Stage, sources: list[Source], *, nodes: int, seconds: float, quiet: bool
) -> tuple[Figures, list[Violation]]:
    """Set it up, perform it, and take everything down again, also when interrupted."""
    from rota.app import Scheduler
    from rota.cli.course import Course
    from rota.cli.fleet import Fleet
    from rota.cli.library import demo_works
    from rota.cli.node import LEASE
    from rota.cli.performance import Performance, Plan
    from rota.cli.screen import Screen
    from rota.core.clock import SystemClock
    from rota.storage.open import open_repository

    _end_on_sigterm()
    course, clock = Course(), SystemClock()
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    repository = open_repository(stage.url, clock=clock, schema=stage.schema)
    fleet = Fleet(
        names, course=course, url=stage.url, schema=stage.schema, directory=stage.directory
    )
    try:
        async with Scheduler(demo_works(), repository, name="demo", queues=[]) as scheduler:
            performance = Performance(
                Plan(
                    sources=sources,
                    seconds=seconds,
                    nodes=nodes,
                    dialect=stage.dialect,
                    lease=LEASE,
                ),
                scheduler=scheduler,
                repository=repository,
                fleet=fleet,
                course=course,
                screen=Screen(sys.stdout, course=course, fleet=fleet, quiet=quiet),
            )
            return await performance.perform()
    finally:
        fleet.destroy()


def _end_on_sigterm() -> None:
    """Have SIGTERM end it like Ctrl-C, so that nothing is left behind."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


@contextmanager
def _stage(url: str | None, *, keep: bool, quiet: bool) -> Iterator[Stage]:
    """A database with rota's tables and a directory; both are gone afterwards, or kept."""
    dialect = "sqlite" if url is None else database.dialect_of(url)
    schema = f"rota_demo_{os.getpid()}_{secrets.token_hex(3)}"
    with ExitStack() as afterwards:
        directory = Path(tempfile.mkdtemp(prefix="rota-demo-"))
        afterwards.callback(shutil.rmtree, directory, ignore_errors=True)
        if dialect == "postgresql" and url is not None:
            stage = Stage(url, schema, directory, dialect)
            database.upgrade(url, schema)
            afterwards.callback(_drop, url, schema)
        else:
            stage = Stage(url or f"sqlite:///{directory / 'rota.db'}", None, directory, dialect)
            afterwards.callback(_remove_files, _new_file(stage.url))
            database.upgrade(stage.url, None)
        try:
            yield stage
        finally:
            if keep:
                afterwards.pop_all()
                click.echo(f"kept: {_shown(stage)}, logs in {directory}", err=quiet)


def _new_file(url: str) -> Path:
    from rota.storage.sqlite.location import database_path

    path = database_path(url)
    if path.exists():
        raise InvalidArgument(
            f"{path} exists; the demo makes a database of its own, name a new file", field="url"
        )
    return path


def _remove_files(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.rmtree(path.with_name(f"{path.name}-rota"), ignore_errors=True)


def _drop(url: str, schema: str) -> None:
    try:
        database.drop_schema(url, schema)
    except RotaError as error:
        click.echo(f"schema {schema} is left behind: {error}", err=True)


def _shown(stage: Stage) -> str:
    place = stage.url
    if place.startswith("postgres"):
        from rota.storage.postgres import address

        place = address.shown(address.parse_url(place))
    return place if stage.schema is None else f"{place} (schema {stage.schema})"
