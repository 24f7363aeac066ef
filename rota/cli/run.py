"""``rota run``: a scheduler that a module has made, as a process of its own."""

from __future__ import annotations

import asyncio

import click

from rota.cli.exits import masked
from rota.cli.inputs import span_of
from rota.cli.options import APP_VARIABLE, with_json


@click.command()
@click.argument("target", metavar="MODULE:SCHEDULER", envvar=APP_VARIABLE)
@click.option("--timeout", type=span_of, default=30.0, show_default=True, help="Time to drain.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Of the log on stderr, where the module sets none up.",
)
@with_json
def run(target: str, timeout: float, log_level: str, as_json: bool) -> None:
    """Run MODULE:SCHEDULER as a node until it is told to stop.

    It is a rota.Scheduler, or a function without arguments that makes one; the module is
    looked for in the working directory first. The first SIGTERM or Ctrl-C drains: nothing new
    starts, and what runs has --timeout to end. The second stops at once.
    """
    from rota.cli.loading import load
    from rota.cli.serving import log_to_stderr, serve

    scheduler = load(target)
    log_to_stderr(log_level)
    url = scheduler._url  # noqa: SLF001 - to be shown
    place = masked(url) if isinstance(url, str) else "memory, which nothing survives"
    asyncio.run(serve(scheduler, f"{target} on {place}", timeout=timeout, as_json=as_json))
