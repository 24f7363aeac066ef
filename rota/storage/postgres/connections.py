"""One connection per calling thread, with the settings rota's statements count on."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import psycopg
import sqlalchemy
from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DBAPIError

from rota.errors import StorageUnavailable
from rota.storage.postgres.refusals import translated

#: Hot statements are written for index lookups in a given order; with a stale statistic the
#: planner would now and then take a hash join over the whole table instead.
_PLANNER = {
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # it reads a whole lane, and sorts it, for the first few rows
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "rota",
}
#: The server's side of the same: the locks of a host that is gone without a word go, too.
_SERVER_KEEPALIVE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
#: psycopg lets half a character through as Python's own error.
FAILURES = (psycopg.Error, DBAPIError, UnicodeEncodeError)


class Statements(Protocol):
    """Whatever runs a statement: a thread's session, or the connection a caller lends."""

    def rows(self, sql: str, **params: object) -> list[tuple[Any, ...]]:
        """Run it with the clock's offset bound; the rows, if it returns any."""


#: Rows are made so many at a time: an event loop that waits for the interpreter gets it in between.
_AT_ONCE = 250


class Session:
    """One thread's connection, as SQLAlchemy's ``conn`` and as psycopg's ``raw``.

    ``advisory`` are the nodes whose lock this connection holds on the server.
    """

    def __init__(self, *, conn: sqlalchemy.Connection, offset: Callable[[], float]) -> None:
        self.conn = conn
        raw = conn.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101 - narrows the type
        self.raw: psycopg.Connection[Any] = raw
        self.thread: threading.Thread = threading.current_thread()
        self.turn: threading.Lock = threading.Lock()
        self.busy_since: float | None = None
        self.advisory: set[int] = set()
        self._offset = offset

    def rows(self, sql: str, **params: object) -> list[tuple[Any, ...]]:
        """Run a statement with the clock's offset bound; the rows, if it returns any."""
        self.busy_since = time.monotonic()
        params["offset"] = self._offset()
        cursor = self.raw.execute(sql, params, binary=True)
        if not cursor.description:
            return []
        rows = cursor.fetchmany(_AT_ONCE)
        while len(rows) < cursor.rowcount:
            rows += cursor.fetchmany(_AT_ONCE)
        return rows

    def script(self, sql: str) -> None:
        """Run statements that take no parameters, in one round trip."""
        self.busy_since = time.monotonic()
        self.raw.execute(sql)

    def rollback(self) -> None:
        """End the transaction, as far as the connection still can."""
        with suppress(psycopg.Error):
            self.raw.execute("rollback")

    @property
    def usable(self) -> bool:
        return not self.raw.closed and (
            self.raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        )

    def hung_up(self) -> bool:
        """Whether the server ended this session while it was idle; no round trip.

        Else the first statement after a server's restart would fail, on each session.
        """
        try:
            line = select.poll()
            line.register(self.raw, select.POLLIN)
            while line.poll(0):
                self.raw.pgconn.consume_input()
        except (psycopg.Error, OSError):
            return True
        return self.raw.pgconn.status != psycopg.pq.ConnStatus.OK

    def abort(self) -> None:
        """Cut the line under a thread that waits for an answer: it gets an error."""
        cut(self.raw)

    def close(self) -> None:
        """Close the connection; the server drops its locks."""
        with suppress(*FAILURES):
            self.raw.close()
            self.conn.invalidate()
            self.conn.close()


def cut(raw: psycopg.Connection[Any]) -> None:
    """End a connection under a thread that waits for its answer; from any thread."""
    with suppress(OSError, psycopg.Error):
        # A duplicate: the descriptor itself may be closed, and reused, at any moment.
        line = socket.socket(fileno=socket.dup(raw.fileno()))
        with line:
            line.shutdown(socket.SHUT_RDWR)


