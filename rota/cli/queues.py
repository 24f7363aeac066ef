"""``rota queues``: what is in each queue, and holding one back on every node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rota.cli.answers import answer
from rota.cli.client import ask
from rota.cli.inputs import past_of
from rota.cli.options import Place, placed
from rota.cli.table import table

if TYPE_CHECKING:
    from datetime import datetime

    from rota.app import Scheduler
    from rota.core.finding import Counts

STATES = ("scheduled", "working", "parked", "done", "failed", "cancelled")


@click.group()
def queues() -> None:
    """Queues: list, pause, resume."""


@queues.command("list")
@click.option("--by", type=click.Choice(["queue", "work"]), default="queue", show_default=True)
@click.option("--since", type=past_of, help="Count what ended since then, as 2h ago; 30 days.")
@placed
def list_(
    url: str | None, schema: str | None, as_json: bool, by: Any, since: datetime | None
) -> None:
    """Count tasks by queue or work: waiting, working, and how they ended."""

    async def look(scheduler: Scheduler) -> dict[str, Counts]:
        return await scheduler.counts(by, since=since)

    counts = ask(Place(url, schema), look)
    facts = {f"{by}s": {name: counts_facts(one) for name, one in counts.items()}}
    answer(facts, counts_table(by, counts), as_json=as_json)


def counts_facts(counts: Counts) -> dict[str, Any]:
    """The numbers; ``more`` names those states of which there are at least so many."""
    facts: dict[str, Any] = {state: getattr(counts, state).n for state in STATES}
    more = [state for state in STATES if getattr(counts, state).more]
    return {**facts, "more": more, "paused": counts.paused}


def counts_table(by: str, counts: dict[str, Counts], width: int | None = None) -> str:
    """A row for each, fitted to this width or the terminal's."""
    rows = [
        (name, *(getattr(one, state) for state in STATES), _paused(one.paused))
        for name, one in counts.items()
    ]
    cells = [tuple(str(cell) for cell in row) for row in rows]
    if not rows:
        return "no tasks yet"
    headers = (by, *STATES, "paused")
    spare = ("paused", "parked", "cancelled")
    return table(headers, cells, whole=STATES, spare=spare, width=width)


def _paused(reason: str | None) -> str:
    return "" if reason is None else reason or "yes"


@queues.command()
@click.argument("queue")
@click.option("--reason", default="", help="Why, for whoever looks at it.")
@placed
def pause(queue: str, reason: str, url: str | None, schema: str | None, as_json: bool) -> None:
    """Start nothing more of a queue, on any node, until it is resumed."""

    async def act(scheduler: Scheduler) -> None:
        await scheduler.pause_queue(queue, reason)

    ask(Place(url, schema), act)
    facts = {"queue": queue, "paused": True, "reason": reason}
    answer(facts, "paused; what runs goes on", as_json=as_json)


@queues.command()
@click.argument("queue")
@placed
def resume(queue: str, url: str | None, schema: str | None, as_json: bool) -> None:
    """Go on with a queue."""

    async def act(scheduler: Scheduler) -> bool:
        return await scheduler.resume_queue(queue)

    changed = ask(Place(url, schema), act)
    text = "resumed" if changed else "was not paused"
    answer({"queue": queue, "paused": False, "changed": changed}, text, as_json=as_json)
