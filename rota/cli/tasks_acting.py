"""``rota tasks cancel|retry|reschedule|delete``: act on tasks by id, or on all that fit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rota.cli import exits
from rota.cli.answers import answer
from rota.cli.client import ask
from rota.cli.filters import chosen, filtered, meant
from rota.cli.inputs import instant_of, span_of
from rota.cli.options import Place, confirm, placed, with_yes
from rota.cli.progress import Progress
from rota.core.finding import Matched, TaskFilter
from rota.errors import RotaError

if TYPE_CHECKING:
    from rota.app import Scheduler

#: So many at a time, so that progress can be seen.
STEP = 1_000

_ids = click.argument("ids", nargs=-1, metavar="[TASK_ID]…")
_all = click.option("--all", "everything", is_flag=True, help="Every task the verb can act on.")
_limit = click.option("--limit", type=click.IntRange(1), help="At most so many, the newest first.")

#: What a verb does to one task, by its id: the word for what became of it.
One = Callable[["Scheduler", str], Awaitable[str]]
#: What it does to all that fit, at most so many.
Many = Callable[["Scheduler", TaskFilter, int | None], Awaitable[Matched]]


@click.command()
@_ids
@filtered
@_all
@_limit
@click.option("--reason", default="cancelled from the command line", show_default=True)
@click.option("--children", is_flag=True, help="With everything a named task has spawned.")
@with_yes
@placed
def cancel(reason: str, children: bool, **options: Any) -> None:
    """Cancel tasks that wait; ask those that run to stop."""

    async def one(scheduler: Scheduler, task_id: str) -> str:
        return str(await scheduler.cancel(task_id, reason, children=children))

    async def many(scheduler: Scheduler, where: TaskFilter, limit: int | None) -> Matched:
        return await scheduler.cancel_matching(where, reason, limit=limit)

    _act("cancel", "cancelled", one, many, options)


@click.command()
@_ids
@filtered
@_all
@_limit
@with_yes
@placed
def retry(**options: Any) -> None:
    """Let failed tasks run again, now, from attempt 1; cancelled ones if --state says so."""

    async def one(scheduler: Scheduler, task_id: str) -> str:
        await scheduler.retry(task_id)
        return "retried"

    async def many(scheduler: Scheduler, where: TaskFilter, limit: int | None) -> Matched:
        return await scheduler.retry_matching(where, limit=limit)

    _act("retry", "retried", one, many, options)


@click.command()
@_ids
@filtered
@_all
@_limit
@click.option("--at", type=instant_of, help="The new time, as 2026-12-01T08:00+01:00.")
@click.option("--delay", type=span_of, help="So long from now, as 90, 15m, 2h.")
@with_yes
@placed
def reschedule(at: datetime | None, delay: float | None, **options: Any) -> None:
    """Give waiting tasks another time."""
    if (at is None) == (delay is None):
        raise click.UsageError("say when; give either --at or --delay")
    when: dict[str, Any] = {"at": at} if at is not None else {"delay": delay}

    async def one(scheduler: Scheduler, task_id: str) -> str:
        await scheduler.update(task_id, **when)
        return "rescheduled"

    async def many(scheduler: Scheduler, where: TaskFilter, limit: int | None) -> Matched:
        return await scheduler.reschedule_matching(where, **when, limit=limit)

    _act("reschedule", "rescheduled", one, many, options)


@click.command()
@_ids
@filtered
@_all
@_limit
@with_yes
@placed
def delete(**options: Any) -> None:
    """Remove finished tasks, with all that is known of them."""

    async def one(scheduler: Scheduler, task_id: str) -> str:
        await scheduler.delete(task_id)
        return "deleted"

    async def many(scheduler: Scheduler, where: TaskFilter, limit: int | None) -> Matched:
        return await scheduler.delete_matching(where, limit=limit)

    _act("delete", "deleted", one, many, options)


def _act(verb: str, done: str, one: One, many: Many, options: dict[str, Any]) -> None:
    """Do it to the tasks named, each for itself, or to all that fit, and say what became."""
    place, as_json = Place(options["url"], options["schema"]), options["as_json"]
    where, everything = chosen(options), options["everything"]
    ids, limit = meant(options["ids"], where, everything=everything), options["limit"]
    if ids is not None:
        _named(place, ids, one, as_json=as_json)
        return
    confirm(f"{verb} {_extent(limit, everything=everything)}", yes=options["yes"])

    async def all_that_fit(scheduler: Scheduler) -> Matched:
        with Progress(done) as progress:
            if verb == "reschedule" or limit is not None:
                return await many(scheduler, where, limit)
            return await _in_steps(scheduler, where, many, progress, cancelling=verb == "cancel")

    total = ask(place, all_that_fit)
    text = f"{done} {total.changed:,}"
    if total.requested:
        text += f", asked {total.requested:,} that run to stop"
    if total.skipped:
        text += f", {total.skipped:,} had gone on meanwhile"
    answer(total._asdict(), text, as_json=as_json)


def _extent(limit: int | None, *, everything: bool) -> str:
    which = "every task there is" if everything else "all tasks that fit"
    return which if limit is None else f"up to {limit:,} of {which}"


async def _in_steps(
    scheduler: Scheduler, where: TaskFilter, many: Many, progress: Progress, *, cancelling: bool
) -> Matched:
    """In steps, since what is done no longer fits; what still would is done in one call."""
    total = Matched()
    if cancelling:
        # What runs goes on fitting until it has stopped.
        words = tuple(where.state or ("scheduled", "working"))
        waiting = [word for word in words if word != "working"]
        if "working" in words:
            total = await many(scheduler, replace(where, state=["working"]), None)
        if not waiting:
            return total
        where = replace(where, state=waiting)
    while True:
        step = await many(scheduler, where, STEP)
        total = total.plus(step)
        progress.add(step.changed)
        if not step.changed:
            return total


def _named(place: Place, ids: list[str], one: One, *, as_json: bool) -> None:
    """Each by its id; the exit status is that of the first that could not be done."""
    outcome: dict[str, str] = {}
    errors: list[RotaError] = []

    async def each(scheduler: Scheduler) -> None:
        for task_id in ids:
            try:
                outcome[task_id] = await one(scheduler, task_id)
            except RotaError as error:
                if len(ids) == 1:
                    raise
                errors.append(error)
                outcome[task_id] = error.code

    ask(place, each)
    text = "\n".join(f"{task_id}  {word}" for task_id, word in outcome.items())
    answer({"tasks": outcome}, text, as_json=as_json)
    for error in errors:
        exits.complain(str(error))
    if errors:
        click.get_current_context().exit(exits.status_of(errors[0]))
