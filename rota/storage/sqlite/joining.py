"""Look at the caller's own connection before tasks join its transaction."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from rota.errors import InvalidArgument, StorageUnavailable
from rota.storage.sqlite.faults import spoken_plainly
from rota.storage.verbs.joining import joinable

_REMEDY = (
    "let SQLAlchemy begin as IMMEDIATE: on the engine's connect event set "
    "dbapi_connection.isolation_level = None, on its begin event run "
    'conn.exec_driver_sql("BEGIN IMMEDIATE")'
)
# Changes no row, but asks for the right to write: what is read from here on stays as it is.
_ASK_TO_WRITE = "update rota_chore set next_at = next_at where 0"


@contextlib.contextmanager
def joined(connection: object, path: Path) -> Iterator[Connection]:
    """The caller's connection with its transaction ready to write; errors come out as rota's.

    Raises ``InvalidArgument`` for what is no connection to this file or has no
    transaction, ``StorageUnavailable`` if another one wrote since it began.
    """
    conn = joinable(connection, "sqlite")
    with spoken_plainly():
        try:
            _check_file(conn, path)
            _check_transaction(conn)
            conn.exec_driver_sql(_ASK_TO_WRITE)
            yield conn
        except DBAPIError as error:
            if str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY"):
                raise _overtaken(error) from error
            raise


def _check_file(conn: Connection, path: Path) -> None:
    # Also lets SQLAlchemy begin, if this is the transaction's first statement.
    rows = conn.exec_driver_sql("pragma database_list").all()
    file = next((str(row[2]) for row in rows if row[1] == "main"), "")
    if not file or not path.exists() or not os.path.samefile(file, path):
        raise InvalidArgument(
            f"connection goes to {file or 'a database in memory'}, but the tasks are in {path}; "
            "pass a connection to the database the scheduler was given",
            field="connection",
        )


def _check_transaction(conn: Connection) -> None:
    driver = conn.connection.driver_connection
    if not getattr(driver, "in_transaction", False):
        raise InvalidArgument(
            f"connection is not in a transaction yet, as SQLite sees it; {_REMEDY}",
            field="connection",
        )


def _overtaken(error: DBAPIError) -> StorageUnavailable:
    return StorageUnavailable(
        f"another transaction writes, or wrote since yours began ({error.orig}); roll back and "
        f"try again, and {_REMEDY}"
    )
