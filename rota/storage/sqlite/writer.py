"""The one thread that writes: what callers hand in together is committed together."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from rota.errors import ForkedScheduler, StorageError, StorageUnavailable
from rota.storage.sqlite.connections import Connections, closed, raw
from rota.storage.sqlite.faults import spoken_plainly, translate
from rota.storage.sqlite.locks import LockFiles

T = TypeVar("T")
#: What a caller hands in: run on the writer's connection, inside its transaction.
Act = Callable[[Connection], T]


#: How often others have written to the file, and this process.
Stamp = tuple[int, int]

#: What one commit takes at most, so that a heartbeat never waits long for the next.
_GROUP, _GROUP_SECONDS = 64, 0.1


class _Entry(NamedTuple):
    """An act in the queue; numbered, so that a failure finds only those who met it."""

    number: int
    future: Future[Any]
    act: Act[Any]
    beat: bool


class Writer:
    """Group commit on one connection, in a thread of its own.

    Acts handed in while a commit is under way share the next one, heartbeats first.
    One that fails takes only its own writes back: each runs in a savepoint, or is the first.
    """

    def __init__(self, *, connections: Connections, locks: LockFiles, timeout: float) -> None:
        self._connections = connections
        self._locks = locks
        self._timeout = timeout
        self._waiting = threading.Condition()
        self._urgent: deque[_Entry] = deque()
        self._rest: deque[_Entry] = deque()
        self._number = 0
        self._stopping = True
        self._thread: threading.Thread | None = None
        self._process = 0
        self._connection: Connection | None = None
        # Held while the connection is used, so that the version can be asked in between.
        self._using = threading.Lock()
        self._version = 0
        self.commits: int = 0
        self.changes: int = 0  #: commits of more than heartbeats

    def start(self, connection: Connection) -> None:
        """Take over this connection and begin."""
        self._connection = connection
        self._process = os.getpid()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rota-sqlite-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what was handed in, close the connection, end the thread."""
        with self._waiting:
            self._stopping = True
            self._waiting.notify_all()
        thread, self._thread = self._thread, None
        if thread is not None and self._process == os.getpid():
            thread.join(self._timeout)

    def write(self, act: Act[T], *, urgent: bool = False) -> T:
        """Run the act, commit, and return its result; its errors come out as rota's.

        Raises ``StorageUnavailable`` when the time is over: an act that had not begun
        never runs; of one that had, nobody knows.
        """
        return self._await(self._hand_in(act, urgent=urgent, beat=False))

    def beat(self, act: Act[T]) -> T:
        """The same for one statement that changes nothing anybody waits for."""
        return self._await(self._hand_in(act, urgent=True, beat=True))

    def _hand_in(self, act: Act[T], *, urgent: bool, beat: bool) -> Future[T]:
        if self._process not in {0, os.getpid()}:
            raise ForkedScheduler
        future: Future[T] = Future()
        with self._waiting:
            if self._stopping:
                raise closed()
            self._number += 1
            entry = _Entry(self._number, future, act, beat)
            (self._urgent if urgent else self._rest).append(entry)
            self._waiting.notify_all()
        return future

    def _await(self, future: Future[T]) -> T:
        try:
            return future.result(self._timeout)
        except FutureTimeout as error:
            given_up = future.cancel()
            if not given_up and future.done():
                return future.result()
            known = "nothing was written" if given_up else "it may still be written"
            raise StorageUnavailable(
                f"SQLite did not write within {self._timeout:g} s, {known}; try again"
            ) from error

    def version(self) -> int:
        """A number that changes with every commit of any other connection.

        Asked on the writer's own connection, the only one to which this process's
        commits are not another's; while it is busy, the last answer.
        """
        if self._using.acquire(blocking=False):
            try:
                with spoken_plainly():
                    self._ask_version()
            finally:
                self._using.release()
        return self._version

    def stamp(self) -> Stamp | None:
        """Another than before if anything was written since; None while that cannot be told.

        Heartbeats of this process do not count.
        """
        if not self._using.acquire(blocking=False):
            return None
        try:
            with spoken_plainly():
                self._ask_version()
            return self._version, self.changes
        finally:
            self._using.release()

    def _ask_version(self) -> None:
        if self._connection is not None and not self._connection.closed:
            cursor = raw(self._connection).execute("pragma data_version")
            (self._version,) = cursor.fetchone()

    def _run(self) -> None:
        while self._await_acts():
            if not self._write_group():
                self._reconnect()
        with self._using:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _await_acts(self) -> bool:
        with self._waiting:
            while not (self._urgent or self._rest or self._stopping):
                self._waiting.wait()
            return bool(self._urgent or self._rest)

    def _next(self, last: int | None = None) -> _Entry | None:
        """The next act nobody has given up, heartbeats first, also those that came just now.

        ``last`` leaves alone what was handed in after that number.
        """
        with self._waiting:
            for queue in (self._urgent, self._rest):
                while queue and (last is None or queue[0].number <= last):
                    entry = queue.popleft()
                    if entry.future.set_running_or_notify_cancel():
                        return entry
        return None

    def _write_group(self) -> bool:
        """One transaction; False if the connection is not to be trusted any more."""
        results: list[tuple[Future[Any], Any]] = []
        last = self._number
        try:
            with self._locks.turn(), self._using:
                self._transact(results)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever happens
            self._refuse(results, error, last)
            return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
        for future, result in results:
            future.set_result(result)
        return True

    def _transact(self, results: list[tuple[Future[Any], Any]]) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connections.connect()
        driver = raw(connection)
        if (beat := self._lone_beat()) is not None:
            self._write_alone(beat, connection, results)
            return
        try:
            driver.execute("begin immediate")
            self._ask_version()
            self._run_acts(connection, driver, results)
            driver.execute("commit")
        except BaseException:
            if driver.in_transaction:
                driver.execute("rollback")
            raise
        self.commits += 1
        self.changes += 1

    def _lone_beat(self) -> _Entry | None:
        """The heartbeat nobody else waits with: one statement needs no transaction around it."""
        with self._waiting:
            if self._rest or len(self._urgent) != 1 or not self._urgent[0].beat:
                return None
        return self._next()

    def _write_alone(
        self, entry: _Entry, connection: Connection, results: list[tuple[Future[Any], Any]]
    ) -> None:
        try:
            results.append((entry.future, entry.act(connection)))
        except Exception as error:
            entry.future.set_exception(_plain(error))
            raise
        self.commits += 1

    def _run_acts(
        self,
        connection: Connection,
        driver: sqlite3.Connection,
        results: list[tuple[Future[Any], Any]],
    ) -> None:
        until = time.monotonic() + _GROUP_SECONDS
        for _ in range(_GROUP):
            entry = self._next()
            if entry is None:
                return
            future, act = entry.future, entry.act
            alone = not results  # nothing before it would go with it
            try:
                if not alone:
                    driver.execute("savepoint act")
                result = act(connection)
            except Exception as error:
                future.set_exception(_plain(error))
                if not driver.in_transaction:
                    # Some errors (disk full, I/O) roll the whole transaction back.
                    raise
                driver.execute("rollback" if alone else "rollback to act")
                driver.execute("begin immediate" if alone else "release act")
            else:
                results.append((future, result))
                if not alone:
                    driver.execute("release act")
            if time.monotonic() > until:
                return

    def _refuse(self, results: list[tuple[Future[Any], Any]], error: Exception, last: int) -> None:
        """Fail the group; if it could not even begin, all who waited when that was tried."""
        plain = _plain(error)
        for future, _ in results:
            future.set_exception(plain)
        while not results and (entry := self._next(last)) is not None:
            entry.future.set_exception(plain)

    def _reconnect(self) -> None:
        with self._using:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    connection.close()
                except (sqlite3.Error, StatementError):
                    return


def _plain(error: Exception) -> Exception:
    plain: Exception
    if isinstance(error, (sqlite3.Error, StatementError, UnicodeEncodeError, OverflowError)):
        plain = translate(error)
    elif isinstance(error, OSError):
        plain = StorageError(f"the lock file failed ({error}); look at the disk")
    else:
        return error
    plain.__cause__ = error
    return plain
