"""Bound how long a run may take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rota.core.clock import Cancellable, Clock
from rota.core.context import set_deadline
from rota.core.outcome import Outcome
from rota.core.run import ExecuteNext, Run, Stop
from rota.errors import RunTimeout
from rota.middleware.chain import Occasional

log: logging.Logger = logging.getLogger("rota.middleware")


class Alarms(Protocol):
    """The engine's timer: one heap for all time limits."""

    def at(self, when: float, callback: Callable[[], object], /) -> Cancellable: ...


class TimeoutMiddleware(Occasional):
    """Ends a run's wait at its ``timeout``, whatever the work does.

    A coroutine is cancelled, a thread sees ``ctx.cancelled``. The outcome does not wait
    for either: what goes on keeps its slot until it ends, and its result is dropped.
    """

    place: ClassVar[int] = 1

    def __init__(self, *, alarms: Alarms, clock: Clock) -> None:
        self._alarms = alarms
        self._clock = clock

    def around(self, call_next: ExecuteNext) -> ExecuteNext:
        def call(run: Run) -> Awaitable[Outcome]:
            if run.options.timeout is None:
                return call_next(run)
            return self.on_execute(run, call_next)

        return call

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        limit = run.options.timeout
        if limit is None:
            return await call_next(run)
        deadline = self._clock.monotonic() + limit
        set_deadline(run.context, deadline)
        return await self._bounded(run, call_next, limit, deadline)

    async def _bounded(
        self, run: Run, call_next: ExecuteNext, limit: float, deadline: float
    ) -> Outcome:
        loop = asyncio.get_running_loop()
        gate: asyncio.Future[None] = loop.create_future()

        def open_gate(_: object = None) -> None:
            if not gate.done():
                gate.set_result(None)

        inner = loop.create_task(_carried(call_next, run))
        inner.add_done_callback(open_gate)
        outer, run.target = run.target, inner
        alarm = self._alarms.at(deadline, open_gate)
        try:
            await _wait_through_cancels(gate, inner)
        finally:
            alarm.cancel()
            run.target = outer
        if inner.done():
            return _unpacked(inner.result())
        run.target = inner
        run.stop(Stop.TIMEOUT, f"ran longer than {limit:g} s")
        run.lingering = inner
        inner.add_done_callback(_drop)
        raise RunTimeout(f"ran longer than its timeout of {limit:g} s")


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a task must not raise, since that would end the event loop with it."""

    error: BaseException


async def _carried(call_next: ExecuteNext, run: Run) -> Outcome | _Raised:
    try:
        return await call_next(run)
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


def _unpacked(ended: Outcome | _Raised) -> Outcome:
    if isinstance(ended, _Raised):
        raise ended.error
    return ended


async def _wait_through_cancels(
    gate: asyncio.Future[None], inner: asyncio.Task[Outcome | _Raised]
) -> None:
    """Wait for the gate; a cancel of this task goes on to the inner one, which decides."""
    while not gate.done():
        try:
            await asyncio.shield(gate)
        except asyncio.CancelledError:
            inner.cancel()


def _drop(task: asyncio.Task[Outcome | _Raised]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        if task.exception() is None:
            log.info("the late result of a run past its timeout was dropped")
