"""Where the database's clock stands against the monotonic one."""

from __future__ import annotations

#: Two machines' clocks run apart by less than this, in seconds a second.
SLEW = 50e-6
#: After so many seconds it is worth a statement to ask again.
STALE = 5.0


class Hands:
    """Narrows down, answer by answer, when the database's clock stood at an instant it told.

    That moment lies between sending a statement and having its answer. A quick answer says
    more than a slow one, and what it said holds on, but for the slew: so a task need not
    start late by the time its claim took to be written, and does not start early.
    """

    def __init__(self) -> None:
        self._ahead = float("inf")  #: at most so far is the monotonic clock ahead
        self._since = 0.0
        self._asked_at = float("-inf")

    def stale(self, now: float) -> bool:
        """Whether to ask the database for nothing but its time."""
        return now >= self._asked_at + STALE

    def asked(self, told: float, *, sent: float, received: float) -> None:
        """What it answered to that."""
        self._asked_at = received
        self.moment(told, sent=sent, received=received)

    def moment(self, told: float, *, sent: float, received: float) -> float:
        """When, on the monotonic clock, the database's stood at ``told`` (epoch seconds)."""
        known = self._ahead + SLEW * (received - self._since)
        # A clock that was set back in between shows: what was known is before the sending.
        self._ahead = max(min(known, received - told), sent - told)
        self._since = received
        return told + self._ahead
