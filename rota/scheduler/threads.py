"""Run plain functions in our own daemon threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

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
        self.function = function
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
        self._idle = 0
        self._count = 0
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
            else:
                # First the thread: what could not get one must not be run by another later.
                threading.Thread(
                    target=self._serve, name=f"{self._name}-{self._count + 1}", daemon=True
                ).start()
                self._count += 1
        self._inbox.put((call, contextvars.copy_context()))
        return call

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
                        return
                continue  # somebody has counted on this thread just now
            if item is None:
                return
            call, context = item
            try:
                ended = Ended(value=context.run(call.function))
            except BaseException as error:  # noqa: BLE001 - SystemExit too is an outcome here
                ended = Ended(error=error)
            with self._lock:
                over = self._closed
                if not over:
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
