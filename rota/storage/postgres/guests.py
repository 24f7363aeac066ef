"""Take part in a transaction of the caller's own: whose it is, and statements within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from rota.errors import InvalidArgument
from rota.storage.postgres.address import shown
from rota.storage.postgres.connections import FAILURES, Connections
from rota.storage.postgres.refusals import translated
from rota.storage.verbs.joining import joinable

_PLACE = "select current_database(), to_regclass('{s}rota_task')::oid::bigint"


class Borrowed:
    """A psycopg connection of the caller's, for the statements rota runs on its own ones.

    Its settings, row factory and cursors are the caller's and stay as they are.
    """

    def __init__(
        self, *, raw: psycopg.Connection[Any], offset: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._raw, self._offset = raw, offset

    def rows(self, sql: str, **params: object) -> list[tuple[Any, ...]]:
        """Run a statement with the clock's offset bound; the rows, if it returns any."""
        params["offset"] = self._offset()
        with psycopg.Cursor(self._raw, row_factory=tuple_row) as cursor:
            cursor.execute(sql, params, binary=True)
            return cursor.fetchall() if cursor.description else []

    def as_one(self) -> AbstractContextManager[object]:
        """A savepoint around statements: all that they write, or nothing of it."""
        return self._raw.transaction()


class Guests:
    """Lets callers' connections in: to this database, and within a transaction."""

    def __init__(
        self, *, connections: Connections, prefix: str, offset: Callable[[], float]
    ) -> None:
        self._connections, self._offset = connections, offset
        self._where_we_are = _PLACE.format(s=prefix)
        self._home: tuple[Any, ...] = ()

    @contextmanager
    def welcomed(self, connection: object) -> Iterator[Borrowed | sqlalchemy.Connection]:
        """What to run statements on, and the caller's errors in rota's words.

        Raises ``InvalidArgument`` for what is no connection to this database, or commits
        each statement by itself.
        """
        try:
            if isinstance(connection, psycopg.Connection):
                yield self._borrowed(connection)
            else:
                yield self._joined(joinable(connection, "postgresql"))
        except FAILURES as error:
            raise translated(error, self._connections.url) from error

    def _borrowed(self, raw: psycopg.Connection[Any]) -> Borrowed:
        _refuse_autocommit(
            raw.autocommit and raw.info.transaction_status == TransactionStatus.IDLE,
            "call within 'with connection.transaction():'",
        )
        guest = Borrowed(raw=raw, offset=self._offset)
        self._check_home(guest.rows(self._where_we_are)[0])
        return guest

    def _joined(self, conn: sqlalchemy.Connection) -> sqlalchemy.Connection:
        _refuse_autocommit(
            bool(getattr(conn.connection.dbapi_connection, "autocommit", False)),
            "use an engine or connection without isolation_level='AUTOCOMMIT'",
        )
        self._check_home(tuple(conn.exec_driver_sql(self._where_we_are).one()))
        return conn

    def _check_home(self, found: tuple[Any, ...]) -> None:
        """The very table, by its number: names alone may be alike elsewhere."""
        if found != self._home:
            with self._connections.session() as session:
                self._home = session.rows(self._where_we_are)[0]
        if found == self._home:
            return
        what = "in which rota's tables are not found" if found[1] is None else "whose tables differ"
        raise InvalidArgument(
            f"connection goes to database {found[0]!r}, {what}, but the tasks are in "
            f"{shown(self._connections.url)}; pass a connection to the database the scheduler "
            "was given",
            field="connection",
        )


def _refuse_autocommit(is_on: bool, remedy: str) -> None:
    if is_on:
        raise InvalidArgument(
            f"connection commits each statement by itself (autocommit); {remedy}",
            field="connection",
        )
