"""``rota recurring``: what is done again and again, when next, and by whose decision."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rota.cli.answers import answer, moment, shown
from rota.cli.client import ask
from rota.cli.options import Place, placed, with_app
from rota.cli.recurring_add import add
from rota.cli.table import table
from rota.core.facts import plain

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.control.recurrence import ChildTask, RecurringInfo
    from rota.core.recurring import Decision


@click.group()
def recurring() -> None:
    """Recurring tasks: list, show, add, pause, resume, run, next, remove."""


recurring.add_command(add)

_id = click.argument("recurring_id", metavar="ID")
_count = click.option("--count", type=click.IntRange(1, 1_000), default=10, show_default=True)


@recurring.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1_000, show_default=True)
@click.option("--after", help="Those after this id.")
@placed
def list_(
    url: str | None, schema: str | None, as_json: bool, limit: int, after: str | None
) -> None:
    """List recurring tasks by id, with their next fire times."""

    async def look(scheduler: Scheduler) -> list[RecurringInfo]:
        return await scheduler.list_recurring(limit, after=after)

    found = ask(Place(url, schema), look)
    rows = [(one.id, one.work, _rule(one), _next(one), one.runs) for one in found]
    text = "there is no recurring task"
    if rows:
        headers = ("id", "work", "rule", "next", "runs")
        text = table(headers, rows, instants=("next",), spare=("runs", "work"))
    answer({"recurring": [info_facts(one) for one in found]}, text, as_json=as_json)


def info_facts(info: RecurringInfo) -> dict[str, Any]:
    """A definition's fields, its trigger as it is stored and in words."""
    facts: dict[str, Any] = plain({**_fields(info), "rules": None})
    if info.rules is not None:
        rules = plain(info.rules)
        for name in ("misfire_grace", "jitter"):
            rules[f"{name}_seconds"] = rules.pop(name)
        facts["rules"] = rules
    facts["trigger"] = None if info.trigger is None else info.trigger.to_json()
    facts["rule"] = None if info.trigger is None else info.trigger.describe()
    return facts


def _fields(info: RecurringInfo) -> dict[str, Any]:
    names = [name for name in info.__slots__ if name not in {"trigger", "rules"}]
    return {name: getattr(info, name) for name in names}


def _rule(info: RecurringInfo) -> str:
    if info.trigger is None:
        return f"cannot be read: {info.broken}"
    return info.trigger.describe()


def _next(info: RecurringInfo) -> str:
    if info.paused:
        return "paused"
    return moment(info.next_fire_at) or "ended"


@recurring.command()
@_id
@_count
@placed
def show(recurring_id: str, url: str | None, schema: str | None, as_json: bool, count: int) -> None:
    """Show one: its rule, its last children, and what was decided at its fire times."""

    async def look(
        scheduler: Scheduler,
    ) -> tuple[RecurringInfo, list[ChildTask], list[Decision]]:
        one = scheduler.recurring(recurring_id)
        return await one.info(), await one.children(count), await one.decisions(count)

    info, children, decisions = ask(Place(url, schema), look)
    facts = {
        **info_facts(info),
        "children": [
            {"task": child.task.id, "fire_at": child.fire_at, "state": child.state}
            for child in children
        ],
        "decisions": decisions,
    }
    text = [f"{name:<10}{shown(value)}" for name, value in _told(info).items() if value != ""]
    rows = [(moment(child.fire_at), child.state, child.task.id) for child in children]
    if rows:
        text += ["", table(("fire time", "state", "task"), rows, whole=("state", "task"))]
    made = [
        (moment(one.fire_at), one.decision, one.count, moment(one.decided_at)) for one in decisions
    ]
    if made:
        text += ["", table(("fire time", "decision", "times", "decided"), made)]
    answer(facts, "\n".join(text), as_json=as_json)


def _told(info: RecurringInfo) -> dict[str, Any]:
    rules = {} if info.rules is None else info_facts(info)["rules"]
    return {
        "id": info.id,
        "work": info.work,
        "params": info.params,
        "rule": _rule(info),
        "next": _next(info),
        "last": moment(info.last_fire_at),
        "runs": info.runs,
        "queue": f"{info.queue}, priority {info.priority}",
        "rules": ", ".join(f"{name} {value}" for name, value in rules.items() if value is not None),
        "meta": "" if info.meta is None else info.meta,
        "version": info.version,
    }


@recurring.command()
@_id
@placed
def pause(recurring_id: str, url: str | None, schema: str | None, as_json: bool) -> None:
    """Let it fire no more until it is resumed; children that exist go on."""

    async def act(scheduler: Scheduler) -> bool:
        return await scheduler.recurring(recurring_id).pause()

    changed = ask(Place(url, schema), act)
    text = "paused" if changed else "was paused already"
    answer({"id": recurring_id, "paused": True, "changed": changed}, text, as_json=as_json)


@recurring.command()
@_id
@placed
def resume(recurring_id: str, url: str | None, schema: str | None, as_json: bool) -> None:
    """Go on with its next fire time."""

    async def act(scheduler: Scheduler) -> tuple[bool, list[datetime]]:
        one = scheduler.recurring(recurring_id)
        return await one.resume(), await one.next_fire_times(1)

    changed, following = ask(Place(url, schema), act)
    after = moment(following[0]) if following else "never, it has ended"
    facts = {"id": recurring_id, "paused": False, "changed": changed, "next": following}
    text = f"{'resumed' if changed else 'was not paused'}; next: {after}"
    answer(facts, text, as_json=as_json)


@recurring.command()
@_id
@with_app
@placed
def run(
    recurring_id: str, app: str | None, url: str | None, schema: str | None, as_json: bool
) -> None:
    """Make one child now, out of rhythm, also of a paused one; any node runs it."""

    async def act(scheduler: Scheduler) -> str:
        return (await scheduler.recurring(recurring_id).trigger_now()).id

    task_id = ask(Place(url, schema, app), act)
    answer({"id": recurring_id, "task": task_id}, task_id, as_json=as_json)


@recurring.command("next")
@_id
@_count
@placed
def next_(
    recurring_id: str, url: str | None, schema: str | None, as_json: bool, count: int
) -> None:
    """Show its next fire times; of a paused one those it would have if resumed now."""

    async def look(scheduler: Scheduler) -> list[datetime]:
        return await scheduler.recurring(recurring_id).next_fire_times(count)

    times = ask(Place(url, schema), look)
    text = "\n".join(map(moment, times)) or "it has ended"
    answer({"id": recurring_id, "next": times}, text, as_json=as_json)


@recurring.command()
@_id
@placed
def remove(recurring_id: str, url: str | None, schema: str | None, as_json: bool) -> None:
    """Forget it; children that exist go on."""

    async def act(scheduler: Scheduler) -> None:
        await scheduler.recurring(recurring_id).remove()

    ask(Place(url, schema), act)
    answer({"id": recurring_id, "removed": True}, "removed", as_json=as_json)
