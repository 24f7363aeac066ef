"""``rota top``: a live view of queues, rates, nodes and failures."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rota.cli.answers import answer, moment
from rota.cli.client import client
from rota.cli.exits import masked
from rota.cli.inputs import span_of
from rota.cli.live import Live, fitted, is_live
from rota.cli.nodes import node_facts, nodes_table, others
from rota.cli.options import Place, placed
from rota.cli.queues import counts_facts, counts_table
from rota.cli.table import table
from rota.core.facts import plain
from rota.errors import StorageUnavailable

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.core.finding import Counts, Failures, NodeInfo

#: Failures of so many seconds, in at most so many groups.
_LATELY, _GROUPS = 3_600, 8


class View(NamedTuple):
    """What was seen at one moment; ``at`` is monotonic."""

    at: float
    counts: dict[str, Counts]
    nodes: list[NodeInfo]
    failures: list[Failures]

    @property
    def ended(self) -> dict[str, int]:
        """How many ended in each way, in all queues."""
        return {
            state: sum(getattr(one, state).n for one in self.counts.values())
            for state in ("done", "failed", "cancelled")
        }


@click.command()
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option("--interval", type=span_of, default=1.0, show_default=True, help="Between two looks.")
@placed
def top(url: str | None, schema: str | None, as_json: bool, once: bool, interval: float) -> None:
    """Watch counts by queue, rates, nodes and the failures of the last hour; q ends it.

    Where it is not written to a terminal, one view follows the other; with --json one object
    on each line.
    """
    place, interval = Place(url, schema), max(0.1, interval)
    if once:
        view = asyncio.run(_once(place))
        answer(_facts(view, None), "\n\n".join(drawn(view, None)), as_json=as_json)
    elif as_json or not is_live(sys.stdout):
        asyncio.run(_in_turn(place, as_json=as_json, interval=interval))
    else:
        asyncio.run(_live(place, interval))


async def _once(place: Place) -> View:
    async with client(place) as scheduler:
        return await _look(scheduler)


async def _in_turn(place: Place, *, as_json: bool, interval: float) -> None:
    async with client(place) as scheduler:
        before: View | None = None
        while True:
            view = await _look(scheduler)
            rates = rates_between(before, view)
            answer(_facts(view, rates), "\n\n".join(drawn(view, rates)) + "\n", as_json=as_json)
            before = view
            await asyncio.sleep(interval)


async def _live(place: Place, interval: float) -> None:
    """Redraw in place; while the database is away, say so and go on trying."""
    async with client(place) as scheduler:
        with Live() as live:
            face = _Face(masked(place.named))
            while True:
                until = time.monotonic() + interval
                await face.look(scheduler)
                live.show(face.lines(*live.size))
                while await live.resized(until - time.monotonic()):
                    live.show(face.lines(*live.size))


class _Face:
    """What is on the screen: the last view, and below it where it comes from."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._state = ""
        self._view: View | None = None
        self._rates: dict[str, float] | None = None

    async def look(self, scheduler: Scheduler) -> None:
        try:
            view = await _look(scheduler)
        except StorageUnavailable as error:
            self._state = masked(f"error: {error}")
            return
        self._rates = rates_between(self._view, view)
        self._view, self._state = view, self._source

    def lines(self, columns: int, rows: int) -> list[str]:
        """As many as the terminal has."""
        parts = [] if self._view is None else drawn(self._view, self._rates, columns)
        body = fitted(parts, rows - 2)
        space = [""] * max(0, rows - 1 - len(body))
        return [*body, *space, f"{datetime.now(UTC):%H:%M:%SZ}  q ends  {self._state}"]


async def _look(scheduler: Scheduler) -> View:
    return View(
        time.monotonic(),
        await scheduler.counts("queue"),
        await others(scheduler),
        await scheduler.failures(since=_LATELY, limit=_GROUPS),
    )


def rates_between(before: View | None, now: View) -> dict[str, float] | None:
    """How many ended in each way, per second; None at the first look."""
    if before is None or now.at <= before.at:
        return None
    was = before.ended
    return {state: max(0, n - was[state]) / (now.at - before.at) for state, n in now.ended.items()}


def _facts(view: View, rates: dict[str, float] | None) -> dict[str, Any]:
    return {
        "queues": {name: counts_facts(one) for name, one in view.counts.items()},
        "rates": rates,
        "nodes": [node_facts(node) for node in view.nodes],
        "failures": [plain(group._asdict()) for group in view.failures],
    }


def drawn(view: View, rates: dict[str, float] | None, width: int | None = None) -> list[str]:
    """The view's parts as text, fitted to the terminal."""
    parts = [counts_table("queue", view.counts, width)]
    if rates is not None:
        parts.append("per second: " + ", ".join(f"{n:.1f} {state}" for state, n in rates.items()))
    parts.append(nodes_table(view.nodes, width))
    if view.failures:
        rows = [(f"{one.n:,}", one.work, one.error, moment(one.last_at)) for one in view.failures]
        headers = ("failed", "work", "error", "last")
        parts.append(table(headers, rows, instants=("last",), spare=("last",), width=width))
    else:
        parts.append("nothing failed in the last hour")
    return parts
