"""``rota history``: how long finished tasks are kept; remove them, or put them in a file first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rota.cli import database
from rota.cli.answers import answer, span
from rota.cli.inputs import given, span_of
from rota.cli.options import Place, confirm, placed, with_yes
from rota.cli.progress import Progress
from rota.core.finding import TaskFilter

if TYPE_CHECKING:
    from rota.core.ports import Repository

F = TypeVar("F", bound=Callable[..., Any])

#: Tasks that one transaction removes.
CHUNK = 200
_EVER = "forever"


@click.group()
def history() -> None:
    """Finished tasks: retention, prune, archive."""


def _kept(value: Any) -> Any:
    """A duration, or ``forever``."""
    return _EVER if value == _EVER else span_of(value)


def _told(kept: Any) -> str:
    return "for ever" if kept is None else span(kept.total_seconds())


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
    with _opened(options) as repository:
        confirm("remove all finished tasks that fit", yes=yes)
        where = _older(options, repository.now())
        with Progress("removed") as progress:
            after: str | None = None
            while True:
                found = repository.matching(where, CHUNK, after)
                gone = repository.delete_many(found.ids, where.finished_before)
                progress.add(len(gone))
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
    from rota.storage.archiving import ArchiveFile, Moving

    with _opened(options) as repository:
        confirm(f"move all finished tasks that fit to {file}", yes=yes)
        moving = Moving(repository=repository, archive=ArchiveFile(file))
        where = _older(options, repository.now())
        with Progress("archived") as progress:
            for batch in moving.batches(where):
                moving.hand_over(batch)
                progress.add(moving.remove(batch, where))
    facts = {"archived": progress.count, "file": file}
    answer(facts, f"archived {progress.count:,} in {file}", as_json=as_json)


@history.command()
@click.option("--done", type=_kept, help="For done and cancelled tasks, as 7d, or forever.")
@click.option("--failed", type=_kept, help="For failed tasks.")
@click.option("--no-archive", is_flag=True, help="Drop history without an archive from now on.")
@placed
def retention(as_json: bool, done: Any, failed: Any, no_archive: bool, **options: Any) -> None:
    """How long finished tasks are kept, for all nodes; with options, set it.

    It lasts until it is set again, here or by the start of a node with retention=.
    """
    with _opened(options) as repository:
        said = {
            name: None if kept == _EVER else kept
            for name, kept in given(done=done, failed=failed).items()
        }
        before = repository.keeping().retention
        chosen = replace(before, **said) if said else None
        if chosen is not None or no_archive:
            repository.keep(chosen, False if no_archive else None)
        now = repository.keeping()
    spans = {"done": now.retention.done, "failed": now.retention.failed}
    facts = {f"{name}_seconds": kept for name, kept in spans.items()}
    archived = "after an archive has it" if now.archive else "without an archive"
    answer(
        {**facts, "archive": now.archive},
        f"done and cancelled {_told(spans['done'])}, failed {_told(spans['failed'])}; "
        f"dropped {archived}",
        as_json=as_json,
    )


@contextmanager
def _opened(options: dict[str, Any]) -> Iterator[Repository]:
    """The repository that is meant."""
    from rota.core.clock import SystemClock
    from rota.storage.open import open_repository

    place = Place(options["url"], options["schema"])
    database.check(place.named, place.schema)
    repository = open_repository(place.named, clock=SystemClock(), schema=place.schema)
    try:
        repository.open()
        yield repository
    finally:
        repository.close()


def _older(options: dict[str, Any], now: datetime) -> TaskFilter:
    """Which tasks are meant, by the database's clock."""
    said = given(**{name: options[name] for name in ("state", "work", "queue")})
    before = now - timedelta(seconds=options["older_than"])
    return TaskFilter(finished_before=before, **said)
