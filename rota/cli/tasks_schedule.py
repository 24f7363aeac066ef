"""``rota tasks schedule``: put a task in from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rota.cli.answers import answer, shown
from rota.cli.client import ask
from rota.cli.inputs import given, instant_of, json_object, merged, pair_of, span_of
from rota.cli.options import Place, placed, with_app
from rota.core.backoff import Backoff
from rota.core.facts import task_facts

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.control.handle import TaskHandle
    from rota.core.task import Task

F = TypeVar("F", bound=Callable[..., Any])

_TASK = (
    click.option(
        "--param", "-p", "pairs", type=pair_of, multiple=True, help="One param: name=value."
    ),
    click.option("--params", type=json_object, help="All params as one JSON object."),
    click.option("--queue", help="The queue; the work's own, or default."),
    click.option("--priority", type=click.IntRange(-100, 100), help="-100 to 100, higher first."),
    click.option("--max-attempts", type=click.IntRange(1), help="In total; 1."),
    click.option("--backoff", type=json_object, help='As {"first": 1, "factor": 2, "max": 600}.'),
    click.option("--timeout", type=span_of, help="How long one run may take."),
    click.option("--expires", type=span_of, help="How long after its time an attempt may start."),
    click.option("--meta", type=pair_of, multiple=True, help="name=value, to be found by."),
)


def of_a_task(command: F) -> F:
    """The options that a task and a recurring task's children have in common."""
    for option in reversed(_TASK):
        command = option(command)
    return command


def task_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The params, and the options that were said, as ``schedule`` takes them."""
    params = merged(options.pop("params"), options.pop("pairs"))
    said = given(**options)
    if "meta" in said:
        said["meta"] = dict(said["meta"])
    if "backoff" in said:
        said["backoff"] = _backoff(said["backoff"])
    return params, said


def _backoff(fields: dict[str, Any]) -> Backoff:
    try:
        return Backoff(**fields)
    except TypeError:
        raise click.UsageError(
            f"--backoff has {', '.join(sorted(fields))}; it may have first, factor, max, jitter"
        ) from None


@click.command()
@click.argument("work")
@of_a_task
@click.option("--at", type=instant_of, help="Its time, as 2026-12-01T08:00+01:00.")
@click.option("--delay", type=span_of, help="So long from now, as 90, 15m, 2h.")
@click.option("--unique", help="A key that only one unfinished task may have.")
@click.option("--on-conflict", type=click.Choice(["raise", "return", "replace"]))
@click.option("--id", help="A UUID of your own: scheduled again, it is the same task.")
@click.option("--wait", type=span_of, help="Wait so long for its end; exit 1 if it is not done.")
@with_app
@placed
def schedule(  # noqa: PLR0917 - click passes them by name
    work: str,
    wait: float | None,
    app: str | None,
    url: str | None,
    schema: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Put one task in: a work's id, and its params.

    With --app the work's own queue and options count, and its params are checked; without it
    they are what is said here, and any node that knows the work will run it.
    """
    params, said = task_options(options)

    async def put(scheduler: Scheduler) -> tuple[Task, TaskHandle[Any]]:
        handle = await scheduler.schedule(work, params, **said)
        return await (handle.info() if wait is None else handle.wait(wait)), handle

    task, handle = ask(Place(url, schema, app), put)
    replaced = said.get("on_conflict") == "replace" and handle.state_met == "scheduled"
    met = "" if handle.created else "replaced, " if replaced else "exists, "
    text = f"{task.id}  {met if wait is None else ''}{task.status}"
    if wait is not None and (told := task.reason or task.result) is not None:
        text += f"  {shown(told)}"
    answer({**task_facts(task), "created": handle.created}, text, as_json=as_json)
    if wait is not None and task.state != "done":
        click.get_current_context().exit(1)
