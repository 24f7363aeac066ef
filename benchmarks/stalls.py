"""Watch how long an event loop keeps others waiting."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

PAUSE = 0.002


class Stalls:
    """While it is open, asks for a turn again and again; ``seen`` is how late each one came."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()

    @property
    def longest_ms(self) -> float:
        """The latest turn."""
        return round(max(self.seen, default=0.0) * 1000, 2)

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(PAUSE)
            self.seen.append(time.perf_counter() - began - PAUSE)
