"""What PostgreSQL and psycopg refuse, in rota's errors."""

from __future__ import annotations

import psycopg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from rota.errors import (
    DataRefused,
    ReadOnlyDatabase,
    RotaError,
    SchemaTooOld,
    StorageError,
    StorageUnavailable,
)
from rota.storage.postgres.address import shown
from rota.storage.schema import step_0001

_READ_ONLY = "25006"
_NO_PRIVILEGE = "42501"
_FAILED_BEFORE = "25P02"  #: only in a transaction of the caller's
_MISSING = {"42P01": "a table", "42703": "a column", "3F000": "the schema"}
#: Statement timeout, lock timeout, deadlock, serialization: the next try may go through.
_PASSING = {"57014", "55P03", "40P01", "40001"}
_UNREACHABLE_CLASSES = {"08", "53", "57", "58"}
_DATA_CLASSES = {"22", "23"}


def translated(error: BaseException, url: URL) -> RotaError:
    """The rota error for one of psycopg's, or for SQLAlchemy's wrapping of it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    said = _first_line(cause)
    if state == _READ_ONLY:
        return ReadOnlyDatabase(f"{shown(url)} is read-only; connect to the primary server")
    if state in _MISSING:
        return missing_tables(url, f"{_MISSING[state]} is missing ({said})")
    if state == _FAILED_BEFORE:
        return StorageError("the transaction has failed before this; roll it back and begin anew")
    if state == _NO_PRIVILEGE:
        return StorageError(f"{said}; grant the user its rights on the rota_ tables")
    unsendable = not state and isinstance(cause, (psycopg.DataError, UnicodeEncodeError))
    if state[:2] in _DATA_CLASSES or unsendable:
        return DataRefused(f"the database refused a value: {said}; change the value")
    passing = state in _PASSING or state[:2] in _UNREACHABLE_CLASSES
    if passing or isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StorageUnavailable(
            f"{shown(url)} does not answer: {said}; check that it runs and can be reached"
        )
    return StorageError(f"the database refused a statement: {said}; please report this")


def missing_tables(url: URL, fact: str) -> SchemaTooOld:
    """The error for a database that was never set up, or not for this version."""
    return SchemaTooOld(
        f"{fact}; run: rota db upgrade --url {shown(url)}", found=0, needed=step_0001.VERSION
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
