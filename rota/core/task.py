"""The task: its states, what goes into a repository, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class TaskState(StrEnum):
    """Where a task is in its life."""

    SCHEDULED = "scheduled"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether no attempt will ever follow."""
        return not TRANSITIONS[self]


#: Which state may follow which; every repository's WHERE says the same.
TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.SCHEDULED: frozenset({TaskState.WORKING, TaskState.CANCELLED, TaskState.FAILED}),
    TaskState.WORKING: frozenset(
        {TaskState.SCHEDULED, TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}


class Stored(IntEnum):
    """The state as it stands in a row. ``PARKED`` is a scheduled task no claim offers."""

    SCHEDULED = 0
    WORKING = 1
    PARKED = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def public(self) -> TaskState:
        return _PUBLIC[self]


_PUBLIC = {
    Stored.SCHEDULED: TaskState.SCHEDULED,
    Stored.PARKED: TaskState.SCHEDULED,
    Stored.WORKING: TaskState.WORKING,
    Stored.DONE: TaskState.DONE,
    Stored.FAILED: TaskState.FAILED,
    Stored.CANCELLED: TaskState.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a repository knows about one task at one moment; never changes afterwards.

    ``attempt`` counts from 1 at the first claim and is 0 before it. ``due_at`` is the
    time asked for, ``run_at`` the time it may next be claimed. ``parked`` means it
    waits for a node that knows its work.
    """

    id: str
    work: str
    params: dict[str, Any]
    state: TaskState
    queue: str
    priority: int
    run_at: datetime
    due_at: datetime
    created_at: datetime
    expires_at: datetime | None = None
    attempt: int = 0
    max_attempts: int | None = 1
    losses: int = 0
    version: int = 1
    parked: bool = False
    node: int | None = None
    batch: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None
    reason: str | None = None
    error: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None
    unique: str | None = None
    parent: str | None = None
    recurring: str | None = None
    fire_at: datetime | None = None
    cancel_reason: str | None = None

    @property
    def status(self) -> str:
        """The state in a reader's words: ``parked`` and ``retrying`` say why it waits."""
        if self.state is not TaskState.SCHEDULED:
            return str(self.state)
        if self.parked:
            return "parked"
        return "retrying" if self.attempt else "scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run in a task's history; the last one of a finished task is its outcome."""

    task_id: str
    attempt: int
    outcome: str
    node: int | None
    batch: int | None
    started_at: datetime | None
    finished_at: datetime
    reason: str | None = None
    error: dict[str, Any] | None = None


class Fence(NamedTuple):
    """A condition of an insert: this attempt's token must still be its task's."""

    node: int
    batch: int
    task: str


class NewTask(NamedTuple):
    """A task on its way into a repository, every option resolved.

    ``at`` is the nominal instant; without it the database adds ``delay`` seconds to its
    own clock. ``expires_in`` counts from the nominal time. ``given_id`` says that the
    caller chose the id, so history must be asked for it, too. With ``period`` (seconds)
    the ``unique`` key is taken for that long from now, whether the task ends or not.
    ``fence`` is the parent's token: without it being valid nothing is written.
    """

    id: str
    work: str
    queue: str
    priority: int
    params: str
    options: str
    at: datetime | None = None
    delay: float = 0.0
    expires_at: datetime | None = None
    expires_in: float | None = None
    meta: str | None = None
    unique: str | None = None
    on_conflict: str = "raise"
    given_id: bool = False
    parent: str | None = None
    recurring: str | None = None
    fire_at: datetime | None = None
    period: float | None = None
    fence: Fence | None = None

    @property
    def keyed(self) -> bool:
        """Whether it can meet an existing task or be refused, and so must not join a group."""
        return self.given_id or self.unique is not None or self.fence is not None


class Along(NamedTuple):
    """Who takes which tasks along with their insert, in the same transaction, under which token.

    ``ids`` are of tasks that are due at once, and as many as there is room for.
    """

    node: int
    batch: int
    ids: frozenset[str]


class Lane(NamedTuple):
    """One (queue, priority) with something scheduled; ``due_in`` of its first, in seconds."""

    queue: str
    priority: int
    due_in: float


class Want(NamedTuple):
    """How much a claim asks of one lane; ``cursor`` is the run_at (µs) to begin at."""

    queue: str
    priority: int
    ready: int
    ahead: int = 0
    cursor: int | None = None


class Claimed(NamedTuple):
    """One claimed task, straight from the row: the hot path's only object per task."""

    id: str
    work: str
    queue: str
    priority: int
    attempt: int
    batch: int
    params: str
    options: str
    due_in: float
    run_at: int
    expires_in: float | None
    losses: int
    meta: str | None
    parent: str | None
    recurring: str | None
    fire_at: int | None


class Inserted(NamedTuple):
    """What became of one insert: created, or the task that was there already."""

    id: str
    created: bool
    state: Stored
    by_key: bool = False  #: what was met was the unique key, not the id
    claimed: Claimed | None = None  #: created, and taken along with it


class Ending(IntEnum):
    """What an outcome does to the task's row."""

    DONE = 3
    FAILED = 4
    CANCELLED = 5
    RETRY = 6
    AGAIN = 7
    RELEASE = 8
    PARK = 9

    @property
    def terminal(self) -> bool:
        return self <= Ending.CANCELLED


class Finish(NamedTuple):
    """One attempt's outcome on its way into a repository; (node, batch) is its token.

    ``payload`` is JSON text: the result of a done task, the error of any other.
    ``ago`` is how many seconds before this write the attempt had started.
    """

    id: str
    batch: int
    attempt: int
    ending: Ending
    payload: str | None = None
    reason: str | None = None
    delay: float = 0.0
    params: str | None = None
    ago: float | None = None
    keep_from: bool = False  #: PARK: do not offer it to this node again
    end_recurring: bool = False
    follow: NewTask | None = None  #: inserted in the same transaction, if this is accepted
    queue: str = ""  #: where it came from, so that whoever frees it can say where it went
    priority: int = 0
    recurring: str | None = None  #: whose child it is


class Rescued(NamedTuple):
    """One task taken back from a node that died, and what became of it.

    ``state``: ``SCHEDULED`` again, ``FAILED`` as lost, or ``CANCELLED``, as it had been asked to.
    """

    id: str
    work: str
    queue: str
    priority: int
    node: int
    state: Stored
    follow: NewTask | None = None  #: inserted along with it, since it failed

    @property
    def lost(self) -> bool:
        """Whether it was failed for that."""
        return self.state is Stored.FAILED


class Report(NamedTuple):
    """The newest progress report of a task; ``n`` counts within its attempt."""

    task_id: str
    attempt: int
    n: int
    at: datetime
    data: Any  #: JSON text in a repository, its value in a handle's answer


class Change(NamedTuple):
    """One step of a task's life, from the change feed."""

    task_id: str
    state: Stored
    at: datetime


class CancelNotice(NamedTuple):
    """A running task of this node that somebody asked to stop."""

    id: str
    batch: int
    reason: str


class Membership(NamedTuple):
    """What a node says of itself when it joins; ``lease`` in seconds."""

    id: int
    name: str
    host: str
    pid: int
    lease: float
    version: str = ""  #: of its rota


class NodeView(NamedTuple):
    """One node as the others see it; ``lease_left`` in seconds, negative when over."""

    id: int
    name: str
    host: str
    pid: int
    lease: float
    lease_left: float
