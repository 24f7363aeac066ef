"""Read a task's params only when it runs: what waits holds none in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

log: logging.Logger = logging.getLogger("rota.scheduler")


class ParamsLoader:
    """Asks for the params of all runs that begin in one turn of the loop by one statement.

    Used on the event loop's thread.
    """

    def __init__(self, *, bodies: Callable[[Sequence[str]], Awaitable[dict[str, str]]]) -> None:
        self._bodies = bodies
        self._wanted: dict[str, asyncio.Future[str | None]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def load(self, task_id: str) -> str | None:
        """The task's params as JSON text; None if they could not be read now."""
        future = self._wanted.get(task_id)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._wanted[task_id] = loop.create_future()
            if len(self._wanted) == 1:
                loop.call_soon(self._ask)
        return await asyncio.shield(future)

    def _ask(self) -> None:
        wanted, self._wanted = self._wanted, {}
        task = asyncio.ensure_future(self._answer(wanted))
        self._asking.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("params could not be read, their tasks are given back: %s", error)

    async def _answer(self, wanted: dict[str, asyncio.Future[str | None]]) -> None:
        found: dict[str, str] = {}
        try:
            found = await self._bodies(list(wanted))
        finally:
            for task_id, future in wanted.items():
                if not future.done():
                    future.set_result(found.get(task_id))
