"""The memory repository's state, and the moves of a task that every verb is made of."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_left
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from rota.core.clock import Clock
from rota.core.recurring import Decision, Definition
from rota.core.retention import Keeping
from rota.core.task import Attempt, Change, Membership, Report, Stored
from rota.errors import InvalidArgument, NodeDead
from rota.storage.memory.feed import Feed
from rota.storage.memory.lanes import Lane
from rota.storage.memory.rows import Row, from_micros, span, to_micros
from rota.storage.memory.tally import Tally


class Offspring(NamedTuple):
    """A child of a definition, and that one's version then."""

    fire_at: int
    task: str
    version: int


@dataclass(slots=True, eq=False)
class Book:
    """All there is, under one lock; whoever calls a method holds it.

    The moves keep the indexes right: ``place`` and ``park`` let a task wait, ``take``
    claims it, ``end`` moves it to history. A task is moved away from where it stands first.
    """

    clock: Clock
    lock: threading.Lock = field(default_factory=threading.Lock)
    rows: dict[str, Row] = field(default_factory=dict)
    lanes: dict[tuple[str, int], Lane] = field(default_factory=dict)
    parked: defaultdict[str, dict[str, Row]] = field(default_factory=lambda: defaultdict(dict))
    keys: dict[str, str] = field(default_factory=dict)
    periods: dict[str, tuple[str, int]] = field(default_factory=dict)
    expiring: list[tuple[int, str]] = field(default_factory=list)
    working: int = 0
    asked: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    attempts: defaultdict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    reports: dict[str, tuple[tuple[int, int], Report]] = field(default_factory=dict)
    children: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    feed: Feed = field(default_factory=Feed)
    ended: dict[bool, deque[tuple[int, str]]] = field(
        default_factory=lambda: {False: deque(), True: deque()}
    )  #: history in order of finishing; True: failed
    nodes: dict[int, tuple[Membership, int]] = field(default_factory=dict)
    leases: defaultdict[int, dict[int, list[str]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    joined: dict[int, int] = field(default_factory=dict)  #: when nodes were entered
    deadlines: dict[tuple[int, int], int] = field(default_factory=dict)
    paused: dict[str, str] = field(default_factory=dict)
    paused_works: dict[str, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    definitions: dict[str, Definition] = field(default_factory=dict)
    decisions: defaultdict[str, list[Decision]] = field(
        default_factory=lambda: defaultdict(list)
    )  #: by fire time, as are the children below
    offspring: defaultdict[str, list[Offspring]] = field(default_factory=lambda: defaultdict(list))
    outstanding: defaultdict[str, dict[str, None]] = field(
        default_factory=lambda: defaultdict(dict)
    )  #: children of a definition that had not ended when they were last looked at
    chores: dict[str, int] = field(default_factory=dict)
    keeping: Keeping = field(default_factory=Keeping)

    def now(self) -> int:
        return to_micros(self.clock.now())

    def enter_node(self, node: int) -> None:
        """Note when it was entered, and forget that of those that are gone."""
        self.joined = {one: at for one, at in self.joined.items() if one in self.nodes}
        self.joined.setdefault(node, self.now())

    def require_node(self, node: int) -> None:
        """Raise ``NodeDead`` unless this incarnation is entered."""
        if node not in self.nodes:
            raise NodeDead(
                f"node {node} is not entered any more, others have taken over its tasks; "
                "stop what runs and join as a new incarnation"
            )

    def place(self, row: Row, *, told: bool = True) -> None:
        """Let it wait in its lane; ``told``: this is a step of its life."""
        self._enter(row, Stored.SCHEDULED, told=told)
        lane = self.lanes.get((row.queue, row.priority))
        if lane is None:
            lane = self.lanes[row.queue, row.priority] = Lane()
        lane.put(row.id, row.run_at)

    def park(self, row: Row, kept_from: int | None, *, told: bool = True) -> None:
        """Let it wait for a node that knows its work."""
        self._enter(row, Stored.PARKED, told=told)
        row.kept_from = kept_from
        self.parked[row.work][row.id] = row

    def lift(self, row: Row) -> None:
        """Take it out of the index of where it stands; one of the other moves follows."""
        if row.state is Stored.SCHEDULED:
            self._forget_lane_entry(row)
        elif row.state is Stored.PARKED:
            self.parked[row.work].pop(row.id, None)
            if not self.parked[row.work]:
                del self.parked[row.work]
        elif row.state is Stored.WORKING:
            self.working -= 1
            if row.cancel_reason is not None and row.node is not None:
                self._unask(row.node, row.id)

    def take(self, row: Row, node: int, batch: int) -> None:
        """Claim it under this token and note it in the lease."""
        row.state = Stored.WORKING
        row.node, row.batch = node, batch
        row.kept_from = None
        row.attempt += 1
        self.working += 1
        self.leases[node].setdefault(batch, []).append(row.id)

    def end(
        self,
        row: Row,
        state: Stored,
        *,
        reason: str | None = None,
        payload: str | None = None,
        ago: float | None = None,
        counted: bool = True,
    ) -> None:
        """Move it to history; node and batch stay, as the token of the last attempt."""
        self.lift(row)
        now = self.now()
        row.state = state
        row.reason, row.payload = reason, payload
        row.started_at = None if ago is None else now - span(ago)
        row.finished_at = now
        if row.unique is not None:
            self.keys.pop(row.unique, None)
        self.ended[state is Stored.FAILED].append((now, row.id))
        if counted:
            self.tally.add(now, row.queue, row.work, state)
        self._tell(row)

    def note_attempt(
        self,
        row: Row,
        outcome: str,
        *,
        now: int,
        reason: str | None = None,
        error: dict[str, object] | None = None,
        ago: float | None = None,
    ) -> None:
        """Record the attempt that is running as one that did not end its task."""
        self.attempts[row.id].append(
            Attempt(
                task_id=row.id,
                attempt=row.attempt,
                outcome=outcome,
                node=row.node,
                batch=row.batch,
                started_at=None if ago is None else from_micros(now - span(ago)),
                finished_at=from_micros(now),
                reason=reason,
                error=error,
            )
        )

    def attempts_of(self, task_id: str) -> list[Attempt]:
        """The attempts that ended, oldest first; the outcome that ended the task is the last."""
        told = list(self.attempts.get(task_id, ()))
        row = self.rows.get(task_id)
        last = None if row is None else row.last_attempt()
        return told if last is None else [*told, last]

    def holder(self, task_id: str, node: int, batch: int) -> Row | None:
        """The task, if this token is the one it works under."""
        row = self.rows.get(task_id)
        if row is None or row.state is not Stored.WORKING:
            return None
        return row if (row.node, row.batch) == (node, batch) else None

    def lane(self, queue: str, priority: int) -> Lane | None:
        """The lane, if anything is scheduled in it and its queue is not paused."""
        return None if queue in self.paused else self.lanes.get((queue, priority))

    def close_lane(self, queue: str, priority: int) -> None:
        """Drop the lane if it is empty."""
        lane = self.lanes.get((queue, priority))
        if lane is not None and not len(lane):
            del self.lanes[queue, priority]

    def watch_expiry(self, row: Row) -> None:
        """See to it that ``expire`` looks at this task."""
        if row.expires_at is not None:
            heapq.heappush(self.expiring, (row.expires_at, row.id))

    def drop_lease(self, node: int, batch: int) -> list[str]:
        """Forget a lease; the ids it had taken."""
        batches = self.leases.get(node, {})
        task_ids = batches.pop(batch, [])
        if not batches:
            self.leases.pop(node, None)
        self.deadlines.pop((node, batch), None)
        return task_ids

    def forget(self, task_id: str) -> None:
        """Drop a finished task and all that is known of it."""
        row = self.rows.pop(task_id)
        self.attempts.pop(task_id, None)
        self.reports.pop(task_id, None)
        if row.parent is not None:
            siblings = self.children[row.parent]
            del siblings[bisect_left(siblings, task_id)]
            if not siblings:
                del self.children[row.parent]
        if row.recurring is not None and row.fire_at is not None:
            self._forget_offspring(row.recurring, row.fire_at, task_id)

    def forget_decisions(self, before: datetime) -> None:
        """Drop old decisions."""
        for name, told in list(self.decisions.items()):
            self.decisions[name] = [one for one in told if one.decided_at >= before]
            if not self.decisions[name]:
                del self.decisions[name]

    def forget_ended_children(self, recurring: str) -> None:
        """Drop those children of a definition that have ended from the outstanding ones."""
        kept = self.outstanding.get(recurring, {})
        for task_id in [one for one in kept if one not in self.rows or self.rows[one].final]:
            del kept[task_id]
        if not kept:
            self.outstanding.pop(recurring, None)

    def _forget_offspring(self, recurring: str, fire_at: int, task_id: str) -> None:
        """Also called for a task that no tick has made, though it names a definition."""
        offspring = self.offspring.get(recurring, [])
        place = bisect_left(offspring, (fire_at, task_id))
        if place < len(offspring) and offspring[place].task == task_id:
            del offspring[place]
            if not offspring:
                del self.offspring[recurring]

    def _enter(self, row: Row, state: Stored, *, told: bool) -> None:
        row.state = state
        row.node = row.batch = row.kept_from = None
        self.watch_expiry(row)
        if told:
            self._tell(row)

    def _tell(self, row: Row) -> None:
        self.feed.tell(Change(row.id, row.state, self.clock.now()))

    def _unask(self, node: int, task_id: str) -> None:
        asked = self.asked.get(node, set())
        asked.discard(task_id)
        if not asked:
            self.asked.pop(node, None)

    def _forget_lane_entry(self, row: Row) -> None:
        lane = self.lanes.get((row.queue, row.priority))
        if lane is not None:
            lane.discard(row.id)
            self.close_lane(row.queue, row.priority)


def no_transactions() -> InvalidArgument:
    """The error of the verbs that would join the caller's transaction."""
    return InvalidArgument(
        "the memory repository has no transactions; "
        "leave the connection out, or use a scheduler on SQLite or PostgreSQL",
        field="connection",
    )
