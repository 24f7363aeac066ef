"""Bring persisted tasks into the in-process scheduler: the only way in."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rota.core.clock import Clock
from rota.core.duty import Duty
from rota.core.glance import Glance
from rota.core.holdings import Holdings
from rota.core.ports import Repository
from rota.core.task import Claimed, Lane, Rescued
from rota.errors import NodeDead, StorageUnavailable
from rota.storage.chores import Chores, lanes_of
from rota.storage.hands import Hands
from rota.storage.keeper import Keeper
from rota.storage.lanes import Lanes
from rota.storage.nodelife import NodeLife

log: logging.Logger = logging.getLogger("rota.sync")

LOOK_AHEAD = 1.0
POLL = 5.0
#: At most so long from one glance to the next. Of a peer's death nobody tells: with what is
#: left of its lease then, others run its tasks within 3 s. Who cannot hear looks oftener.
GLANCE, GLANCE_AT_PEERS, GLANCE_DEAF = 4.0, 1.3, 1.0
#: From a glance that saw a lease that was about to end.
SOON = 0.02
#: Whoever wants tasks and has no room, or may not claim, tries again so soon: without a
#: statement, since room comes with time, too.
TRY_AGAIN = 0.5
REPORT_LIMIT = 1_000


class Intake(Protocol):
    """The engine's side: says how much it can take, and takes it."""

    def room(self) -> tuple[int, int, dict[str, int] | None]:
        """To run now, due within the look-ahead, and per limited queue; asked before a claim."""

    def by_queue(self) -> dict[str, int] | None:
        """The last of these alone; from any thread."""

    def take(self, node: int, claimed: Sequence[Claimed], received: float) -> None:
        """Claimed tasks; from ``received`` on, monotonic, their seconds until due count."""

    def works(self) -> Sequence[str]:
        """The work ids known here, for parked tasks."""


@dataclass(slots=True)
class RestoreReport:
    """What the first pass after a start found; the lists end at 1,000."""

    buried: int = 0  #: dead incarnations removed
    rescued: int = 0  #: tasks taken back from them
    lost: int = 0  #: of these, failed as lost
    waiting: int = 0  #: unfinished tasks, up to 10,000
    interrupted: list[str] = field(default_factory=list)  #: ids that were running
    unknown: dict[str, list[str]] = field(default_factory=dict)  #: work id → task ids
    errors: dict[str, str] = field(default_factory=dict)  #: task id → what is wrong


