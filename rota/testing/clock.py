"""A clock that stands still until a test moves it."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from rota.core.clock import Seconds, instant, seconds

if TYPE_CHECKING:
    import asyncio

#: Real seconds a thread may wait for a clock nobody moves.
PATIENCE = 60.0


class FakeClock:
    """The machine's clocks, frozen; only :meth:`advance` moves them.

    ``start`` is real UTC now unless given; ``patience`` is how many real seconds a thread may wait
    for a clock that nobody moves (None: for ever). ``offset`` is what was advanced in all, so a
    database that adds it to its own ``now()`` moves along. May be used from any thread.

    Waiting threads listen on the event's own condition: ``event.set()`` by anyone and
    :meth:`advance` both notify it. Setting the event in the clock's name and clearing it
    afterwards would lose a ``set()`` that falls between the two.
    """

    def __init__(self, start: datetime | None = None, *, patience: float | None = PATIENCE) -> None:
        self._start = datetime.now(UTC) if start is None else instant(start, "start")
        self._patience = patience
        self._offset = 0.0
        self._lock = threading.Condition()
        self._serial = itertools.count()
        self._armed: list[tuple[float, int, _Armed]] = []
        self._waiting: set[_Waiting] = set()

    @property
    def offset(self) -> float:
        """Seconds advanced since the start."""
        return self._offset

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._offset)

    def monotonic(self) -> float:
        return self._offset

    def advance(self, by: Seconds) -> None:
        """Move both clocks; callbacks that fall due are handed to their loops in time order."""
        step = seconds(by, "by")
        with self._lock:
            self._offset += step
            while self._armed and self._armed[0][0] <= self._offset:
                heapq.heappop(self._armed)[2].hand_over()
            over = [entry for entry in self._waiting if entry.deadline <= self._offset]
            self._waiting.difference_update(over)
        for entry in over:
            entry.elapse()

    def call_at(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]
    ) -> _Armed:
        """Call back on the loop's thread once the clock has reached ``when``."""
        armed = _Armed(loop, callback)
        with self._lock:
            if when <= self._offset:
                armed.hand_over()
            else:
                heapq.heappush(self._armed, (when, next(self._serial), armed))
        return armed

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Block until the event is set (True) or the clock was moved past the timeout (False).

        Raises ``RuntimeError`` after ``patience`` real seconds, which means that nobody moves
        the clock. Without a timeout the clock plays no part and the wait is as long as it takes.
        """
        if timeout is None:
            return event.wait()
        with self._lock:
            if timeout <= 0:
                return event.is_set()
            entry = _Waiting(event, self._offset + timeout)
            self._waiting.add(entry)
            self._lock.notify_all()
        try:
            return entry.block(self._patience)
        finally:
            with self._lock:
                self._waiting.discard(entry)
                self._lock.notify_all()

    def block_until(self, waiting: int) -> None:
        """Block until exactly so many threads are in :meth:`wait`: then it is time to advance.

        Raises ``RuntimeError`` after a real minute.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._waiting) == waiting, PATIENCE):
                raise RuntimeError(
                    f"{len(self._waiting)} threads wait for the fake clock, not {waiting}; "
                    "see whether they have started, and whether others wait, too"
                )


class _Armed:
    """One armed callback; ``cancel`` holds until the moment it would run."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def hand_over(self) -> None:
        """Queue the callback on its loop; a loop that is closed has no use for it."""
        if self._callback is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Waiting:
    """One thread that waits for an event until a moment of fake time."""

    __slots__ = ("_condition", "_elapsed", "_event", "deadline")

    def __init__(self, event: threading.Event, deadline: float) -> None:
        self.deadline = deadline
        self._event = event
        # The one private name that lets a second party wake the waiters of an event.
        self._condition: threading.Condition = cast("Any", event)._cond  # noqa: SLF001
        self._elapsed = False

    def elapse(self) -> None:
        with self._condition:
            self._elapsed = True
            self._condition.notify_all()

    def block(self, patience: float | None) -> bool:
        give_up = float("inf") if patience is None else time.monotonic() + patience
        with self._condition:
            while not (self._event.is_set() or self._elapsed):
                left = give_up - time.monotonic()
                if left <= 0:
                    raise RuntimeError(
                        f"nobody moved the fake clock for {patience:.0f} real seconds while a "
                        "thread waited for it; call advance(), or set the event"
                    )
                self._condition.wait(min(left, PATIENCE))
            return self._event.is_set()