class Connections:
    """Gives each thread its session, renews broken ones, and translates what goes wrong."""

    def __init__(
        self, url: URL, *, offset: Callable[[], float], statement_timeout: float, poll_only: bool
    ) -> None:
        self.url = url
        self._offset = offset
        self._timeout = statement_timeout
        self._poll_only = poll_only
        self._settings = {
            "statement_timeout": str(int(statement_timeout * 1000)),
            # A node frozen or cut off in the midst of a transaction keeps nobody waiting
            # for longer; as `abort_overdue` on this side.
            "idle_in_transaction_session_timeout": str(int((2 * statement_timeout + 1) * 1000)),
            "timezone": "UTC",
            **_PLANNER,
        }
        self._engine = sqlalchemy.create_engine(
            url,
            creator=self.connect,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
            execution_options={"preserve_rowcount": True},
        )
        self._local = threading.local()
        self._sessions: set[Session] = set()
        self._guard = threading.Lock()
        self._closed = False

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own, outside the threads' sessions, in autocommit."""
        _, arguments = self._engine.dialect.create_connect_args(self.url)
        arguments = {**_KEEPALIVE, "connect_timeout": max(2, int(self._timeout)), **arguments}
        if not self._poll_only:
            told = {**self._settings, **_SERVER_KEEPALIVE}
            settings = " ".join(f"-c {name}={value}" for name, value in told.items())
            arguments["options"] = f"{arguments.get('options', '')} {settings}".strip()
        connection: psycopg.Connection[Any] = psycopg.connect(**arguments, autocommit=True)
        if self._poll_only:
            # A pooler gives every transaction another server connection.
            connection.prepare_threshold = None
        return connection

    @contextmanager
    def session(self) -> Iterator[Session]:
        """This thread's session, each statement its own transaction."""
        if self._poll_only:
            with self.transaction() as session:
                yield session
            return
        with self._borrowed() as session:
            yield session

    @contextmanager
    def transaction(self, *, settings: str = "") -> Iterator[Session]:
        """This thread's session within a transaction; ``settings`` is SQL run at its start."""
        with self._borrowed() as session:
            session.script(self._begin(settings))
            try:
                yield session
            except BaseException:
                session.rollback()
                raise
            session.script("commit")

    @contextmanager
    def unhurried(self) -> Iterator[sqlalchemy.Connection]:
        """A fresh connection with the server's own settings, for changing the schema."""
        try:
            with self._engine.connect() as conn:
                if not self._poll_only:
                    for name in self._settings:
                        conn.exec_driver_sql(f"reset {name}")
                    conn.exec_driver_sql("set statement_timeout = 0")
                    conn.rollback()  # of SQLAlchemy's own, on its side only
                yield conn
        except FAILURES as error:
            raise translated(error, self.url) from error

    @property
    def overdue(self) -> float:
        """What has waited for the server since before this is not going to be answered."""
        return time.monotonic() - (2 * self._timeout + 1)

    def abort_overdue(self) -> int:
        """Cut connections whose statement has run past its timeout twice over; how many.

        Real time, not the injected clock's: it is about a network that does not answer.
        """
        limit = self.overdue
        with self._guard:
            sessions = list(self._sessions)
        overdue = [s for s in sessions if s.busy_since is not None and s.busy_since < limit]
        for session in overdue:
            session.abort()
        return len(overdue)

    def cut_off(self) -> bool:
        """Whether the server has ended this thread's session; no round trip."""
        session: Session | None = getattr(self._local, "session", None)
        return session is not None and session.hung_up()

    def give_back(self) -> None:
        """Close this thread's session, unless it holds the lock that shows a node lives."""
        session: Session | None = getattr(self._local, "session", None)
        if session is not None and not session.advisory:
            self._drop(session)

    def reopen(self) -> None:
        """Let sessions be made again after ``close``."""
        self._closed = False

    def close(self) -> None:
        """Close idle sessions and cut busy ones, whose threads then close theirs."""
        self._closed = True
        with self._guard:
            sessions = list(self._sessions)
        for session in sessions:
            if session.turn.acquire(blocking=False):
                try:
                    self._drop(session)
                finally:
                    session.turn.release()
            else:
                session.abort()
        self._engine.dispose()

    @contextmanager
    def _borrowed(self) -> Iterator[Session]:
        session = self._mine()
        with session.turn:
            session.busy_since = time.monotonic()
            try:
                yield session
            except FAILURES as error:
                raise translated(error, self.url) from error
            finally:
                session.busy_since = None
                self._settle(session)

    def _begin(self, settings: str) -> str:
        if self._poll_only:
            local = (f"set local {name} = '{value}'" for name, value in self._settings.items())
            return "; ".join(["begin", *local]) + f"; {settings}"
        return f"begin; {settings}"

    def _mine(self) -> Session:
        session: Session | None = getattr(self._local, "session", None)
        if session is not None:
            # One that held a lock is used once more: its thread must hear that the lock is gone.
            if not session.raw.closed and (session.advisory or not session.hung_up()):
                return session
            self._drop(session)
        if self._closed:
            raise StorageUnavailable("the repository is closed; open it first")
        self._reap()
        try:
            session = Session(conn=self._engine.connect(), offset=self._offset)
        except FAILURES as error:
            raise translated(error, self.url) from error
        self._local.session = session
        with self._guard:
            self._sessions.add(session)
        return session

    def _settle(self, session: Session) -> None:
        """Leave the session fit for its next use, or drop it."""
        if self._closed or not session.usable:
            self._drop(session)
        elif session.conn.in_transaction():
            # SQLAlchemy began one of its own on its side; on the server nothing is open.
            session.conn.rollback()

    def _drop(self, session: Session) -> None:
        with self._guard:
            mine = session in self._sessions
            self._sessions.discard(session)
        if mine:  # else another thread is closing it at this moment
            session.close()

    def _reap(self) -> None:
        with self._guard:
            orphans = [s for s in self._sessions if not s.thread.is_alive()]
        for session in orphans:
            self._drop(session)
