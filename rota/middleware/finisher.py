"""Group commit on the execute side: outcomes that are ready together share one statement."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rota.core.clock import Clock
from rota.core.duty import Duty
from rota.core.eventlog import about
from rota.core.holdings import Holdings
from rota.core.ports import ClaimStore
from rota.core.task import Ending, Finish, Stored
from rota.errors import DataRefused

log = logging.getLogger("rota.middleware")

GROUP_LIMIT = 1_000
_AGO = Finish._fields.index("ago")
#: With so many outcomes unwritten the node claims nothing more.
FULL = 20_000
#: Why a task failed whose outcome the database refused.
UNSTORABLE = "its outcome could not be stored"


class Written(NamedTuple):
    """An outcome after its write: the state it led to, or None if it was refused."""

    node: int
    finish: Finish
    state: Stored | None


class _Item(NamedTuple):
    node: int
    finish: Finish
    at: float  #: when the outcome came, on the monotonic clock
    repeated: bool = False


class _Part(NamedTuple):
    """What one statement writes; ``over`` are the batches that end with it."""

    items: list[_Item]
    over: list[int]
    repeated: bool  #: an earlier try may have committed


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
        self._parts: list[_Part] = []
        self._kept: set[int] = set()  #: batches whose leases must stay for the reconciler
        self._empty = threading.Event()
        self._empty.set()
        self.accepted = 0
        self.refused = 0
        self.duty = Duty(name="rota-finisher", step=self.step, clock=clock, close=close)

    def put(self, node: int, finish: Finish, *, repeated: bool = False) -> None:
        """Hand over one outcome; ``repeated`` if the attempt may have written one already."""
        item = _Item(node, finish, self._clock.monotonic(), repeated)
        with self._lock:
            inbox = self._inbox
            inbox.append(item)
            if len(inbox) > 1:
                return  # whoever put the first has woken the thread, which takes all there is
            self._empty.clear()
        self.duty.wake()

    def batches(self) -> set[int]:
        """The batches whose outcomes are being written; from any thread."""
        return {item.finish.batch for part in list(self._parts) for item in part.items}

    @property
    def unwritten(self) -> int:
        """How many outcomes wait to be written."""
        return len(self._inbox) + sum(len(part.items) for part in list(self._parts))

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
        if not self._parts:
            self._begin_group()
        while self._parts:
            part = self._parts[0]
            try:
                self._write(part)
            except DataRefused as error:
                smaller = self._parts[:1] = _smaller(part, error)
                if not smaller:
                    self._kept.add(part.items[0].finish.batch)
            except Exception:
                # Whatever it was, it may have come after the commit.
                self._parts[0] = part._replace(repeated=True)
                raise
            else:
                del self._parts[0]
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
            first = self._inbox[0]
            take = next(
                (
                    at
                    for at, item in enumerate(self._inbox)
                    if item.node != first.node or item.repeated != first.repeated
                ),
                len(self._inbox),
            )
            take = min(take, GROUP_LIMIT)
            group, self._inbox = self._inbox[:take], self._inbox[take:]
        group.sort(key=lambda item: item.finish.id)
        over = self._holdings.end(item.finish.batch for item in group)
        self._parts = [_Part(group, over, repeated=first.repeated)]

    def _write(self, part: _Part) -> None:
        group = part.items
        now = self._clock.monotonic()
        finishes = [
            item.finish if item.finish.ago is None else _aged(item.finish, now - item.at)
            for item in group
        ]
        over = [batch for batch in part.over if batch not in self._kept]
        states = self._store.finish(group[0].node, finishes, over, repeated=part.repeated)
        refused = states.count(None)
        self.refused += refused
        self.accepted += len(states) - refused
        if refused:
            log.warning(
                "%d late outcome(s) were refused: their leases were lost, other attempts count",
                refused,
                extra=about("refused", tasks=refused),
            )
        node = group[0].node
        written = [Written(node, *pair) for pair in zip(finishes, states, strict=True)]
        try:
            self._on_written(written)
        except Exception:
            log.exception("outcomes were written, but who waits for them could not be told")


def _aged(finish: Finish, waited: float) -> Finish:
    """As if it were said now; without ``_replace``, which would take three times as long."""
    ago = finish.ago + waited if finish.ago is not None else None
    return Finish._make((*finish[:_AGO], ago, *finish[_AGO + 1 :]))


def _smaller(part: _Part, error: DataRefused) -> list[_Part]:
    """A group refused for its data is halved until the culprit is alone; that one fails."""
    items = part.items
    if len(items) > 1:
        middle = len(items) // 2
        return [
            part._replace(items=items[:middle], over=[]),
            part._replace(items=items[middle:]),
        ]
    finish = items[0].finish
    failed = finish._replace(ending=Ending.FAILED, payload=None, reason=UNSTORABLE, params=None)
    if finish == failed:
        # Nothing is left that could be at fault: the reconciler gives the task back by its lease.
        log.error("task %s cannot be finished, it will run again: %s", finish.id, error)
        return []
    log.error("the outcome of task %s could not be stored: %s", finish.id, error)
    return [part._replace(items=[items[0]._replace(finish=failed)])]
