"""Run something in the thread a blocking verb was called from, on behalf of the loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class CallingThread:
    """A thread that waits for a blocking verb, and meanwhile runs what it is given.

    A connection that belongs to that thread may be used only there (SQLite's checks),
    while the verb itself goes through the chain on the event loop.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def run(self, fn: Callable[[], T]) -> T:
        """Called on the loop: have the thread call ``fn``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def call() -> None:
            try:
                value, problem = fn(), None
            except Exception as error:  # noqa: BLE001 - carried to the waiter
                value, problem = None, error
            loop.call_soon_threadsafe(settle, value, problem)

        self._inbox.put(call)
        return await future

    def serve(self) -> None:
        """Called in the thread: run what comes until ``release``."""
        while (call := self._inbox.get()) is not None:
            call()

    def release(self) -> None:
        """The verb has ended."""
        self._inbox.put(None)


#: Set while a blocking verb runs on the loop, in that verb's context.
CALLER: ContextVar[CallingThread | None] = ContextVar("rota_caller", default=None)


async def run_where_called(fn: Callable[[], T]) -> T:
    """Call ``fn`` in the thread of the blocking verb under way, or right here."""
    caller = CALLER.get()
    return fn() if caller is None else await caller.run(fn)
