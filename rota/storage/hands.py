"""Where the database's clock stands against the monotonic one."""

from __future__ import annotations

#: No clock that is being set right runs faster or slower by more than this (adjtimex's limit).
SLEW = 500e-6


class Hands:
    """Narrows down, claim by claim, when the database's clock stood at an instant it told.

    That moment lies between sending the statement and having its answer. A quick answer
    says more than a slow one, and what it said holds on, but for the slew: so a task need
    not start late by the time its claim took to be written, and never starts early.
    """

    def __init__(self) -> None:
        self._ahead = float("inf")  #: at most so far is the monotonic clock ahead
        self._since = 0.0

    def moment(self, told: float, *, sent: float, received: float) -> float:
        """When, on the monotonic clock, the database's stood at ``told`` (epoch seconds)."""
        known = self._ahead + SLEW * (received - self._since)
        # A clock that was set back in between shows: what was known is before the sending.
        self._ahead = max(min(known, received - told), sent - told)
        self._since = received
        return told + self._ahead
