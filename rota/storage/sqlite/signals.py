"""Notice that another node wrote: the database's version number, polled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rota.core.clock import Clock
from rota.core.task import Lane

#: Seconds between two looks: a tenth of the time it has been quiet, but not less or more; a
#: node alone has nobody but a passing command or a program of somebody else's to hear of.
OFTENEST, SELDOMEST, SELDOMEST_ALONE = 0.005, 0.25, 0.5


@dataclass(frozen=True, slots=True)
class SomethingWritten:
    """What SQLite can tell of another's commit: that there was one."""

    lanes: Sequence[Lane] = ()
    tasks: Sequence[str] = ()
    everything: bool = True


class VersionSignals:
    """One node's ears; nobody needs to announce, since every commit can be noticed.

    ``version`` changes with every commit of another connection. Nodes that share one
    repository object share its connection, so ``announce`` tells those. ``alone`` says
    whether no other node was seen.
    """

    def __init__(
        self,
        *,
        version: Callable[[], int],
        alone: Callable[[], bool],
        clock: Clock,
        tell: Callable[[VersionSignals], None],
        forget: Callable[[VersionSignals], None],
    ) -> None:
        self._version = version
        self._alone = alone
        self._clock = clock
        self._tell = tell
        self._forget = forget
        self._seen = version()
        self._quiet_since = time.monotonic()
        self._woken = threading.Event()
        self._told = False

    @property
    def hears(self) -> bool:
        """Always: a commit is noticed without a word."""
        return True

    def announce(
        self, *, lanes: Sequence[Lane] = (), tasks: Sequence[str] = (), everything: bool = False
    ) -> None:
        """Wake the nodes that share this repository object; the others see the commit."""
        if lanes or tasks or everything:
            self._tell(self)

    def hear(self) -> None:
        """Be told by a neighbour in the same repository object."""
        self._told = True
        self._woken.set()

    def wait(self, timeout: float) -> SomethingWritten | None:
        """Block until another node wrote, `interrupt` (None) or the timeout (None).

        The pause between two looks is real time, the timeout the clock's.
        """
        until = self._clock.monotonic() + timeout
        while True:
            if self._heard():
                return SomethingWritten()
            left = until - self._clock.monotonic()
            if self._woken.is_set() or left <= 0:
                self._woken.clear()
                return SomethingWritten() if self._heard() else None
            quiet = time.monotonic() - self._quiet_since
            longest = SELDOMEST_ALONE if self._alone() else SELDOMEST
            self._woken.wait(min(left, longest, max(OFTENEST, quiet / 10)))

    def interrupt(self) -> None:
        """End the wait, or the next one."""
        self._woken.set()

    def close(self) -> None:
        """End the wait and hear no more."""
        self._forget(self)
        self._woken.set()

    def _heard(self) -> bool:
        version = self._version()
        changed, self._seen = version != self._seen, version
        told, self._told = self._told, False
        if told:
            self._woken.clear()
        if changed or told:
            self._quiet_since = time.monotonic()
        return changed or told
