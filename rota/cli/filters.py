"""The filters of ``find`` as options, for the commands that act on many tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rota.cli.inputs import given, pair_of, past_of
from rota.core.finding import TaskFilter
from rota.core.ids import check_id

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = (
    click.option("--work", multiple=True, help="Of this work; several: any of them."),
    click.option("--queue", multiple=True, help="In this queue; several: any of them."),
    click.option(
        "--state",
        multiple=True,
        help="scheduled, parked, retrying, working, done, failed, cancelled.",
    ),
    click.option("--unique", help="The unfinished task with this key."),
    click.option("--meta", type=pair_of, multiple=True, help="name=value at the meta's top level."),
    click.option("--parent", help="Spawned by the task with this id."),
    click.option("--recurring", help="Made by this recurring task."),
    *(
        click.option(
            f"--{what}-{side}", type=past_of, help=f"{said}, as 2026-12-01T08:00Z or 2h ago."
        )
        for what in ("created", "due", "finished")
        for side, said in (("after", "At or after"), ("before", "Before"))
    ),
)
NAMES = frozenset(
    ["work", "queue", "state", "unique", "meta", "parent", "recurring"]
    + [f"{what}_{side}" for what in ("created", "due", "finished") for side in ("after", "before")]
)


def filtered(command: F) -> F:
    """All filters, as keyword arguments."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def chosen(options: dict[str, Any]) -> TaskFilter:
    """The filter that was asked for; taken out of the options."""
    said = given(**{name: options.pop(name) for name in NAMES & options.keys()})
    if "meta" in said:
        said["meta"] = dict(said["meta"])
    return TaskFilter(**said)


def meant(ids: tuple[str, ...], where: TaskFilter, *, everything: bool) -> list[str] | None:
    """The tasks named by id, or None for those that fit the filter; one of the two it must be."""
    filtering = where != TaskFilter()
    if bool(ids) + filtering + everything != 1:
        raise click.UsageError("say which tasks; name their ids, or give filters, or --all")
    return [check_id(one) for one in ids] or None
