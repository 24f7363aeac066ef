"""Schedule without waiting for the database: bounded, reported, flushed at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rota.core.eventlog import about
from rota.core.request import ScheduleRequest
from rota.core.task import Inserted
from rota.errors import InvalidArgument

log: logging.Logger = logging.getLogger("rota")

#: So many requests may be under way; the next caller waits.
BUFFER = 10_000


class Soon:
    """Holds requests that their callers do not wait for, and stores them in the background."""

    def __init__(
        self,
        *,
        store: Callable[[ScheduleRequest], Awaitable[Inserted]],
        on_error: Callable[[ScheduleRequest, Exception], object] | None,
        size: int = BUFFER,
    ) -> None:
        self._store = store
        self._on_error = on_error
        self._room = asyncio.Semaphore(size)
        self._under_way: set[asyncio.Task[None]] = set()
        self.failed: int = 0

    async def put(self, request: ScheduleRequest) -> None:
        """Take the request; waits only while the buffer is full."""
        if request.connection is not None:
            raise InvalidArgument(
                "connection is given, but your transaction may have ended before this task is "
                "stored; use schedule, which takes part in it",
                field="connection",
            )
        await self._room.acquire()
        task = asyncio.create_task(self._send(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def flush(self) -> None:
        """Wait until all that was taken is stored or has failed."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, request: ScheduleRequest) -> None:
        try:
            await self._store(request)
        except Exception as error:  # noqa: BLE001 - nobody waits for it: it is reported
            self.failed += 1
            log.warning(
                "task %s (%s) could not be stored: %s",
                request.id,
                request.work,
                error,
                extra=about(
                    "not_stored", task_id=request.id, work=request.work, queue=request.queue
                ),
            )
            self._report(request, error)
        finally:
            self._room.release()

    def _report(self, request: ScheduleRequest, error: Exception) -> None:
        if self._on_error is not None:
            try:
                self._on_error(request, error)
            except Exception:
                log.exception("the on_error listener raised")
