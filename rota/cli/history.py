"""``rota history``: remove finished tasks by age, or keep them in a file first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from rota.cli import database
from rota.cli.answers import answer, attempt_facts, task_facts
from rota.cli.inputs import given, span_of
from rota.cli.options import Place, confirm, placed, with_yes
from rota.cli.progress import Progress
from rota.core.finding import TaskFilter

if TYPE_CHECKING:
    from rota.core.ports import Repository
    from rota.core.task import Task

F = TypeVar("F", bound=Callable[..., Any])

#: Tasks that one transaction removes.
CHUNK = 200


@click.group()
def history() -> None:
    """Finished tasks: prune, archive."""


def _which(command: F) -> F:
    options = (
        click.option(
            "--older-than", type=span_of, required=True, help="Ended so long ago, as 30d."
        ),
        click.option("--state", type=click.Choice(["done", "failed", "cancelled"]), multiple=True),
        click.option("--work", multiple=True, help="Of this work; several: any of them."),
        click.option("--queue", multiple=True, help="In this queue; several: any of them."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@history.command()
@_which
@with_yes
@placed
def prune(yes: bool, as_json: bool, **options: Any) -> None:
    """Remove finished tasks that are older, with all that is known of them.

    What has been counted stays counted. Retention does the same by itself, later.
    """
    with _opened(options) as (repository, where):
        confirm("remove all finished tasks that fit", yes=yes)
        with Progress("removed") as progress:
            after: str | None = None
            while True:
                found = repository.matching(where, CHUNK, after)
                progress.add(len(repository.delete_many(found.ids)) if found.ids else 0)
                after = found.next
                if after is None:
                    break
    answer({"removed": progress.count}, f"removed {progress.count:,}", as_json=as_json)


@history.command()
@click.argument("file", type=click.Path(dir_okay=False))
@_which
@with_yes
@placed
def archive(file: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Write finished tasks that are older to FILE, a JSON object on each line, then remove them.

    The file is added to. A task is removed once its line is on the disk, so one that is
    interrupted may leave a task both there and here, never in neither.
    """
    with _opened(options) as (repository, where):
        confirm(f"move all finished tasks that fit to {file}", yes=yes)
        with open(file, "a", encoding="utf-8") as out, Progress("archived") as progress:
            after: str | None = None
            while True:
                page = repository.find(where, CHUNK, after, newest_first=False)
                progress.add(_move(repository, list(page.tasks), out))
                after = page.next
                if after is None:
                    break
    facts = {"archived": progress.count, "file": file}
    answer(facts, f"archived {progress.count:,} in {file}", as_json=as_json)


def _move(repository: Repository, tasks: list[Task], out: TextIO) -> int:
    """Write them, see them on the disk, then remove them; how many went."""
    if not tasks:
        return 0
    for task in tasks:
        attempts = [attempt_facts(attempt) for attempt in repository.attempts(task.id)]
        line = {**task_facts(task), "history": attempts}
        out.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    out.flush()
    os.fsync(out.fileno())
    return len(repository.delete_many([task.id for task in tasks]))


@contextmanager
def _opened(options: dict[str, Any]) -> Iterator[tuple[Repository, TaskFilter]]:
    """The repository, and which tasks are meant, by the database's clock."""
    from rota.core.clock import SystemClock
    from rota.storage.open import open_repository

    place = Place(options["url"], options["schema"])
    database.check(place.named, place.schema)
    repository = open_repository(place.named, clock=SystemClock(), schema=place.schema)
    try:
        repository.open()
        yield repository, _older(options, repository.now())
    finally:
        repository.close()


def _older(options: dict[str, Any], now: datetime) -> TaskFilter:
    said = given(**{name: options[name] for name in ("state", "work", "queue")})
    before = now - timedelta(seconds=options["older_than"])
    return TaskFilter(finished_before=before, **said)
