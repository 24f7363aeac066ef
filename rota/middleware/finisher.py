"""Group commit on the execute side: outcomes that are ready together share one statement."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rota.core.clock import Clock
from rota.core.duty import Duty
from rota.core.holdings import Holdings
from rota.core.ports import ClaimStore
from rota.core.task import Ending, Finish, Stored
from rota.errors import DataRefused, StorageUnavailable

log = logging.getLogger("rota.middleware")

GROUP_LIMIT = 1_000
#: With so many outcomes unwritten the node claims nothing more.
FULL = 20_000


class Written(NamedTuple):
    """An outcome after its write: the state it led to, or None if it was refused."""

    node: int
    finish: Finish
    state: Stored | None


class _Item(NamedTuple):
    node: int
    finish: Finish
    at: float  #: when the outcome came, on the monotonic clock


class Finisher:
    """Takes outcomes from any thread, writes them in groups in its own thread.

    What could not be written is kept, in order, and tried again; nothing is dropped
    but by a refusal: then the lease was lost and another attempt counts.
    """

    def __init__(
        self,
        *,
        store: ClaimStore,
        clock: Clock,
        holdings: Holdings,
        on_written: Callable[[Sequence[Written]], object],
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._holdings = holdings
        self._on_written = on_written
        self._lock = threading.Lock()
        self._inbox: list[_Item] = []
        self._group: list[_Item] = []
        self._over: list[int] = []
        self._repeated = False
        self._empty = threading.Event()
        self._empty.set()
        self.accepted = 0
        self.refused = 0
        self.duty = Duty(name="rota-finisher", step=self.step, clock=clock, close=close)

    def put(self, node: int, finish: Finish) -> None:
        """Hand over one outcome."""
        with self._lock:
            self._inbox.append(_Item(node, finish, self._clock.monotonic()))
            self._empty.clear()
        self.duty.wake()

    @property
    def unwritten(self) -> int:
        """How many outcomes wait to be written."""
        return len(self._inbox) + len(self._group)

    @property
    def full(self) -> bool:
        """Whether claiming should wait for the database to catch up."""
        return self.unwritten >= FULL

    def flush(self, timeout: float) -> bool:
        """Block until all that was handed over is written; whether it was in time."""
        self.duty.wake()
        return self._clock.wait(self._empty, timeout)

    def step(self) -> float:
        """Write what has gathered; used by the thread, and by tests."""
        if not self._group:
            self._begin_group()
        if self._group:
            try:
                self._write(self._group, self._over, repeated=self._repeated)
            except StorageUnavailable:
                self._repeated = True
                raise
            self._group, self._over, self._repeated = [], [], False
        with self._lock:
            if self._inbox:
                return 0.0
            self._empty.set()
        return 3600.0

    def _begin_group(self) -> None:
        """Take outcomes of one incarnation, in the order of their tasks' ids."""
        with self._lock:
            if not self._inbox:
                return
            node = self._inbox[0].node
            take = next(
                (at for at, item in enumerate(self._inbox) if item.node != node), len(self._inbox)
            )
            take = min(take, GROUP_LIMIT)
            group, self._inbox = self._inbox[:take], self._inbox[take:]
        group.sort(key=lambda item: item.finish.id)
        self._group = group
        self._over = self._holdings.end(item.finish.batch for item in group)

    def _write(self, group: list[_Item], over: list[int], *, repeated: bool) -> None:
        now = self._clock.monotonic()
        finishes = [
            item.finish
            if item.finish.ago is None
            else item.finish._replace(ago=item.finish.ago + now - item.at)
            for item in group
        ]
        try:
            states = self._store.finish(group[0].node, finishes, over, repeated=repeated)
        except DataRefused as error:
            self._write_halves(group, over, error, repeated=repeated)
            return
        refused = states.count(None)
        self.refused += refused
        self.accepted += len(states) - refused
        if refused:
            log.warning(
                "%d late outcome(s) were refused: their leases were lost, other attempts count",
                refused,
            )
        self._on_written(
            [
                Written(item.node, item.finish, state)
                for item, state in zip(group, states, strict=True)
            ]
        )

    def _write_halves(
        self, group: list[_Item], over: list[int], error: DataRefused, *, repeated: bool
    ) -> None:
        """A group refused for its data is halved until the culprit is alone; that one fails."""
        if len(group) == 1:
            item = group[0]
            if item.finish.payload is None and item.finish.ending is Ending.FAILED:
                raise error
            log.error("the outcome of task %s could not be stored: %s", item.finish.id, error)
            failed = item.finish._replace(
                ending=Ending.FAILED, payload=None, reason="result could not be stored"
            )
            self._write([item._replace(finish=failed)], over, repeated=repeated)
            return
        middle = len(group) // 2
        self._write(group[:middle], [], repeated=repeated)
        self._write(group[middle:], over, repeated=repeated)
