"""Wait for tasks to end, wherever they run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from rota.core.clock import Cancellable, Clock
from rota.core.task import Stored
from rota.errors import StorageError

log: logging.Logger = logging.getLogger("rota.control")

FIRST_LOOK = 0.05
SLOWEST_LOOK = 1.0
_FINAL = frozenset({Stored.DONE, Stored.FAILED, Stored.CANCELLED})


class Waiters:
    """Futures by task id, resolved by what this node finishes and by looking in the database.

    One statement asks for all waited ids; it begins fast and slows down to once a
    second. Used on the event loop's thread.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        states: Callable[[Sequence[str]], Awaitable[dict[str, Stored]]],
    ) -> None:
        self._clock = clock
        self._states = states
        self._waiting: dict[str, list[asyncio.Future[Stored]]] = {}
        self._pause = FIRST_LOOK
        self._alarm: Cancellable | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, task_id: str) -> Stored:
        """The final state, once the task has one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Stored] = loop.create_future()
        self._waiting.setdefault(task_id, []).append(future)
        self._pause = FIRST_LOOK
        self._look_soon(0.0)
        try:
            return await future
        finally:
            self._forget(task_id, future)

    @property
    def ids(self) -> Iterable[str]:
        """The tasks somebody here waits for."""
        return self._waiting.keys()

    def ended(self, ended: Iterable[tuple[str, Stored]]) -> None:
        """These tasks have a final state."""
        if not self._waiting:
            return
        for task_id, state in ended:
            if state in _FINAL:
                for future in self._waiting.pop(task_id, ()):
                    if not future.done():
                        future.set_result(state)

    def look(self) -> None:
        """Something was heard of other nodes: look now."""
        self._pause = FIRST_LOOK
        self._look_soon(0.0)

    def close(self, error: Exception) -> None:
        """Nobody will learn any more how their task ended."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _look_soon(self, wait: float) -> None:
        if not self._waiting or self._closed or self._looking is not None:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._clock.call_at(
            asyncio.get_running_loop(), self._clock.monotonic() + wait, self._begin_look
        )

    def _begin_look(self) -> None:
        self._alarm = None
        if self._waiting and not self._closed:
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            states = await self._states(list(self._waiting))
            self.ended(states.items())
        except (StorageError, RuntimeError) as error:
            log.debug("could not look for ended tasks: %s", error)
        finally:
            self._looking = None
            pause, self._pause = self._pause, min(SLOWEST_LOOK, self._pause * 1.5)
            self._look_soon(pause)

    def _forget(self, task_id: str, future: asyncio.Future[Stored]) -> None:
        futures = self._waiting.get(task_id)
        if futures is not None:
            if future in futures:
                futures.remove(future)
            if not futures:
                del self._waiting[task_id]
