"""A named thread with one loop and one duty, and a small pool for odd jobs."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from rota.core.answer import Answer
from rota.core.clock import Clock
from rota.errors import ForkedScheduler, SchedulerNotRunning

log: logging.Logger = logging.getLogger("rota.duty")

T = TypeVar("T")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0


class OffloadClosed(SchedulerNotRunning, RuntimeError):
    """Its threads have ended: for a verb's caller the scheduler does not run any more.

    A ``RuntimeError``, too, like the one of a loop that is closed: rota's own loops meet
    both while the house comes down.
    """


class Duty:
    """Calls ``step`` again and again until stopped; survives its errors and says so once.

    ``step`` returns how many seconds to wait before the next call, at most; ``wake``
    ends that wait. After an error the wait is a jittered pause that ``wake`` does not
    shorten, growing up to ``longest_pause``. ``begin`` runs in the thread at its start, so that
    what it needs is there before the first step has to be quick; an error of it is the step's to
    meet again. ``close`` runs in the thread at its end, to give back what belongs to it.
    """

    def __init__(
        self,
        *,
        name: str,
        step: Callable[[], float],
        clock: Clock,
        begin: Callable[[], object] = lambda: None,
        close: Callable[[], object] = lambda: None,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self.name = name
        self._begin = begin
        self._longest_pause = longest_pause
        self._step = step
        self._clock = clock
        self._close = close
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failures = 0
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self.last_pass: float = clock.monotonic()
        self.error: Exception | None = None  #: why it is in trouble now, if it is
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Have the next step begin now; cheap to call often."""
        if not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """Let the step in hand end, then end the thread."""
        self._stop.set()
        self._wake.set()

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; whether it has ended."""
        if self.started and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        try:
            self._begin()
        except Exception:
            log.debug("%s could not begin well", self.name, exc_info=True)
        try:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    wait = self._step()
                except Exception as error:  # noqa: BLE001 - a duty survives; the log says what hit it
                    self._pause_after(error)
                else:
                    self._recovered()
                    if wait > 0:
                        self._clock.wait(self._wake, wait)
        finally:
            try:
                self._close()
            except Exception:
                log.debug("%s did not close cleanly", self.name, exc_info=True)

    def _pause_after(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("%s is in trouble and will go on trying: %s", self.name, error)
        log.debug("%s failed %d times", self.name, self._failures, exc_info=error)
        self.error = error
        pause = min(self._longest_pause, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        self._clock.wait(self._stop, pause * self._rng.uniform(0.5, 1.0))

    def _recovered(self) -> None:
        self.last_pass = self._clock.monotonic()
        if self._failures:
            log.info("%s goes on after %d failures", self.name, self._failures)
            self._failures = 0
            self.error = None


class Offload:
    """At most ``size`` named threads, started on demand, for calls the loop must not make."""

    def __init__(
        self, *, name: str, size: int = 2, close: Callable[[], object] = lambda: None
    ) -> None:
        self._name = name
        self._size = size
        self._close = close
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._closed = False
        self._process = os.getpid()

    async def run(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call ``fn`` in one of the threads; it goes on if the waiter is cancelled.

        Raises ``ForkedScheduler`` in a forked child, which has none of the threads.
        """
        if os.getpid() != self._process:
            raise ForkedScheduler
        answer: Answer[T] = Answer()
        self._submit(partial(answer.call, partial(fn, *args, **kwargs)))
        return await answer.future

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._calls.put(None)
        for thread in threads:
            thread.join(5.0)

    def _submit(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise OffloadClosed("the scheduler was shut down; use another one")
            self._busy += 1
            if self._busy > len(self._threads) < self._size:
                thread = threading.Thread(
                    target=self._serve, name=f"{self._name}-{len(self._threads) + 1}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        self._calls.put(call)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._lock:
                self._busy -= 1
        self._close()
