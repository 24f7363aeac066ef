"""Run a scheduler until a signal says otherwise: the first drains, the second stops at once."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from rota.cli import exits
from rota.cli.answers import counted, span
from rota.core.run import Stop

if TYPE_CHECKING:
    from rota.app import Scheduler

#: After a second signal, what runs gets so long to end.
_LAST = 2.0


async def serve(
    scheduler: Scheduler,
    what: str,
    *,
    timeout: float,
    begin: Callable[[], Awaitable[object]] | None = None,
    as_json: bool = False,
) -> None:
    """Start it, say what it serves, and leave it in order when a signal comes.

    Raises ``SchemaMismatch`` when it left because schema and code do not fit any more.
    """
    asked = _Asked(scheduler)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.hear)
    try:
        await scheduler.start()
        try:
            if begin is not None:
                await begin()
            # What is there by now stays: else each full collection would go over all of it,
            # tens of milliseconds in which nothing starts on time.
            gc.collect()
            gc.freeze()
            _say(scheduler, what, as_json=as_json)
            asked.ready = True
            await _until_asked(scheduler, asked)
            if not as_json:
                click.echo(f"draining for at most {span(timeout)}; once more stops at once")
        finally:
            gc.unfreeze()
            await scheduler.shutdown(timeout)
        if scheduler.unfit is not None:
            raise scheduler.unfit
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _until_asked(scheduler: Scheduler, asked: _Asked) -> None:
    """Wait for a signal, or for the scheduler to see that it does not fit its database."""
    waits = [
        asyncio.ensure_future(asked.to_stop.wait()),
        asyncio.ensure_future(scheduler._grew_unfit.wait()),  # noqa: SLF001 - for this face alone
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    asked.stop()


class _Asked:
    """What the signals so far ask for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._house: Any = None
        self._starting = asyncio.current_task()
        self.ready = False
        self.to_stop = asyncio.Event()

    def hear(self) -> None:
        """On the loop, for each signal."""
        if not self.ready:
            if self._starting is not None:
                self._starting.cancel()
        elif not self.to_stop.is_set():
            self.stop()
        else:
            self._stop_at_once()

    def stop(self) -> None:
        """Drain; another signal stops at once."""
        if self._house is None:
            self._house = self._scheduler._house  # noqa: SLF001 - shutdown lets go of it
        self.to_stop.set()

    def _stop_at_once(self) -> None:
        """Cancel what runs; what does not heed that is left to the other nodes."""
        exits.complain("stopping at once; what has not ended will run again")
        for run in [] if self._house is None else list(self._house.executor.runs.values()):
            run.stop(Stop.SHUTDOWN, "the node was stopped")
        asyncio.get_running_loop().call_later(_LAST, os._exit, exits.FAILED)


def log_to_stderr(level: str) -> None:
    """One line per event, unless the service has set up logging itself."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _say(scheduler: Scheduler, what: str, *, as_json: bool) -> None:
    settings = scheduler._settings  # noqa: SLF001 - to be shown, not used
    works = sorted(scheduler.works.ids())
    facts = {
        "serving": what,
        "node": scheduler.node,
        "pid": os.getpid(),
        "works": works,
        "queues": None if settings.queues is None else list(settings.queues),
        "concurrency": scheduler.concurrency,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    queues = "all queues" if settings.queues is None else f"queues {', '.join(settings.queues)}"
    click.echo(
        f"serving {what}: {counted(len(works), 'work')}, {queues}, "
        f"concurrency {facts['concurrency']}, node {facts['node']}, pid {facts['pid']}; "
        "Ctrl-C drains, twice stops at once"
    )
