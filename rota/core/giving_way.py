"""Let other threads have the interpreter where a busy event loop would keep it."""

from __future__ import annotations

import time


def give_way() -> None:
    """Let a thread that waits for the interpreter have it.

    A loop that is never idle gives the interpreter away at each look for events, but for too
    short a time to be taken; and each of these wakes those who wait, who then begin the interval
    anew after which they may insist on it (``take_gil`` in CPython's ``ceval_gil.h``). Any sleep
    is long enough: Linux makes 50 µs of it (``PR_SET_TIMERSLACK`` in prctl(2)).
    """
    time.sleep(1e-6)
