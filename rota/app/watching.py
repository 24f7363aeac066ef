"""Watches the loop, the claimer and the finisher from the heartbeat's thread: what stands, lets go.

Time counts only in the watcher's own turns, each for a bounded step: a process that was
stopped or a machine that slept did not stand, it was not there.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable

from rota.core.clock import Clock
from rota.core.duty import Duty

log: logging.Logger = logging.getLogger("rota.watch")

#: A loop is asked when it has not turned by itself from one look to the next: a question would
#: wake an idle one. One that has not answered for so long then stands: nothing is claimed for it.
UNTURNED, STANDS = 0.5, 1.0
#: A duty that has nothing to do is asked to pass after so many quiet seconds.
QUIET = 10.0
#: One turn of the watcher counts for so many seconds at most.
LONGEST_TURN = 2.0


class NodeStalled(RuntimeError):
    """Raised in the heartbeat's thread instead of a beat: others are to take over."""


class Part:
    """Something that must move: it has stood since it was last asked to and did not."""

    def __init__(
        self,
        name: str,
        *,
        mark: Callable[[], object],
        ask: Callable[[], object],
        quiet: float = 0.0,
        needed: bool = True,
    ) -> None:
        self.name = name
        self.needed = needed  #: without it the node holds tasks that nobody ends
        self.stood: float = 0.0
        self.told = False
        self._mark = mark
        self._ask = ask
        self._quiet = quiet
        self._seen: object = None
        self._asked = False
        self._rested = 0.0

    def look(self, elapsed: float) -> None:
        """One turn of the watcher, so many seconds after the one before."""
        mark = self._mark()
        if mark != self._seen:
            self._seen, self._asked = mark, False
            self.stood = self._rested = 0.0
        elif self._asked:
            self.stood += elapsed
        else:
            self._rested += elapsed
        if not self._asked and self._rested >= self._quiet:
            self._asked = True
            self._ask()


class Watch:
    """Takes its turns in the heartbeat's thread, and never waits for what it watches.

    ``turned`` answers something else once the loop has turned by itself. A loop that stands
    has nothing claimed for it; after ``lease`` seconds ``hand_back`` is called, each turn;
    whatever stands for ``stall_after`` seconds is told of. Then a loop or finisher that
    stands ends the heartbeat (``turn`` raises), until it moves again. A claimer does not:
    what it holds is run and finished without it.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        turned: Callable[[], object],
        clock: Clock,
        claimer: Duty,
        finisher: Duty,
        lease: float,
        stall_after: float,
        hand_back: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._stall_after = stall_after
        self._hand_back = hand_back
        self._claimer = claimer
        self._answers = 0
        self._thread = threading.get_ident()
        self._last = clock.monotonic()
        self._loop = Part(
            "the event loop",
            mark=lambda: (self._answers, turned()),
            ask=lambda: loop.call_soon_threadsafe(self._answer),
            quiet=UNTURNED,
        )
        self._parts = [self._loop, _part(finisher), _part(claimer, needed=False)]
        self.standing: bool = False  #: whether the loop stands: then nothing is to be claimed

    @property
    def stalled(self) -> bool:
        """Whether something stands for so long that the node stopped beating."""
        return any(part.needed and part.stood >= self._stall_after for part in self._parts)

    @property
    def troubles(self) -> list[str]:
        """What has stood for a lease or longer, in words."""
        limit = min(self._lease, self._stall_after)
        return [_words(part) for part in self._parts if part.stood >= limit]

    def turn(self) -> None:
        """Look once at everything; raises ``NodeStalled`` when the node is not to beat."""
        now = self._clock.monotonic()
        elapsed, self._last = min(now - self._last, LONGEST_TURN), now
        for part in self._parts:
            part.look(elapsed)
            self._tell(part)
        stood, self.standing = self.standing, self._loop.stood >= STANDS
        if stood and not self.standing:
            self._claimer.wake()
        if self._loop.stood >= self._lease and (count := self._hand_back()):
            log.warning(
                "the event loop has stood for a lease; %d tasks that had not started are "
                "handed back",
                count,
            )
        if self.stalled:
            still = [_words(part) for part in self._parts if part.needed and part.told]
            raise NodeStalled(f"{', '.join(still)}; this node does not beat until that moves again")

    def _tell(self, part: Part) -> None:
        """Say once that it stands for too long, and once that it moves again."""
        if part.told and not part.stood:
            part.told = False
            log.warning("%s moves again", part.name)
        elif not part.told and part.stood >= self._stall_after:
            part.told = True
            remedy = "its tasks are left to other nodes; " if part.needed else ""
            where = self._where() if part is self._loop else ""
            log.error("%s; %sfind what blocks it%s", _words(part), remedy, where)

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - the documented way to it
        return "" if frame is None else ":\n" + "".join(traceback.format_stack(frame))

    def _answer(self) -> None:
        """On the loop."""
        self._answers += 1


def _part(duty: Duty, *, needed: bool = True) -> Part:
    """A duty moves when a pass ends, well or not; one that is not on cannot stand."""

    def mark() -> object:
        on = duty.started and not duty.stopping
        return (duty.last_pass, duty.error) if on else object()

    return Part(duty.name, mark=mark, ask=duty.wake, quiet=QUIET, needed=needed)


def _words(part: Part) -> str:
    return f"{part.name} has stood for {part.stood:.0f} s"
