"""Which exit status an error has, and how a command says what went wrong."""

from __future__ import annotations

import re

import click

from rota.errors import (
    DuplicateTask,
    InvalidArgument,
    LeaseLost,
    NotFound,
    RotaError,
    SchemaMismatch,
    StaleVersion,
    WrongState,
)

#: A promise broke, or the database is in trouble.
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
#: The database's schema and this version of rota: starting again does not help.
UNFIT = 5
#: As shells have it: 128 + SIGINT.
INTERRUPTED = 130

_PASSWORD = re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]*@|([?&]password=)[^\s&]+")
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
    if isinstance(error, SchemaMismatch):
        return UNFIT
    return FAILED


def complain(message: str) -> None:
    """Say one sentence on stderr, on one line."""
    click.echo(f"error: {' '.join(masked(message).split())}", err=True)


def masked(text: str) -> str:
    """The text with the passwords of all URLs in it left out.

    >>> masked("postgresql://ada:secret@db/x")
    'postgresql://ada:***@db/x'
    """
    return _PASSWORD.sub(lambda found: f"{found[2]}***" if found[2] else f"{found[1]}:***@", text)
