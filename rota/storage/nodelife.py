"""This node's life: joining, the heartbeat, and noticing its own death."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from rota.core.clock import Clock
from rota.core.duty import LONGEST_PAUSE, Duty
from rota.core.eventlog import about
from rota.core.ids import new_incarnation
from rota.core.ports import Repository
from rota.core.task import CancelNotice, Membership
from rota.errors import InvalidArgument, SchemaMismatch, StorageUnavailable

log: logging.Logger = logging.getLogger("rota.node")

HEARTBEAT = 5.0
LEASE = 30.0
#: A node stops starting things this much of its lease before others may take over.
MARGIN = 0.1
#: How often running tasks are checked for a request to stop.
LOOK_FOR_CANCELS = 1.0


class NodeLife:
    """Keeps one incarnation alive in its own thread, and replaces it when it is dead.

    A heartbeat needs only that the node's row exists: an expired lease *allows* rescue,
    it does not kill. Without a confirmed heartbeat for a lease the node starts nothing
    new. ``on_dead`` is called in the heartbeat's thread when the row is gone, before
    the new incarnation joins, ``on_joined`` once it has; ``on_cancels`` with the requests to
    stop that stand, each time: while ``holding`` says that there is nothing to stop, nobody looks;
    ``on_may_start`` when a node that was to start nothing may do so again; ``on_unfit`` once, when
    the schema has been changed beyond this code.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        clock: Clock,
        name: str | None = None,
        heartbeat: float = HEARTBEAT,
        lease: float = LEASE,
        on_dead: Callable[[int], object] = lambda _: None,
        on_joined: Callable[[], object] = lambda: None,
        holding: Callable[[], bool] = lambda: True,
        on_cancels: Callable[[list[CancelNotice]], object] = lambda _: None,
        on_may_start: Callable[[], object] = lambda: None,
        on_unfit: Callable[[SchemaMismatch], object] = lambda _: None,
        watch: Callable[[], object] = lambda: None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        if not 0 < heartbeat * 2 <= lease:
            raise InvalidArgument(
                f"lease is {lease:g} s and heartbeat {heartbeat:g} s; "
                "a lease must be at least two heartbeats",
                field="lease",
            )
        self._repository = repository
        self._clock = clock
        self.host: str = socket.gethostname()
        self.name: str = name or f"{self.host}:{os.getpid()}"
        self.heartbeat = heartbeat
        self.lease = lease
        self._on_dead = on_dead
        self._on_joined = on_joined
        self._holding = holding
        self._on_cancels = on_cancels
        self._on_may_start = on_may_start
        self._on_unfit = on_unfit
        self._watch = watch
        self.unfit: SchemaMismatch | None = None  #: why nothing is to be taken any more
        self._id = new_incarnation()
        self._confirmed = float("-inf")
        self._late_until = float("-inf")
        self._next_beat = float("-inf")
        self._joined = threading.Event()
        self.duty: Duty = Duty(
            name="rota-heartbeat",
            step=self.step,
            clock=clock,
            close=close,
            # When an outage ends the others are on their way back, too: who pauses for longer
            # than they wait before they bury is buried.
            longest_pause=min(LONGEST_PAUSE, lease / 10),
        )

    @property
    def id(self) -> int:
        """The present incarnation."""
        return self._id

    @property
    def may_start(self) -> bool:
        """Whether a heartbeat was confirmed within the lease, less a margin."""
        return self._clock.monotonic() - self._confirmed < self.lease * (1 - MARGIN)

    @property
    def trusted(self) -> bool:
        """Whether this node may declare others dead: its own heartbeats were on time."""
        now = self._clock.monotonic()
        return self.may_start and now >= self._late_until and not self._late(now)

    @property
    def lease_age(self) -> float:
        """Seconds since the last confirmed heartbeat was sent."""
        return self._clock.monotonic() - self._confirmed

    def join(self) -> None:
        """Enter this incarnation; blocks on the database."""
        sent = self._clock.monotonic()
        self._repository.join(
            Membership(self._id, self.name, self.host, os.getpid(), self.lease, installed_version())
        )
        self._confirm(sent)
        self._joined.set()
        self._on_joined()

    def wait_joined(self, timeout: float) -> bool:
        return self._clock.wait(self._joined, timeout)

    def step(self) -> float:
        """One turn of the heartbeat's thread."""
        try:
            return self._turn()
        except StorageUnavailable:
            # What was cut may be the connection whose lock says that we live: others shorten
            # our lease for that, so the next beat must not wait for its time.
            self._next_beat = float("-inf")
            raise
        except SchemaMismatch:
            # A table or column is gone, perhaps by an upgrade: the ledger tells, and a node
            # that drains keeps its lease.
            if self._joined.is_set():
                self._beat(self._clock.monotonic())
            raise

    def _turn(self) -> float:
        self._watch()
        now = self._clock.monotonic()
        if not self._joined.is_set():
            self.join()
        elif now >= self._next_beat or self._repository.cut_off():
            # With its session went the lock that says we live, and others shorten our lease.
            self._beat(now)
        self._look_for_cancels()
        return min(LOOK_FOR_CANCELS, max(0.0, self._next_beat - self._clock.monotonic()))

    def suspect(self) -> None:
        """Somebody saw that the row may be gone: look now."""
        self._next_beat = float("-inf")
        self.duty.wake()

    def died(self) -> None:
        """The row of this incarnation is gone: what runs does not count any more; be born again."""
        dead = self._id
        log.error(
            "node %s (%d) was declared dead by another node; its runs are cancelled "
            "and it goes on as a new incarnation",
            self.name,
            dead,
            extra=about("node_died", node=dead),
        )
        self._joined.clear()
        self._confirmed = float("-inf")
        self._on_dead(dead)
        self._id = new_incarnation()
        self.join()

    def _beat(self, now: float) -> None:
        try:
            alive = self._repository.beat(self._id, self.lease)
        except SchemaMismatch as error:
            if not error.found:
                raise  # tables are missing: somebody may be about to restore them
            self._fits_no_more(error)
            alive = True
        if not alive:
            self.died()
            return
        # Late is also the answer that took long: what held it up held up the others.
        answered = self._clock.monotonic()
        if self._late(answered):
            self._late_until = answered + self.lease
        self._confirm(now)

    def _confirm(self, sent: float) -> None:
        """The database has answered a heartbeat, or a join, sent at that moment."""
        stood_still = not self.may_start
        self._confirmed = sent
        self._next_beat = sent + self.heartbeat
        if stood_still and self.may_start:
            self._on_may_start()

    def _fits_no_more(self, error: SchemaMismatch) -> None:
        if self.unfit is None:
            self.unfit = error
            log.error(
                "node %s drains and stops: %s",
                self.name,
                error,
                extra=about("unfit", node=self._id, found=error.found, needed=error.needed),
            )
            self._on_unfit(error)

    def _late(self, now: float) -> bool:
        """Whether our heartbeat is overdue: what held it up may hold up the others'."""
        return now - self._confirmed > max(self.lease / 2, self.heartbeat * 1.25)

    def _look_for_cancels(self) -> None:
        # Told until they are gone: a claim's answer may still be on its way, so that there was
        # nobody to stop the last time.
        if not self._holding():
            return
        if notices := self._repository.cancels(self._id):
            self._on_cancels(notices)


def installed_version() -> str:
    """The version of this rota; empty when it runs from sources that were not installed."""
    try:
        return version("rota")
    except PackageNotFoundError:
        return ""
