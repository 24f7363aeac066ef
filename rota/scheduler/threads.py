"""Run plain functions in our own daemon threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

log: logging.Logger = logging.getLogger("rota.scheduler")

#: An idle thread ends after so many seconds.
IDLE = 30.0


class Ended(NamedTuple):
    """How a call in a thread ended: its value, or its exception of whatever kind."""

    value: Any = None
    error: BaseException | None = None


class Call:
    """One call in a thread, awaited any number of times."""

    __slots__ = ("_loop", "_waiter", "ended", "function")

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[Ended] | None = None
        self.function: Callable[[], Any] = function
        self.ended: Ended | None = None

    async def wait(self) -> Ended:
        """Wait for the end; cancelling the waiter does not touch the thread."""
        if self.ended is None:
            if self._waiter is None or self._waiter.cancelled():
                self._waiter = self._loop.create_future()
            return await self._waiter
        return self.ended

    def goes_on(self) -> asyncio.Future[object]:
        """The rest of the call, for a slot that its waiter leaves behind."""
        return asyncio.ensure_future(self.wait())

    def settle(self, ended: Ended) -> None:
        self.ended = ended
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(ended)


class ThreadRunner:
    """As many daemon threads as there are calls at once; results go back in lists.

    A call that finds no idle thread waits a turn of the loop for one that ends its own:
    functions that end at once need few threads, and the interpreter changes hands seldom.
    What still waits then gets new threads, in each turn twice as many.

    Not ``ThreadPoolExecutor``: that one joins its threads at interpreter exit, so a
    function that never returns would keep the service from ending.
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, name: str = "rota-work", idle: float = IDLE
    ) -> None:
        self._loop = loop
        self._name = name
        self._patience = idle
        self._inbox: queue.SimpleQueue[tuple[Call, contextvars.Context] | None] = (
            queue.SimpleQueue()
        )
        self._idle = 0  #: threads without a call
        self._unmanned = 0  #: calls that no thread has been counted on for
        self._count = 0
        self._alive = 0
        self._staffing = 0  #: how many threads the next turn may start; 0 if none is to come
        self._lock = threading.Lock()
        self._finished: deque[tuple[Call, Ended]] = deque()
        self._delivery_pending = False
        self._closed = False

    def submit(self, function: Callable[[], Any]) -> Call:
        """Run the function in a thread, in a copy of the caller's context."""
        call = Call(self._loop, function)
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._alive == 0:
                # First the thread: what could not get one must not be run by another later.
                self._start_thread()
            else:
                self._unmanned += 1
                if not self._staffing:
                    self._staffing = 1
                    self._loop.call_soon(self._staff)
        self._inbox.put((call, contextvars.copy_context()))
        return call

    def _staff(self) -> None:
        """Start threads for what still waits; on the loop."""
        with self._lock:
            try:
                for _ in range(min(self._unmanned, self._staffing)):
                    self._start_thread()
                    self._unmanned -= 1
            except RuntimeError as error:  # the system has no more: those there are go on
                log.warning("no thread could be started, calls wait for others: %s", error)
                self._staffing = 0
            else:
                self._staffing = 2 * self._staffing if self._unmanned else 0
        if self._staffing:
            self._loop.call_soon(self._staff)

    def _start_thread(self) -> None:
        number = self._count + 1
        threading.Thread(target=self._serve, name=f"{self._name}-{number}", daemon=True).start()
        self._count = number
        self._alive += 1

    def close(self) -> None:
        """Let idle threads end; busy ones end when their call does."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._inbox.put(None)
            self._idle = 0

    def _serve(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=self._patience)
            except queue.Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        self._alive -= 1
                        return
                continue  # somebody has counted on this thread just now
            if item is None:
                with self._lock:
                    self._alive -= 1
                return
            call, context = item
            try:
                ended = Ended(context.run(call.function))
            except BaseException as error:  # noqa: BLE001 - SystemExit too is an outcome here
                ended = Ended(error=error)
            with self._lock:
                over = self._closed and not self._unmanned
                if self._unmanned:
                    self._unmanned -= 1
                elif over:
                    self._alive -= 1
                else:
                    self._idle += 1
            self._finished.append((call, ended))
            del item, call, context, ended  # an idle thread keeps nothing alive
            if not self._delivery_pending:
                self._delivery_pending = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody to tell
                    self._loop.call_soon_threadsafe(self._deliver)
            if over:
                return

    def _deliver(self) -> None:
        self._delivery_pending = False
        while self._finished:
            call, ended = self._finished.popleft()
            call.settle(ended)
