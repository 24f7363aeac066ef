"""Which exit status an error has, and how a command says what went wrong."""

from __future__ import annotations

import click

from rota.errors import (
    DuplicateTask,
    InvalidArgument,
    LeaseLost,
    NotFound,
    RotaError,
    StaleVersion,
    WrongState,
)

#: A promise broke, or the database is in trouble.
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
#: As shells have it: 128 + SIGINT.
INTERRUPTED = 130

_CONFLICTS = (DuplicateTask, StaleVersion, WrongState, LeaseLost)


class DemoFailed(RotaError):
    """The demonstration could not be carried out; that says nothing about its promises."""

    code = "demo_failed"


def status_of(error: RotaError) -> int:
    """The exit status for one of rota's errors."""
    if isinstance(error, InvalidArgument):
        return USAGE
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, _CONFLICTS):
        return CONFLICT
    return FAILED


def complain(message: str) -> None:
    """Say one sentence on stderr."""
    click.echo(f"error: {message}", err=True)