class Sync:
    """Claims what is ready and what is due soon, in its own thread, and hands it on.

    Sleeps until the next due moment, a wake-up, or the next glance: the one statement of a
    node that has nothing to do, which shows whether there is anything. When ``gate`` answers
    False (shutting down, outcomes piled up) it claims nothing. ``on_glance`` is told each, and
    when it began; ``hears`` says whether other nodes' words arrive.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        life: NodeLife,
        holdings: Holdings,
        intake: Intake,
        clock: Clock,
        keeper: Keeper,
        queues: Sequence[str] | None = None,
        look_ahead: float = LOOK_AHEAD,
        poll: float = POLL,
        gate: Callable[[], bool] = lambda: True,
        alone: Callable[[], Sequence[str]] = tuple,
        lazy: bool = False,
        on_lanes: Callable[[Sequence[Lane]], object] = lambda _: None,
        on_expired: Callable[[Sequence[str]], object] = lambda _: None,
        on_rescued: Callable[[Sequence[Rescued]], object] = lambda _: None,
        on_glance: Callable[[Glance, float], object] = lambda _glance, _began: None,
        hears: Callable[[], bool] = lambda: True,
        writing: Callable[[], Collection[int]] = tuple,
        rng: random.Random | None = None,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._repository = repository
        self._life = life
        self._holdings = holdings
        self._intake = intake
        self._clock = clock
        self._queues = queues
        self._look_ahead = look_ahead
        self._poll = poll
        self._gate = gate
        self._alone = alone
        self._lazy = lazy
        self._on_lanes = on_lanes
        self._on_rescued = on_rescued
        self._on_glance = on_glance
        self._hears = hears
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self.lanes: Lanes = Lanes()
        self.report: RestoreReport = RestoreReport()
        self.chores: Chores = Chores(
            repository=repository,
            life=life,
            holdings=holdings,
            clock=clock,
            on_rescued=self._took_back,
            on_expired=on_expired,
            writing=writing,
            keeper=keeper,
            rng=rng,
        )
        self._hints: list[Lane] = []
        self._hints_lock = threading.Lock()
        self._looking = threading.Event()
        self._forgetting = threading.Event()
        now = clock.monotonic()
        self._glance_at = now
        self._agenda_at = now
        self._rescan_at = now
        self._parked_at = now
        self._pace = GLANCE_DEAF
        self._parked = False  #: whether a glance has shown that something is
        self.last_claim: float = now
        self._hands = Hands()
        self.round_trip: float = 0.002  #: of a claim, in seconds, smoothed
        self.duty: Duty = Duty(name="rota-claimer", step=self.step, clock=clock, close=close)

    @property
    def idle(self) -> bool:
        """Whether it may claim, and knows of nothing that it could and has not; any thread."""
        if self._hints or self._looking.is_set() or self._holdings.expecting:
            return False
        behind = self.lanes.behind(self._intake.by_queue())
        return not behind and self._gate() and self._life.may_start

    def hint(self, lanes: Sequence[Lane]) -> None:
        """Say that these lanes got something; from any thread."""
        if self._queues is not None and not self._queues:
            return
        with self._hints_lock:
            self._hints += lanes
        self.duty.wake()

    def look(self) -> None:
        """Ask for the agenda now: somebody changed something, we do not know what."""
        self._looking.set()
        self.duty.wake()

    def look_parked(self) -> None:
        """Ask for parked tasks now: some may be wanted that were not; from any thread."""
        self._parked_at = float("-inf")
        self.duty.wake()

    def forget(self) -> None:
        """Know nothing of any lane from the next pass on, and look; from any thread."""
        self._forgetting.set()
        self.look()

    def step(self) -> float:
        """One pass: hints, a glance and chores if due, a claim if there is room."""
        if self._queues is not None and not self._queues:
            return self._poll
        may_claim = self._gate() and self._life.may_start
        if may_claim:
            self._take_in()
        if self._clock.monotonic() >= self._next_glance(may_claim=may_claim):
            self._glance(may_claim=may_claim)
        wait = self.chores.step()
        may_claim = self._gate() and self._life.may_start
        if may_claim:
            self._claim_parked()
            if self._claim():
                return 0.0
        if not may_claim or self.lanes.wanting:
            wait = min(wait, TRY_AGAIN)
        elif self._parked:
            wait = min(wait, self._parked_at - self._clock.monotonic())
        next_glance = self._next_glance(may_claim=may_claim) - self._clock.monotonic()
        return max(0.0, min(wait, next_glance))

    def _take_in(self) -> None:
        """What others have said since the last pass."""
        if self._forgetting.is_set():
            self._forgetting.clear()
            self.lanes.forget()
        self._take_hints()
        if self._looking.is_set():
            # Cleared before the agenda is read: who asks meanwhile is asked for again.
            self._looking.clear()
            self._agenda_at = float("-inf")

    def _take_hints(self) -> None:
        with self._hints_lock:
            hints, self._hints = self._hints, []
        for lane in hints:
            if self._queues is not None and lane.queue not in self._queues:
                continue
            if lane.due_in <= self._look_ahead:
                self.lanes.hint(lane.queue, lane.priority)
            else:
                when = self._clock.monotonic() + lane.due_in - self._look_ahead
                self._agenda_at = min(self._agenda_at, when)

    def _next_glance(self, *, may_claim: bool) -> float:
        return min(self._glance_at, self._agenda_at) if may_claim else self._glance_at

    def _glance(self, *, may_claim: bool) -> None:
        """Look for whatever there is to do, and at the lanes unless they are left for later."""
        began = self._clock.monotonic()
        with_lanes = may_claim and self._agenda_at <= began + self._pace
        glance = self._repository.glance(self._life.id, self._queues if with_lanes else ())
        now = self._clock.monotonic()
        if glance.moment is not None:
            # Quicker than a claim, which is to be written to the disk: it tells the time better.
            self._hands.moment(glance.moment, sent=began, received=now)
        if with_lanes:
            self._learn(glance.lanes, began, now)
        self._pace = GLANCE_AT_PEERS if glance.peers else GLANCE
        if not self._hears():
            self._pace = GLANCE_DEAF
        wait = self._pace * self._rng.uniform(0.95, 1.0)
        if glance.lease_left is not None:
            wait = min(wait, glance.lease_left + SOON)
        self._glance_at = now + wait
        self._parked = glance.parked
        self.chores.see(glance)
        self._on_glance(glance, began)

    def _learn(self, lanes: Sequence[Lane], began: float, now: float) -> None:
        following = self.lanes.learn(lanes, self._look_ahead)
        self._agenda_at = now + min(self._poll * self._rng.uniform(0.7, 1.0), following)
        if now >= self._rescan_at:
            # At most a fiftieth of the time goes into looking behind the cursors.
            self.lanes.rescan()
            self._rescan_at = now + max(1.0, 50.0 * (now - began))

    def _claim(self) -> bool:
        """One claim; whether another may find more."""
        ready, ahead, by_queue = self._intake.room()
        wants = self.lanes.wants(ready, ahead, by_queue)
        if not wants:
            return False
        most = sum(want.ready + want.ahead for want in wants)
        claimed = self._claimed(
            lambda node, batch: self._repository.claim(
                node, batch, wants, self._look_ahead, lazy=self._lazy, alone=self._alone()
            ),
            most,
        )
        self.lanes.took(wants, claimed)
        # What is due within the look-ahead has been taken; look beyond it in time.
        self._agenda_at = min(self._agenda_at, self._clock.monotonic() + 0.8 * self._look_ahead)
        return self.lanes.active and self._intake.room()[0] > 0

    def _claim_parked(self) -> None:
        now = self._clock.monotonic()
        asked = self._parked_at == float("-inf")
        if now < self._parked_at or not (self._parked or asked):
            return
        self._parked_at = now + self._poll
        works, ready = self._intake.works(), self._intake.room()[0]
        if not works or ready <= 0:
            return
        claimed = self._claimed(
            lambda node, batch: self._repository.claim_parked(
                node, batch, works, ready, self._look_ahead, alone=self._alone()
            ),
            ready,
        )
        if len(claimed) == ready:
            self._parked_at = now

    def claim_one(self, task_id: str) -> Claimed:
        """Take this very task, due or not, and run it here; blocks on the database."""

        def claim(node: int, batch: int) -> list[Claimed]:
            return [self._repository.claim_one(node, batch, task_id)._replace(due_in=0.0)]

        return self._claimed(claim, 1, timed=False)[0]

    def _claimed(
        self,
        statement: Callable[[int, int], list[Claimed]],
        most: int,
        *,
        timed: bool = True,
    ) -> list[Claimed]:
        node = self._life.id
        batch = self._holdings.reserve(most + 1)
        sent = self._clock.monotonic()
        self._holdings.expect(batch, most + 1)
        try:
            claimed = self._told(statement, node, batch)
            received = self._clock.monotonic()
            self.round_trip += 0.2 * (received - sent - self.round_trip)
            self.last_claim = received
            if node != self._life.id:
                # What this node holds of the dead incarnation has been let go already.
                raise NodeDead(
                    f"node {node} was declared dead while its claim was under way; "
                    "others take over what it took, claim again as the new incarnation"
                )
            self._holdings.add(claimed)
        finally:
            self._holdings.expect_no_more(batch)
        if claimed:
            since = received
            if timed:
                told = claimed[0].run_at / 1e6 - claimed[0].due_in
                since = self._hands.moment(told, sent=sent, received=received)
            self._intake.take(node, claimed, since)
        return claimed

    def _told(
        self, statement: Callable[[int, int], list[Claimed]], node: int, batch: int
    ) -> list[Claimed]:
        try:
            return statement(node, batch)
        except NodeDead:
            self._life.suspect()
            raise
        except StorageUnavailable:
            self.chores.reconcile_soon()
            raise

    def _took_back(self, rescued: list[Rescued]) -> None:
        report = self.report
        report.rescued += len(rescued)
        report.lost += sum(item.lost for item in rescued)
        room = REPORT_LIMIT - len(report.interrupted)
        report.interrupted += [item.id for item in rescued[:room]]
        lanes = lanes_of(rescued)
        self.hint(lanes)
        self._on_lanes(lanes)
        self._on_rescued(rescued)
