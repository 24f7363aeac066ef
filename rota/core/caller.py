"""Run something in the thread a blocking verb was called from, on behalf of the loop."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from rota.core.answer import Answer
from rota.errors import WrongThread

T = TypeVar("T")

#: Called with what came of a call: its value, or its error.
Settle = Callable[[Any, BaseException | None], object]


class CallingThread:
    """A thread that waits for a blocking verb, and meanwhile runs what it is given.

    A connection that belongs to that thread may be used only there (SQLite's checks),
    while the verb itself goes through the chain on the event loop.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[tuple[Callable[[], object], Settle] | None] = (
            queue.SimpleQueue()
        )
        self._left = False
        self.over: bool = False  #: the verb has ended; its context may live on in what it began

    async def run(self, fn: Callable[[], T]) -> T:
        """Called on the loop: have the thread call ``fn``.

        Raises ``WrongThread`` if the thread does not wait any more.
        """
        answer: Answer[T] = Answer()
        self._inbox.put((fn, answer.settle))
        if self._left:
            self._refuse()
        return await answer.future

    def post(self, fn: Callable[[], object]) -> None:
        """Called on the loop: have the thread call ``fn`` before the verb returns."""
        self._inbox.put((fn, lambda *_: None))

    def serve(self) -> None:
        """Called in the thread: run what comes until ``release``."""
        try:
            while (call := self._inbox.get()) is not None:
                _answer(*call)
        except BaseException:
            self._left = True
            self._refuse()
            raise

    def release(self) -> None:
        """The verb has ended."""
        self.over = True
        self._inbox.put(None)

    def _refuse(self) -> None:
        """The thread was torn away (a signal); nobody else may use what is its own."""
        gone = WrongThread("the thread that called was interrupted; its connection is left alone")
        while not self._inbox.empty():
            if (call := self._inbox.get_nowait()) is not None:
                call[1](None, gone)


def _answer(fn: Callable[[], object], settle: Settle) -> None:
    try:
        value = fn()
    except Exception as error:  # noqa: BLE001 - carried to the waiter
        settle(None, error)
    except BaseException:
        settle(None, WrongThread("the thread that called was interrupted at its connection"))
        raise
    else:
        settle(value, None)


#: Set while a blocking verb runs on the loop, in that verb's context.
CALLER: ContextVar[CallingThread | None] = ContextVar("rota_caller", default=None)


def calling_thread() -> CallingThread | None:
    """The thread that waits for the verb under way, if one does."""
    caller = CALLER.get()
    return None if caller is None or caller.over else caller


async def run_where_called(fn: Callable[[], T]) -> T:
    """Call ``fn`` in the thread of the blocking verb under way, or right here."""
    caller = calling_thread()
    return fn() if caller is None else await caller.run(fn)
