"""The options that many commands have in common, and where the database is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Option(Protocol):
    """A decorator that gives a command an option."""

    def __call__(self, command: F, /) -> F: ...


URL_VARIABLE, APP_VARIABLE = "ROTA_URL", "ROTA_APP"

with_json: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_url: Option = click.option(
    "--url", envvar=URL_VARIABLE, help=f"sqlite:///file.db or postgresql://… ({URL_VARIABLE})."
)
with_schema: Option = click.option("--schema", help="The PostgreSQL schema with rota's tables.")
with_app: Option = click.option(
    "--app",
    envvar=APP_VARIABLE,
    help=f"module:scheduler, whose works check params and give options ({APP_VARIABLE}).",
)
with_yes: Option = click.option("--yes", is_flag=True, help="Do not ask.")


class Place(NamedTuple):
    """The database a command is about; ``app`` names a scheduler that knows the works."""

    url: str | None
    schema: str | None = None
    app: str | None = None

    @property
    def named(self) -> str:
        """The URL; without one it is wrong use."""
        if not self.url:
            raise click.UsageError(
                f"no database is named; give --url, or set {URL_VARIABLE} (which no ps shows)"
            )
        if self.schema is not None and self.url.lower().startswith("sqlite:"):
            raise click.UsageError(
                "SQLite has no schemas; leave --schema out, or name another file"
            )
        return self.url


def placed(command: F) -> F:
    """``--url``, ``--schema`` and ``--json``."""
    command = with_json(command)
    command = with_schema(command)
    command = with_url(command)
    return command  # noqa: RET504 - said at once, its type is lost


def confirm(question: str, *, yes: bool) -> None:
    """Ask before many tasks are changed; where nobody can answer, ``--yes`` must have been said."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"this would {question}; add --yes to do it without asking")
    if not click.confirm(f"{question[:1].upper()}{question[1:]}?", err=True):
        click.echo("nothing was done", err=True)
        click.get_current_context().exit()
