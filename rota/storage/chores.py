"""What every node does for all when there is a need: bury, rescue, expire, tidy, audit."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection

from rota.core.audit import Suspect
from rota.core.auditor import Auditor
from rota.core.clock import Clock
from rota.core.eventlog import about
from rota.core.glance import Glance
from rota.core.holdings import Holdings
from rota.core.ports import Repository
from rota.core.task import Lane, Rescued, Stored
from rota.storage.keeper import Keeper
from rota.storage.nodelife import NodeLife

log: logging.Logger = logging.getLogger("rota.sync")

RESCUE_LEASES = 100
RECONCILE = 10.0
TIDY = 900.0
AUDIT = 600.0
#: An audit goes by steps, so that claims do not wait for it, and ends after so many.
AUDIT_STEP, AUDIT_STEPS = 1.0, 100
#: Until what seemed wrong is looked at again: longer than leases take to be reconciled.
AUDIT_AGAIN = 20.0
EXPIRE_LIMIT = 1_000
#: A chore that failed is tried again after so many seconds; claims go on meanwhile.
AFTER_ERROR = 1.0
TIDY_AFTER_ERROR = 60.0
#: Not before a glance shows that there is a need.
UNTIL_SEEN = float("inf")


class Chores:
    """Runs a chore when a glance shows the need, or at its interval, jittered.

    There is no leader, every node does them, in the claimer's thread between claims.
    ``writing`` are the batches whose outcomes are on their way into the database.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        life: NodeLife,
        holdings: Holdings,
        clock: Clock,
        on_rescued: Callable[[list[Rescued]], object],
        keeper: Keeper,
        on_expired: Callable[[list[str]], object] = lambda _: None,
        writing: Callable[[], Collection[int]] = tuple,
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._life = life
        self._holdings = holdings
        self._clock = clock
        self._on_rescued = on_rescued
        self._on_expired = on_expired
        self._writing = writing
        self._keeper = keeper
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        now = clock.monotonic()
        self._next = {
            self.bury: UNTIL_SEEN,
            self.take_back: UNTIL_SEEN,
            self.expire: UNTIL_SEEN,
            self.reconcile: now + RECONCILE,
            self.tidy: now + self._jittered(60.0),
            self.audit: now + self._jittered(AUDIT),
        }
        self._auditor = Auditor(repository)
        self._steps_left = 0
        self._suspects: list[Suspect] = []
        self._holds = True  #: whether the database may have leases in our name
        self._strange: set[tuple[int, int]] = set()

    def see(self, glance: Glance) -> None:
        """What a glance has shown there is to do."""
        self._holds = glance.mine
        if glance.dead:
            self._need(self.bury)
        if glance.orphans:
            self._need(self.take_back)
        if glance.overdue:
            self._need(self.expire)

    def _need(self, chore: Callable[[], float]) -> None:
        """Do it in the next step, unless it failed a moment ago and has its time."""
        if self._next[chore] == UNTIL_SEEN:
            self._next[chore] = self._clock.monotonic()

    def step(self) -> float:
        """Do what is due; seconds until the next chore.

        A chore that raises ends this pass, but does not stand before the next one's claims.
        """
        for chore in self._next:
            if self._clock.monotonic() >= self._next[chore]:
                slow = chore in (self.tidy, self.audit)
                again = TIDY_AFTER_ERROR if slow else AFTER_ERROR
                self._next[chore] = self._clock.monotonic() + again
                interval = chore()
                self._next[chore] = self._clock.monotonic() + self._jittered(interval)
        return max(0.0, min(self._next.values()) - self._clock.monotonic())

    def reconcile_soon(self) -> None:
        """After a reconnect: a claim may have committed without its answer arriving."""
        self._holds = True
        self._next[self.reconcile] = self._clock.monotonic() + 1.0

    def bury(self) -> float:
        """Declare the dead dead; what they held is taken back once that is committed."""
        known = {node.id: node for node in self._repository.nodes()}
        dead = self._repository.bury(self._life.id, trusted=self._life.trusted)
        for node in dead:
            told = known.get(node)
            log.warning(
                "node %s is dead; its tasks are taken back",
                f"{told.name} ({node}) on {told.host}" if told else node,
                extra=about("node_buried", node=node),
            )
        if dead:
            self._next[self.take_back] = self._clock.monotonic()
        return UNTIL_SEEN

    def take_back(self) -> float:
        """Make claimable what leases without a node hold."""
        self.rescue()
        return UNTIL_SEEN

    def rescue(self) -> list[Rescued]:
        """Take back what leases without a node hold, until there are none."""
        everything: list[Rescued] = []
        while batch := self._repository.rescue(RESCUE_LEASES):
            everything += batch
            self._on_rescued(batch)
        if everything:
            lost = sum(item.lost for item in everything)
            log.warning(
                "took back %d tasks of dead nodes, %d lost",
                len(everything),
                lost,
                extra=about("rescued", tasks=len(everything), lost=lost),
            )
        return everything

    def expire(self) -> float:
        """Cancel what waited past its deadline."""
        expired = self._repository.expire(EXPIRE_LIMIT)
        if expired:
            self._on_expired(expired)
        return 0.0 if len(expired) == EXPIRE_LIMIT else UNTIL_SEEN

    def reconcile(self) -> float:
        """Release leases in our name that we do not know: their claim's answer was lost.

        Only what was not known a second ago either, since its answer may arrive between the two
        looks, and what has no outcome on its way.
        """
        if not self._holds:
            self._strange.clear()
            return RECONCILE
        node = self._life.id
        strange = {
            (node, batch): len(ids)
            for batch, ids in self._repository.held(node)
            if not self._holdings.knows(batch)
        }
        writing = self._writing()
        for key in self._strange & strange.keys():
            if key[1] not in writing and (released := self._repository.drop_lease(*key)):
                log.warning("released %d of %d tasks of an unknown claim", released, strange[key])
        fresh = strange.keys() - self._strange
        self._strange = set(strange)
        return 1.0 if fresh else RECONCILE

    def tidy(self) -> float:
        """History's house-keeping, by one node at a time; the archive's by one that has it."""
        keeper = self._keeper
        if keeper.archives and self._repository.take_chore("archive", TIDY / 3):
            keeper.begin(archive=True)
        elif self._repository.take_chore("tidy", TIDY / 3):
            keeper.begin(archive=False)
        return TIDY / 3 if keeper.behind else TIDY

    def audit(self) -> float:
        """Check the layout's invariants, by one node at a time; what is found is logged."""
        if self._steps_left == 0:
            if self._suspects:
                self._judge()
                return AUDIT
            if not self._repository.take_chore("audit", AUDIT * 0.6):
                return AUDIT
            self._steps_left = AUDIT_STEPS
        self._suspects += self._auditor.look()
        self._steps_left = 0 if self._auditor.between_rounds else self._steps_left - 1
        if self._steps_left:
            return AUDIT_STEP
        return AUDIT_AGAIN if self._suspects else AUDIT

    def _judge(self) -> None:
        suspects, self._suspects = self._suspects, []
        for finding in self._auditor.confirm(suspects, mend=True):
            put_right = "mended" if finding.mended else finding.remedy
            log.warning("audit: %s: %s; %s", finding.kind, finding.detail, put_right)
            # What has got its lease back is taken by the next rescue.
            self._next[self.take_back] = self._clock.monotonic()

    def _jittered(self, interval: float) -> float:
        return interval * self._rng.uniform(0.7, 1.1)


def lanes_of(rescued: list[Rescued]) -> list[Lane]:
    """The lanes rescued tasks went back to."""
    return [
        Lane(queue, priority, 0.0)
        for queue, priority in {
            (item.queue, item.priority) for item in rescued if item.state is Stored.SCHEDULED
        }
    ]
