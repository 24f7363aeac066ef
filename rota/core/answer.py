"""What a call in another thread comes to, for the coroutine that waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Answer(Generic[T]):
    """A value or an error that any thread may settle; made on the loop where it is awaited.

    Nobody is told once the waiter was cancelled or the loop is closed. ``future`` is for those
    who wait in another way than by ``await answer.future``.
    """

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def settle(self, value: T | None, error: BaseException | None) -> None:
        """Say what came of it, from any thread, once."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, value, error)

    def call(self, fn: Callable[[], T]) -> None:
        """Call ``fn`` in this thread and say what came of it."""
        value: T | None = None
        problem: BaseException | None = None
        try:
            value = fn()
        except BaseException as error:  # noqa: BLE001 - carried to the waiter
            problem = error
        self.settle(value, problem)

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)  # type: ignore[arg-type]
