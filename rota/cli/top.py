"""``rota top``: a live view of queues, rates, nodes and failures."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rota.cli.answers import answer, moment, plain
from rota.cli.client import client
from rota.cli.inputs import span_of
from rota.cli.nodes import node_facts, nodes_table, others
from rota.cli.options import Place, placed
from rota.cli.queues import counts_facts, counts_table
from rota.cli.table import table, terminal

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.core.finding import Counts, Failures, NodeInfo

#: Failures of so many seconds, in at most so many groups.
_LATELY, _GROUPS = 3_600, 8
_CLEAR = "\x1b[H\x1b[J"


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
    """Watch counts by queue, rates, nodes and the failures of the last hour; Ctrl-C ends it.

    With --json one object on each line.
    """
    asyncio.run(_watch(Place(url, schema), as_json=as_json, once=once, interval=interval))


async def _watch(place: Place, *, as_json: bool, once: bool, interval: float) -> None:
    async with client(place) as scheduler:
        before: View | None = None
        while True:
            view = await _look(scheduler)
            rates = rates_between(before, view)
            if not (as_json or once) and sys.stdout.isatty():
                click.echo(_CLEAR, nl=False)
            answer(_facts(view, rates), drawn(view, rates), as_json=as_json)
            if once:
                return
            before = view
            await asyncio.sleep(max(0.1, interval))


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


def drawn(view: View, rates: dict[str, float] | None) -> str:
    """The view as text, cut to the terminal."""
    parts = [counts_table("queue", view.counts)]
    if rates is not None:
        parts.append("per second: " + ", ".join(f"{n:.1f} {state}" for state, n in rates.items()))
    parts.append(nodes_table(view.nodes))
    if view.failures:
        rows = [(f"{one.n:,}", one.work, one.error, moment(one.last_at)) for one in view.failures]
        parts.append(table(("failed", "work", "error", "last"), rows, whole=("last",)))
    else:
        parts.append("nothing failed in the last hour")
    room = terminal()
    lines = "\n\n".join(parts).splitlines()
    return "\n".join(line if room is None else line[:room] for line in lines)
