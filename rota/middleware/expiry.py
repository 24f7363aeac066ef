"""Do not start an attempt after its task's deadline."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

from rota.core.clock import Clock
from rota.core.outcome import Cancel, Outcome
from rota.core.run import ExecuteNext, Run
from rota.middleware.chain import Occasional


class ExpiryMiddleware(Occasional):
    """Ends a run that would start after ``expires`` as cancelled, reason ``expired``."""

    place: ClassVar[int] = 3

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    def around(self, call_next: ExecuteNext) -> ExecuteNext:
        def call(run: Run) -> Awaitable[Outcome]:
            if run.claimed.expires_in is None:
                return call_next(run)
            return self.on_execute(run, call_next)

        return call

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        left = run.claimed.expires_in
        if left is not None:
            # Both count from the claim's answer: the difference is when this run expires.
            waited = self._clock.monotonic() - run.received
            if waited >= left:
                return Cancel("expired")
        return await call_next(run)
