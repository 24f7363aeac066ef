"""Wake other nodes and be woken by them: LISTEN and NOTIFY on a connection of their own."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg

from rota.core.task import Lane
from rota.storage.postgres.connections import cut

#: At most one notification per node in this time; the server takes a lock of the whole
#: database for each, which many small ones would queue for.
_PAUSE = 0.005
_PAYLOAD_LIMIT = 7900  #: bytes; the server refuses 8000
_RECONNECT_FIRST, _RECONNECT_MAX = 0.1, 5.0
_CHANNEL = """select 'rota_' || (hashtext(coalesce(%(schema)s::text, current_schema()))
  & 2147483647)::text"""


class Heard(NamedTuple):
    """What other nodes said since the last wait."""

    lanes: tuple[Lane, ...] = ()
    tasks: tuple[str, ...] = ()
    everything: bool = False


class PostgresSignals:
    """One node's ear and voice; ``wait`` is for one thread, everything else for any.

    It listens from the start. What is announced is sent by the waiting thread, together
    with all else announced in the meantime; by the announcing one if nobody waits. A lost
    connection is made anew, and since notifications may have been missed by then, the
    first wait afterwards hears ``everything``.
    With ``poll_only`` nothing is sent or heard: the safety poll is all there is.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], psycopg.Connection[Any]],
        node: int,
        schema: str | None,
        poll_only: bool,
    ) -> None:
        self._connect, self._node, self._schema = connect, node, schema
        self._poll_only = poll_only
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._lanes: dict[tuple[str, int], float] = {}
        self._tasks: dict[str, None] = {}
        self._everything = False  #: to be said
        self._interrupted = False
        self._closed = False
        self._pipe_out, self._pipe_in = os.pipe()
        os.set_blocking(self._pipe_in, False)
        os.set_blocking(self._pipe_out, False)
        self._connection: psycopg.Connection[Any] | None = None
        self._asked: tuple[psycopg.Connection[Any], float] | None = None
        self._channel = ""
        self._heard: list[str] = []
        self._was_connected = False
        self._next_send = 0.0
        self._next_connect, self._backoff = 0.0, _RECONNECT_FIRST
        self._connected()

    @property
    def hears(self) -> bool:
        """Whether it listens: not behind a pooler, nor while its connection is lost."""
        return self._connection is not None

    def announce(
        self, *, lanes: Sequence[Lane] = (), tasks: Sequence[str] = (), everything: bool = False
    ) -> None:
        """Leave word for the waiting thread to send."""
        if self._poll_only or not (lanes or tasks or everything):
            return
        with self._guard:
            for lane in lanes:
                known = self._lanes.get(lane[:2], lane.due_in)
                self._lanes[lane[:2]] = min(known, lane.due_in)
            self._tasks.update(dict.fromkeys(tasks))
            self._everything |= everything
            self._poke()
        # An event loop must not wait for the server: there the listener's next wait sends it.
        loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises where there is none
        if loop is None and self._turn.acquire(blocking=False):
            try:
                self._send_if_connected()
            finally:
                self._turn.release()

    def wait(self, timeout: float) -> Heard | None:
        """What others say, or None after ``interrupt`` or the timeout (in real seconds)."""
        deadline = time.monotonic() + timeout
        with self._turn:
            while not self._take_interrupt():
                heard = self._step(deadline)
                if heard is not None:
                    return heard
                if time.monotonic() >= deadline:
                    break
            return None

    def interrupt(self) -> None:
        """End a wait, or the next one if none is on."""
        with self._guard:
            self._interrupted = True
            self._poke()

    def abort_overdue(self, since: float) -> int:
        """Cut the connection if it was asked something before ``since`` and has not answered.

        For another thread; ``since`` is real time, as the network's silence is.
        """
        asked = self._asked
        if asked is None or asked[1] >= since:
            return 0
        cut(asked[0])
        return 1

    def close(self) -> None:
        """Send what was announced last and give the connection back; safe to call twice."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._poke()
        with self._turn:
            self._send_if_connected()
            self._disconnect()
            with self._guard:
                os.close(self._pipe_in)
                os.close(self._pipe_out)
                self._pipe_in = -1

    def _step(self, deadline: float) -> Heard | None:
        """One round: connect if need be, sleep until something happens, see to it."""
        connection, fresh = self._connected()
        if fresh:
            return Heard(everything=True)
        until = deadline if connection is not None else min(deadline, self._next_connect)
        if connection is not None and self._has_word():
            until = min(until, self._next_send)
        if self._poll_only:
            until = deadline
        try:
            self._sleep(connection, max(0.0, until - time.monotonic()))
            if connection is not None:
                self._read(connection)
                if time.monotonic() >= self._next_send:
                    self._send(connection)
        except psycopg.Error:
            self._disconnect()
        return self._take_heard()

    def _connected(self) -> tuple[psycopg.Connection[Any] | None, bool]:
        """The connection, if there is one to be had now; whether it replaces a lost one."""
        if self._poll_only or self._connection is not None:
            return self._connection, False
        if time.monotonic() < self._next_connect:
            return None, False
        try:
            connection = self._connect()
        except psycopg.Error:
            self._next_connect = time.monotonic() + self._backoff
            self._backoff = min(self._backoff * 2, _RECONNECT_MAX)
            return None, False
        try:
            self._listen(connection)
        except psycopg.Error:
            connection.close()
            self._next_connect = time.monotonic() + self._backoff
            return None, False
        fresh, self._was_connected = self._was_connected, True
        self._connection, self._backoff = connection, _RECONNECT_FIRST
        return connection, fresh

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        with self._asking(connection):
            row = connection.execute(_CHANNEL, {"schema": self._schema}).fetchone()
            assert row is not None  # noqa: S101 - a select without FROM has a row
            self._channel = row[0]
            connection.add_notify_handler(self._hear)
            # Nothing is written here but hints, which need not wait for the disk.
            connection.execute("set synchronous_commit = off")
            connection.execute(f"listen {self._channel}")

    @contextmanager
    def _asking(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """An answer is waited for: who does not give one in time is cut off."""
        self._asked = connection, time.monotonic()
        try:
            yield
        finally:
            self._asked = None

    def _sleep(self, connection: psycopg.Connection[Any] | None, seconds: float) -> None:
        """Until something is to be read, somebody pokes, or the time is over."""
        # Not select(): it knows no descriptor above 1023.
        ears = select.poll()
        ears.register(self._pipe_out, select.POLLIN)
        if connection is not None:
            ears.register(connection.fileno(), select.POLLIN)
        ears.poll(seconds * 1000)
        with suppress(BlockingIOError):
            while os.read(self._pipe_out, 4096):
                pass

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        """Take in what has arrived, without asking the server anything."""
        connection.pgconn.consume_input()
        while (notice := connection.pgconn.notifies()) is not None:
            self._heard.append(notice.extra.decode())

    def _send(self, connection: psycopg.Connection[Any]) -> None:
        with self._guard:
            lanes, tasks = self._lanes, self._tasks
            everything, self._everything = self._everything, False
            self._lanes, self._tasks = {}, {}
        if not (lanes or tasks or everything):
            return
        payload = json.dumps(
            {"n": self._node, "l": [[*lane, due] for lane, due in lanes.items()], "t": [*tasks]},
            separators=(",", ":"),
        )
        if everything or len(payload) > _PAYLOAD_LIMIT:
            payload = json.dumps({"n": self._node, "e": 1})
        self._next_send = time.monotonic() + _PAUSE
        with self._asking(connection):
            connection.execute("select pg_notify(%s, %s)", (self._channel, payload))

    def _send_if_connected(self) -> None:
        """What is still unsaid; for whoever has the turn while nobody waits."""
        if self._connection is None:
            return
        try:
            self._send(self._connection)
        except psycopg.Error:
            self._disconnect()

    def _hear(self, notice: psycopg.Notify) -> None:
        self._heard.append(notice.payload)

    def _take_heard(self) -> Heard | None:
        """What was heard from others, merged; None if nothing was."""
        payloads, self._heard = self._heard, []
        lanes: list[Lane] = []
        tasks: list[str] = []
        everything = False
        for payload in payloads:
            said = _parsed(payload)
            if said.get("n") == self._node:
                continue
            lanes += (Lane(*lane) for lane in said.get("l", ()))
            tasks += said.get("t", ())
            everything = everything or "e" in said
        if not (lanes or tasks or everything):
            return None
        return Heard(tuple(lanes), tuple(tasks), everything)

    def _has_word(self) -> bool:
        with self._guard:
            return bool(self._lanes or self._tasks or self._everything)

    def _take_interrupt(self) -> bool:
        with self._guard:
            taken, self._interrupted = self._interrupted, False
            return taken or self._closed

    def _poke(self) -> None:
        """Wake the waiting thread; called with the guard held."""
        if self._pipe_in >= 0:
            with suppress(BlockingIOError):
                os.write(self._pipe_in, b"!")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _parsed(payload: str) -> dict[str, Any]:
    """The message, or one that says everything: a newer version may have written it."""
    try:
        said = json.loads(payload)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {"e": 1}
