"""``rota nodes``: who is alive, and what each runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rota.cli.answers import answer, moment, span
from rota.cli.client import NAME, ask
from rota.cli.options import Place, placed
from rota.cli.table import table

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.core.finding import NodeInfo
    from rota.core.task import Task


@click.command()
@click.option("--running", is_flag=True, help="List the tasks each runs, too.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@placed
def nodes(url: str | None, schema: str | None, as_json: bool, running: bool, limit: int) -> None:
    """Show the nodes that are not declared dead, the oldest first."""

    async def look(scheduler: Scheduler) -> tuple[list[NodeInfo], list[Task]]:
        found = await others(scheduler)
        return found, await scheduler.running_tasks(limit=limit) if running else []

    found, tasks = ask(Place(url, schema), look)
    facts: dict[str, Any] = {"nodes": [node_facts(node) for node in found]}
    text = nodes_table(found)
    if running:
        facts["running"] = [_running(task) for task in tasks]
        names = {node.id: node.name for node in found}
        rows = [
            (names.get(task.node or 0, task.node), task.work, task.id, task.attempt)
            for task in tasks
        ]
        headers = ("node", "work", "task", "attempt")
        running_now = table(headers, rows, whole=("task",), spare=("attempt",))
        text += f"\n\n{running_now if rows else 'nothing runs'}"
    answer(facts, text, as_json=as_json)


async def others(scheduler: Scheduler) -> list[NodeInfo]:
    """All nodes but commands like this one."""
    return [
        node for node in await scheduler.nodes() if node.id != scheduler.node and node.name != NAME
    ]


def node_facts(node: NodeInfo) -> dict[str, Any]:
    """A node's fields, durations in seconds."""
    return {
        "id": node.id,
        "name": node.name,
        "host": node.host,
        "pid": node.pid,
        "version": node.version,
        "started_at": node.started_at,
        "lease_seconds": node.lease,
        "lease_left_seconds": round(node.lease_left, 6),
        "beat_age_seconds": round(node.beat_age, 6),
        "tasks": node.tasks,
    }


def nodes_table(found: list[NodeInfo], width: int | None = None) -> str:
    """A row for each, fitted to this width or the terminal's."""
    rows = [
        (
            node.name,
            node.host,
            node.pid,
            node.version,
            moment(node.started_at),
            f"{span(node.beat_age)} ago" if node.lease_left > 0 else "overdue",
            node.tasks,
            node.id,
        )
        for node in found
    ]
    headers = ("name", "host", "pid", "version", "started", "heartbeat", "tasks", "id")
    if not rows:
        return "no node runs"
    spare = ("id", "version", "started")
    return table(headers, rows, instants=("started",), spare=spare, width=width)


def _running(task: Task) -> dict[str, Any]:
    names = ("id", "work", "queue", "node", "attempt")
    return {name: getattr(task, name) for name in names}
