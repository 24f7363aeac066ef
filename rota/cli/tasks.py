"""``rota tasks``: find tasks, and look at one with its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rota.cli.answers import answer, lines, moment, shown, span
from rota.cli.client import ask
from rota.cli.filters import chosen, filtered
from rota.cli.inputs import span_of
from rota.cli.options import Place, placed
from rota.cli.table import table
from rota.cli.tasks_acting import cancel, delete, reschedule, retry
from rota.cli.tasks_schedule import schedule
from rota.core.facts import attempt_facts, task_facts
from rota.core.task import Attempt, Task

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.core.finding import Page
    from rota.core.task import Report


@click.group()
def tasks() -> None:
    """Tasks: list, show, schedule, cancel, retry, reschedule, delete."""


for _command in (schedule, cancel, retry, reschedule, delete):
    tasks.add_command(_command)

_COLUMNS = ("id", "work", "queue", "status", "attempt", "when", "note")
_SPARE = ("attempt", "queue", "when", "note")


@tasks.command("list")
@filtered
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
@click.option("--after", help="Go on after the page before, with what it said as next.")
@click.option("--oldest-first", is_flag=True, help="The newest come first otherwise.")
@placed
def list_(  # noqa: PLR0917 - click passes them by name
    url: str | None,
    schema: str | None,
    as_json: bool,
    limit: int,
    after: str | None,
    oldest_first: bool,
    **options: Any,
) -> None:
    """List tasks, waiting, working and finished; all filters must fit.

    A page may be short, even empty, and still have a next. When is a task's end, else its
    start, else its time.
    """
    where = chosen(options)

    async def look(scheduler: Scheduler) -> Page:
        return await scheduler.find(where, limit=limit, after=after, newest_first=not oldest_first)

    page = ask(Place(url, schema), look)
    facts = {"tasks": [task_facts(task) for task in page], "next": page.next}
    rows = [
        (task.id, task.work, task.queue, task.status, task.attempt, _when(task), _note(task))
        for task in page
    ]
    text = table(_COLUMNS, rows, whole=("id", "status"), instants=("when",), spare=_SPARE)
    more = f"\nthere may be more; go on with: --after {page.next}" if page.next else ""
    answer(facts, (text if rows else "no task fits") + more, as_json=as_json)


def _when(task: Task) -> str:
    return moment(task.finished_at or task.started_at or task.run_at)


def _note(task: Task) -> str:
    return task.reason or task.cancel_reason or task.unique or ""


@tasks.command()
@click.argument("task_id")
@click.option("--wait", type=span_of, help="Wait so long for its end, first.")
@placed
def show(
    task_id: str, wait: float | None, url: str | None, schema: str | None, as_json: bool
) -> None:
    """Show one task and its history: each attempt, its end, and its traceback."""

    async def look(
        scheduler: Scheduler,
    ) -> tuple[Task, list[Attempt], Report | None, dict[int, str]]:
        handle = scheduler.handle(task_id)
        if wait is not None:
            await handle.wait(wait)
        seen = await handle.info(), await handle.history(), await handle.report()
        return *seen, {node.id: f"{node.name} ({node.id})" for node in await scheduler.nodes()}

    task, history, report, names = ask(Place(url, schema), look)
    facts = {
        **task_facts(task),
        "report": None if report is None else {"at": report.at, "data": report.data},
        "history": [attempt_facts(attempt) for attempt in history],
    }
    text = [*_facts(task, report, names), "", f"attempts that ended: {len(history)}"]
    for attempt in history:
        text += _told(attempt, names)
    answer(facts, "\n".join(text), as_json=as_json)


def _facts(task: Task, report: Report | None, names: dict[int, str]) -> list[str]:
    limit = "no limit" if task.max_attempts is None else task.max_attempts
    said = {
        "id": task.id,
        "work": task.work,
        "params": task.params,
        "status": task.status,
        "reason": task.reason,
        "cancel": task.cancel_reason,
        "queue": f"{task.queue}, priority {task.priority}",
        "attempt": f"{task.attempt} of {limit}" + (f", {task.losses} lost" if task.losses else ""),
        "created": moment(task.created_at),
        "due": moment(task.due_at),
        "runs at": "" if task.state.final or task.run_at == task.due_at else moment(task.run_at),
        "expires": moment(task.expires_at),
        "started": moment(task.started_at),
        "finished": moment(task.finished_at),
        "node": _node(task.node, names),
        "report": None if report is None else report.data,
        "result": task.result,
        "meta": task.meta,
        "unique": task.unique,
        "parent": task.parent,
        "recurring": task.recurring,
    }
    return [f"{name:<10}{shown(v)}" for name, v in said.items() if v is not None and v != ""]


def _node(node: int | None, names: dict[int, str]) -> str | None:
    """Its name too, if it is there still."""
    return None if node is None else names.get(node, str(node))


def _told(attempt: Attempt, names: dict[int, str]) -> list[str]:
    took = ""
    if attempt.started_at is not None:
        took = f", took {span((attempt.finished_at - attempt.started_at).total_seconds())}"
    node = "" if attempt.node is None else f", node {_node(attempt.node, names)}"
    head = f"  {attempt.attempt}  {attempt.outcome}  {moment(attempt.finished_at)}{took}{node}"
    trace = (attempt.error or {}).get("traceback")
    output = [
        f"{name}: {text}"
        for name in ("stdout", "stderr")
        if (text := (attempt.error or {}).get(name))
    ]
    said = [head]
    if attempt.reason:
        said.append(f"     {shown(attempt.reason)}")
    for part in [*([str(trace)] if trace else []), *output]:
        said += [f"     {line}" for line in lines(part)]
    return said
