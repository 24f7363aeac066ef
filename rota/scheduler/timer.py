"""One heap of everything this node waits for, fired in slices on the event loop."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Any

from rota.core.clock import Clock
from rota.scheduler.alarm import alarm

#: A slice of firing ends after this many seconds, so other callbacks get their turn.
SLICE = 0.004
_LOOK_AT_CLOCK_EVERY = 32
_COMPACT_FROM = 64


class Timed:
    """One armed callback; ``cancel`` disarms it, also twice, also too late."""

    __slots__ = ("_callback", "_timer", "when")

    def __init__(self, timer: Timer, when: float, callback: Callable[[], object]) -> None:
        self._timer = timer
        self._callback: Callable[[], object] | None = callback
        self.when: float = when

    @property
    def withdrawn(self) -> bool:
        """Whether it was cancelled, or has fired."""
        return self._callback is None

    def cancel(self) -> None:
        if self._callback is not None:
            self._callback = None
            self._timer.forget()

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timer:
    """A heap ordered (when, -priority, arrival); all on the event loop's thread.

    What is ``withdrawn`` stays in the heap until half of it is, then goes at once:
    cancelling costs O(1) on average and leaks nothing.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, int, Callable[[Any], object], Any]] = []
        self._arrivals = 0
        self._dead = 0
        self._alarm = alarm(loop, clock, self._turn)
        self._alarm_at = float("inf")
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def at(self, when: float, callback: Callable[[], object], *, priority: int = 0) -> Timed:
        """Call back once the monotonic clock has reached ``when``; never earlier."""
        timed = Timed(self, when, callback)
        self.push(when, Timed.fire, timed, -priority)
        return timed

    def push(self, when: float, callback: Callable[[Any], object], arg: Any, rank: int = 0) -> None:
        """The same for ``callback(arg)``, the lower rank first, with no handle to cancel it by."""
        if self._closed:
            return
        self._arrivals += 1
        heapq.heappush(self._heap, (when, rank, self._arrivals, callback, arg))
        if when < self._alarm_at:
            self._arm()

    def forget(self) -> None:
        """Count one cancelled entry, and clear them out when they are the half."""
        if self._closed:
            return
        self._dead += 1
        if self._dead > _COMPACT_FROM and self._dead * 2 > len(self._heap):
            self._heap = [item for item in self._heap if not _is_dead(item[4])]
            heapq.heapify(self._heap)
            self._dead = 0

    def close(self) -> None:
        """Fire nothing more."""
        self._closed = True
        self._heap.clear()
        self._dead = 0
        self._alarm.close()

    def _arm(self) -> None:
        if not self._heap or self._closed:
            self._alarm_at = float("inf")
            return
        self._alarm_at = self._heap[0][0]
        self._alarm.set(self._alarm_at)

    def _turn(self) -> None:
        """Fire what is due, for one slice; the rest goes on in the loop's next turn."""
        self._alarm_at = float("-inf")  # pushes during the slice need not arm
        now = self._clock.monotonic()
        until = time.perf_counter() + SLICE
        fired = 0
        while self._heap and self._heap[0][0] <= now:
            _, _, _, callback, arg = heapq.heappop(self._heap)
            fired += 1
            if _is_dead(arg):
                self._dead -= 1
            else:
                try:
                    callback(arg)
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                    self._report(error)
            if fired % _LOOK_AT_CLOCK_EVERY == 0 and time.perf_counter() > until:
                self._loop.call_soon(self._turn)
                return
        self._alarm_at = float("inf")
        self._arm()

    def _report(self, error: BaseException) -> None:
        """One callback's error must not stop the clock."""
        self._loop.call_exception_handler(
            {"message": "rota: a timer's callback raised", "exception": error}
        )


def _is_dead(arg: Any) -> bool:
    return getattr(arg, "withdrawn", False) is True
