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

log: logging.Logger = logging.getLogger("rota.middleware")

GROUP_LIMIT = 2_000
_AGO = Finish._fields.index("ago")
#: With so many outcomes unwritten the node claims nothing more.
FULL = 20_000
#: What has waited for less than so many seconds is written as if it were said now.
FRESH = 0.05
#: Why a task failed whose outcome the database refused.
UNSTORABLE = "its outcome could not be stored"


#: Told, in the finisher's thread, of a node's outcomes that were written and the state each led
#: to: None for one that was refused.
OnWritten = Callable[[int, Sequence[Finish], Sequence[Stored | None]], object]
#: (node, outcome, when it came on the monotonic clock, whether the attempt may have written
#: one already); a plain tuple, since one is made for each task.
_Item = tuple[int, Finish, float, bool]


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
        on_written: OnWritten,
        begin: Callable[[], object] = lambda: None,
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
        self.accepted: int = 0
        self.refused: int = 0
        self.duty: Duty = Duty(
            name="rota-finisher", step=self.step, clock=clock, begin=begin, close=close
        )

    def put(self, node: int, finish: Finish, *, repeated: bool = False) -> None:
        """Hand over one outcome; ``repeated`` if the attempt may have written one already."""
        item = (node, finish, self._clock.monotonic(), repeated)
        with self._lock:
            inbox = self._inbox
            inbox.append(item)
            if len(inbox) > 1:
                return  # whoever put the first has woken the thread, which takes all there is
            self._empty.clear()
        self.duty.wake()

    def batches(self) -> set[int]:
        """The batches whose outcomes are being written; from any thread."""
        return {finish.batch for part in list(self._parts) for _, finish, *_ in part.items}

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
                finishes, states = self._write(part)
            except DataRefused as error:
                smaller = self._parts[:1] = _smaller(part, error)
                if not smaller:
                    self._kept.add(part.items[0][1].batch)
            except Exception:
                # Whatever it was, it may have come after the commit.
                self._parts[0] = part._replace(repeated=True)
                raise
            else:
                del self._parts[0]  # before anybody who waits for it looks at what is unwritten
                self._tell(part.items[0][0], finishes, states)
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
            node, _, _, repeated = self._inbox[0]
            take = next(
                (
                    place
                    for place, item in enumerate(self._inbox)
                    if item[0] != node or item[3] != repeated
                ),
                len(self._inbox),
            )
            take = min(take, GROUP_LIMIT)
            group, self._inbox = self._inbox[:take], self._inbox[take:]
        group.sort(key=_task_of)
        over = self._holdings.end(finish.batch for _, finish, *_ in group)
        self._parts = [_Part(group, over, repeated=repeated)]

    def _write(self, part: _Part) -> tuple[list[Finish], Sequence[Stored | None]]:
        node, now = part.items[0][0], self._clock.monotonic()
        finishes = [_as_now(finish, now - at) for _, finish, at, _ in part.items]
        over = [batch for batch in part.over if batch not in self._kept]
        states = self._store.finish(node, finishes, over, repeated=part.repeated)
        refused = states.count(None)
        self.refused += refused
        self.accepted += len(states) - refused
        if refused:
            log.warning(
                "%d late outcome(s) were refused: their leases were lost, other attempts count",
                refused,
                extra=about("refused", tasks=refused),
            )
        return finishes, states

    def _tell(self, node: int, finishes: Sequence[Finish], states: Sequence[Stored | None]) -> None:
        try:
            self._on_written(node, finishes, states)
        except Exception:
            log.exception("outcomes were written, but who waits for them could not be told")


def _task_of(item: _Item) -> str:
    return item[1].id


def _as_now(finish: Finish, waited: float) -> Finish:
    """As if it were said now; without ``_replace``, which would take three times as long."""
    if waited < FRESH or finish.ago is None:
        return finish
    return Finish._make((*finish[:_AGO], finish.ago + waited, *finish[_AGO + 1 :]))


def _smaller(part: _Part, error: DataRefused) -> list[_Part]:
    """A group refused for its data is halved until the culprit is alone; that one fails."""
    items = part.items
    if len(items) > 1:
        middle = len(items) // 2
        return [
            part._replace(items=items[:middle], over=[]),
            part._replace(items=items[middle:]),
        ]
    node, finish, at, repeated = items[0]
    failed = finish._replace(ending=Ending.FAILED, payload=None, reason=UNSTORABLE, params=None)
    if finish == failed:
        # Nothing is left that could be at fault: the reconciler gives the task back by its lease.
        log.error("task %s cannot be finished, it will run again: %s", finish.id, error)
        return []
    log.error("the outcome of task %s could not be stored: %s", finish.id, error)
    return [part._replace(items=[(node, failed, at, repeated)])]
