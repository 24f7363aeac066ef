"""At most one start at a time, in a task of its own: others wait for it, a shutdown ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rota.errors import SchedulerNotRunning


class Starting:
    """Runs a scheduler's start; all on its event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def run(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin, or join what has begun; who is cancelled while waiting gives it up for all.

        Raises ``SchedulerNotRunning`` when somebody else gave it up.
        """
        if self._task is None:
            self._task = asyncio.create_task(begin())
            self._task.add_done_callback(self._over)
        task = self._task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await _given_up(task)
            raise
        if task.cancelled():
            raise SchedulerNotRunning("the scheduler was shut down while it started; start it anew")
        task.result()

    async def give_up(self) -> None:
        """End a start that is under way, and wait until nothing of it is left."""
        if self._task is not None:
            await _given_up(self._task)

    def _over(self, _: asyncio.Task[None]) -> None:
        self._task = None


async def _given_up(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
