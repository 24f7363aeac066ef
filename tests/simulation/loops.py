"""An event loop and a clock in virtual time: asyncio's own loop, with its turns from ``Turns``."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tests.simulation.turns import Flag, Host, Strand, Turns

#: When a simulated world begins.
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class _NoSelector:
    def select(self, _: float | None) -> list[Any]:
        return []

    def close(self) -> None: ...


class VirtualLoop(asyncio.BaseEventLoop):
    """One process's event loop; a step is one pass over what is ready."""

    def __init__(self, turns: Turns, host: Host) -> None:
        super().__init__()
        self.host = host
        self.queued = False
        self.stalled_until = 0.0  #: a work blocks it
        self._turns = turns
        self._armed_at = float("inf")
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._turns.now

    def step(self) -> None:
        turns, own = self._turns, cast("Any", self)
        if self.stalled_until > turns.now:
            turns.at(self.stalled_until, lambda: turns.ready(self))
            return
        events._set_running_loop(self)
        try:
            own._run_once()
        finally:
            events._set_running_loop(None)
        if own._ready:
            turns.ready(self)
        elif own._scheduled:
            self._arm(own._scheduled[0]._when)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """A thread of its own for the call."""
        future = self.create_future()

        def call() -> None:
            value, error = None, None
            try:
                value = func(*args)
            except Exception as problem:
                error = problem
            self.call_soon_threadsafe(settle, value, error)

        def settle(value: Any, error: Exception | None) -> None:
            if not future.done():
                future.set_result(value) if error is None else future.set_exception(error)

        Strand(self._turns, self.host, call, "to-thread").start()
        return future

    def abandon(self) -> None:
        """Its process is gone: throw away what was under way."""
        tasks: list[Any] = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        for task in tasks:
            task._log_destroy_pending = False
            try:
                task.get_coro().close()
            except RuntimeError:  # it awaits in its finally
                continue
        self.close()

    def _arm(self, when: float) -> None:
        if when < self._armed_at:
            self._armed_at = when
            self._turns.at(when, self._alarm)

    def _alarm(self) -> None:
        self._armed_at = float("inf")
        self._turns.ready(self)

    def _write_to_self(self) -> None:
        self._turns.ready(self)

    def _process_events(self, event_list: Any) -> None: ...


class NodeClock:
    """One process's clocks: wrong by ``skew``, and monotonic from anywhere on."""

    offset = 0.0

    def __init__(self, turns: Turns, *, skew: float = 0.0, booted: float = 0.0) -> None:
        self.skew = skew
        self._booted = booted
        self._turns = turns

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self._turns.now + self.skew)

    def monotonic(self) -> float:
        self._turns.perhaps_yield()
        return self._turns.now + self._booted

    def stage(self) -> Any:
        """The process of the thread that runs."""
        assert self._turns.current is not None
        return self._turns.current.host

    def call_at(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]
    ) -> asyncio.TimerHandle:
        due = when - self._booted
        # Never a rounding too early: who looks at the clock then would wait for no time at all.
        return loop.call_at(due + 1e-6 if due > self._turns.now else self._turns.now, callback)

    def wait(self, event: Flag, timeout: float | None) -> bool:
        return self._turns.block(event, timeout)
