"""One node of the demonstration, as a process of its own: ``python -m rota.cli.node``."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path

import click

from rota.app import Scheduler
from rota.cli import exits
from rota.cli.library import QUEUE, demo_works
from rota.cli.nodelog import NodeLog
from rota.errors import RotaError

#: Attempts at once on one node.
CONCURRENCY = 16
#: The URL comes this way, since everybody can read the arguments of a process.
URL_VARIABLE = "ROTA_DEMO_URL"
#: As short as they may be, so that a frozen node is missed soon.
LEASE, HEARTBEAT = 3.0, 1.0


@click.command()
@click.option("--url", required=True, envvar=URL_VARIABLE)
@click.option("--schema")
@click.option("--name", required=True)
@click.option("--log", "path", required=True, type=click.Path(path_type=Path))
def main(url: str, schema: str | None, name: str, path: Path) -> None:
    """Serve until stdin ends, which it does when the parent closes it, or is gone."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        with NodeLog(path) as log:
            asyncio.run(_serve(url, schema, name, log))
    except RotaError as error:
        exits.complain(str(error))
        sys.exit(exits.status_of(error))


async def _serve(url: str, schema: str | None, name: str, log: NodeLog) -> None:
    scheduler = Scheduler(
        demo_works(),
        url,
        name=name,
        queues=[QUEUE],
        concurrency=CONCURRENCY,
        lease=LEASE,
        heartbeat=HEARTBEAT,
        schema=schema,
        on_event=log.hear,
    )
    async with scheduler:
        log.ready(scheduler.node)
        await _stdin_ended()


async def _stdin_ended() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, name="rota-demo-stdin", daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    main()
