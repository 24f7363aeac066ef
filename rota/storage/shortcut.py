"""What is put in here and can start at once is taken along with its insert: one write, not two."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from rota.core.holdings import Holdings
from rota.core.task import Along, Claimed, Inserted, NewTask
from rota.storage.nodelife import NodeLife
from rota.storage.sync import Sync


class Slots(Protocol):
    """The engine's side: whether these could start now, and the way in."""

    def fit(self, tasks: Sequence[NewTask]) -> bool:
        """Whether all of these are known here, and there are slots for all that nobody wants."""

    def take(self, node: int, claimed: Sequence[Claimed], received: float) -> None:
        """Claimed tasks, as after a claim."""


class Shortcut:
    """Decides what a group of new tasks has taken along, and takes it; in the inserter's thread.

    Only what would have been claimed here next: nothing that this node knows of is due and
    waits, and there are free slots for all of the group that is due. So no task is passed over,
    and nobody's queue is kept from the other nodes.
    """

    def __init__(
        self,
        *,
        sync: Sync,
        slots: Slots,
        life: NodeLife,
        holdings: Holdings,
        queues: Collection[str] | None = None,
        alone: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._sync = sync
        self._slots = slots
        self._life = life
        self._holdings = holdings
        self._queues = queues
        self._alone = alone

    def along(self, tasks: Sequence[NewTask]) -> Along | None:
        """Which of these to take, and under which token; None: leave them to the claimer."""
        if not self._sync.idle or any(task.keyed for task in tasks):
            return None
        alone = self._alone()
        wanted = [
            task
            for task in tasks
            if task.at is None
            and task.delay <= 0
            and (self._queues is None or task.queue in self._queues)
            and task.work not in alone
        ]
        if not wanted or not self._slots.fit(wanted):
            return None
        batch = self._holdings.reserve(1)
        self._holdings.expect(batch)
        return Along(self._life.id, batch, frozenset(task.id for task in wanted))

    def took(self, along: Along, answers: Sequence[Inserted], received: float) -> None:
        """Let start what was taken, unless this incarnation has died meanwhile."""
        claimed = [answer.claimed for answer in answers if answer.claimed is not None]
        if claimed and along.node == self._life.id:
            self._holdings.add(claimed)
            self._slots.take(along.node, claimed, received)
        self._holdings.expect_no_more(along.batch)

    def lost(self, along: Along) -> None:
        """No answer came: there may be a lease that this node knows nothing of."""
        self._holdings.expect_no_more(along.batch)
        self._sync.chores.reconcile_soon()
