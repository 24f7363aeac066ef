"""``rota crontab``: a crontab file as recurring tasks, run by any of several hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rota.cli.answers import answer, counted, moment
from rota.cli.client import ask
from rota.cli.crontab_file import Crontab, local_timezone, read_crontab
from rota.cli.inputs import span_of
from rota.cli.options import Place, placed, with_json
from rota.cli.table import table

if TYPE_CHECKING:
    from rota.app import Scheduler
    from rota.cli.crontab_install import Installed

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def crontab() -> None:
    """Crontab files: run, import, check."""


_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def _read(command: F) -> F:
    options = (
        click.option("--system", is_flag=True, help="Lines name a user, as in /etc/crontab."),
        click.option("--timezone", help="Whose clock the fields are read by; this machine's."),
        click.option("--name", help="Under which its lines are kept; the file's name."),
    )
    for option in reversed(options):
        command = option(command)
    return command


_catchup = click.option(
    "--catchup",
    type=click.Choice(["none", "latest", "all"]),
    default="none",
    show_default=True,
    help="What becomes of times at which no host ran; cron makes up for none.",
)


@crontab.command("import")
@_file
@_read
@_catchup
@placed
def import_(url: str | None, schema: str | None, as_json: bool, **options: Any) -> None:
    """Make FILE's lines recurring tasks; nodes of "rota crontab run" run them.

    Lines of the same name that are no longer in the file are removed.
    """
    from rota.cli.crontab_install import install

    found, name = _found(options)

    async def put(scheduler: Scheduler) -> Installed:
        return await install(scheduler, found.entries, name=name, catchup=options["catchup"])

    installed = ask(Place(url, schema), put)
    _complain(found)
    facts = {
        "name": name,
        "lines": _facts(installed),
        "removed": installed.removed,
        "left_out": found.left_out,
    }
    text = f"{counted(len(installed.lines), 'recurring task')}, {len(installed.removed)} removed"
    answer(facts, text, as_json=as_json)


@crontab.command()
@_file
@_read
@with_json
def check(as_json: bool, **options: Any) -> None:
    """Read FILE and show each line in words, with its next time; no database is asked."""
    from rota.cli.crontab_install import named

    found, name = _found(options)
    now = datetime.now(UTC)
    rows, lines = [], []
    for recurring_id, entry in named(found.entries, name).items():
        following = entry.rule.next(now)
        rows.append((entry.number, moment(following), entry.rule.describe(), entry.command))
        lines.append(
            {
                "id": recurring_id,
                "line": entry.number,
                "next": following,
                "words": entry.rule.describe(),
                "command": entry.command,
                "stdin": entry.stdin,
                "env": entry.env,
                "user": entry.user,
            }
        )
    _complain(found)
    text = table(("line", "next", "when", "command"), rows, whole=("line",), instants=("next",))
    facts = {"name": name, "lines": lines, "left_out": found.left_out}
    answer(facts, text if rows else "no line runs anything", as_json=as_json)


@crontab.command()
@_file
@_read
@_catchup
@click.option("--concurrency", type=click.IntRange(1), default=50, show_default=True)
@click.option("--node", help="What this node is called; the host's name.")
@click.option("--timeout", type=span_of, default=30.0, show_default=True, help="Time to drain.")
@placed
def run(  # noqa: PLR0917 - click passes them by name
    url: str | None,
    schema: str | None,
    as_json: bool,
    concurrency: int,
    node: str | None,
    timeout: float,
    **options: Any,
) -> None:
    """Be one of the hosts that run FILE's lines, each line at its times on one of them.

    Start it with the same file and database on every host. The first SIGTERM or Ctrl-C
    drains, the second stops at once.
    """
    from rota.app import Scheduler
    from rota.cli.crontab_install import install
    from rota.cli.crontab_work import QUEUE, crontab_works
    from rota.cli.serving import log_to_stderr, serve

    found, name = _found(options)
    log_to_stderr("warning")
    scheduler = Scheduler(
        crontab_works(),
        Place(url, schema).named,
        schema=schema,
        queues=[QUEUE],
        name=node,
        concurrency=concurrency,
    )

    async def begin() -> None:
        await install(scheduler, found.entries, name=name, catchup=options["catchup"])

    _complain(found)
    what = f"{counted(len(found.entries), 'line')} of {options['file']}"
    asyncio.run(serve(scheduler, what, timeout=timeout, begin=begin, as_json=as_json))


def _found(options: dict[str, Any]) -> tuple[Crontab, str]:
    path: Path = options["file"]
    zone = options["timezone"] or local_timezone()
    return read_crontab(path, system=options["system"], timezone=zone), options["name"] or path.name


def _complain(found: Crontab) -> None:
    for line in found.left_out:
        click.echo(f"warning: {line}", err=True)


def _facts(installed: Installed) -> list[dict[str, Any]]:
    return [
        {"id": recurring_id, "line": entry.number, "command": entry.command}
        for recurring_id, entry in installed.lines.items()
    ]
