"""One alarm of an event loop: to the microsecond where the kernel offers it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

from rota.core.clock import Cancellable, Clock, SystemClock

_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1
#: Beyond this the kernel's seconds may end; who is woken there sets the alarm again.
_LATEST = float(2**31 - 1)


class Alarm(Protocol):
    """Rings once, on the loop, when the monotonic clock has reached the moment last set."""

    def set(self, when: float) -> None: ...

    def close(self) -> None:
        """Ring no more, and give back what it holds."""


def alarm(loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], object]) -> Alarm:
    """The best there is for this clock and loop."""
    if type(clock) is SystemClock and sys.platform == "linux":
        try:
            return KernelAlarm(loop, ring)
        except (OSError, AttributeError, NotImplementedError):
            pass  # a C library without timers, a loop without readers, no more descriptors
    return LoopAlarm(loop, clock, ring)


class LoopAlarm:
    """By the loop's own timer, which waits in whole milliseconds and rounds up (``select``)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._armed: Cancellable | None = None

    def set(self, when: float) -> None:
        self.close()
        self._armed = self._clock.call_at(self._loop, when, self._rings)

    def close(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _rings(self) -> None:
        self._armed = None
        self._ring()


class _Moment(ctypes.Structure):
    """``struct itimerspec``: no interval, and an absolute moment."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class KernelAlarm:
    """By a timer that is a file (timerfd_create(2)): the loop waits for it as for a socket.

    Python has it as ``os.timerfd_create`` from 3.13 on. Raises ``OSError``,
    ``AttributeError`` or ``NotImplementedError`` where it cannot be had.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._loop = loop
        self._ring = ring
        fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fd = fd
        # Also when a loop is closed, and forgotten, without its engine having been stopped.
        self._give_back = weakref.finalize(self, os.close, fd)
        try:
            loop.add_reader(fd, self._rings)
        except BaseException:
            self._give_back()
            raise

    def set(self, when: float) -> None:
        if not self._give_back.alive:
            return
        bounded = min(max(when, 0.0), _LATEST)
        whole = int(bounded)
        # One nanosecond more than what it is cut to: never early, and never 0, which unsets it.
        moment = _Moment(0, 0, whole, min(int((bounded - whole) * 1e9) + 1, 999_999_999))
        if self._settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(moment), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        if self._give_back.alive:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._give_back()

    def _rings(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew after the loop had seen it ring
        self._ring()
