"""One task as the memory repository keeps it, and its way out as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rota.core.codec import load
from rota.core.options import options_or_default
from rota.core.task import Attempt, Claimed, Stored, Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
MICROS = 1_000_000


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // _MICRO


def from_micros(stamp: int) -> datetime:
    """The aware UTC instant."""
    return _EPOCH + timedelta(microseconds=stamp)


def span(seconds: float) -> int:
    """A duration in microseconds."""
    return round(seconds * MICROS)


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """A task, unfinished or in history; changed in place, under the book's lock.

    ``node`` and ``batch`` are the token of the attempt that runs, or that ended the task.
    """

    id: str
    work: str
    queue: str
    priority: int
    params: str
    options: str
    created_at: int
    due_at: int
    run_at: int
    expires_at: int | None
    meta: str | None
    unique: str | None
    parent: str | None
    recurring: str | None
    fire_at: int | None
    state: Stored = Stored.SCHEDULED
    attempt: int = 0
    losses: int = 0
    version: int = 1
    node: int | None = None
    batch: int | None = None
    kept_from: int | None = None  #: the node that ignored it when it was parked
    cancel_reason: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    reason: str | None = None
    payload: str | None = None

    @property
    def final(self) -> bool:
        return self.state >= Stored.DONE

    @property
    def waiting(self) -> bool:
        return self.state in {Stored.SCHEDULED, Stored.PARKED}

    def claimed(self, now: int, batch: int) -> Claimed:
        """What the node that took it in this batch is told."""
        expires = self.expires_at
        return Claimed(
            self.id,
            self.work,
            self.queue,
            self.priority,
            self.attempt,
            batch,
            self.params,
            self.options,
            (self.run_at - now) / MICROS,
            self.run_at,
            None if expires is None else (expires - now) / MICROS,
            self.losses,
            self.meta,
            self.parent,
            self.recurring,
            self.fire_at,
        )

    def task(self) -> Task:
        """What a reader is told."""
        done = self.state is Stored.DONE
        return Task(
            id=self.id,
            work=self.work,
            params=load(self.params),
            state=self.state.public,
            queue=self.queue,
            priority=self.priority,
            run_at=from_micros(self.run_at),
            due_at=from_micros(self.due_at),
            created_at=from_micros(self.created_at),
            expires_at=_maybe(self.expires_at),
            attempt=self.attempt,
            max_attempts=options_or_default(self.options).max_attempts,
            losses=self.losses,
            version=self.version,
            parked=self.state is Stored.PARKED,
            node=self.node,
            batch=self.batch,
            started_at=_maybe(self.started_at),
            finished_at=_maybe(self.finished_at),
            result=load(self.payload) if done else None,
            reason=self.reason,
            error=None if done else load(self.payload),
            meta=load(self.meta),
            unique=self.unique,
            parent=self.parent,
            recurring=self.recurring,
            fire_at=_maybe(self.fire_at),
            cancel_reason=self.cancel_reason,
        )

    def last_attempt(self) -> Attempt | None:
        """The attempt that ended the task; None if it was ended while it waited."""
        if self.finished_at is None or self.batch is None:
            return None
        return Attempt(
            task_id=self.id,
            attempt=self.attempt,
            outcome=self.state.name.lower(),
            node=self.node,
            batch=self.batch,
            started_at=_maybe(self.started_at),
            finished_at=from_micros(self.finished_at),
            reason=self.reason,
            error=None if self.state is Stored.DONE else load(self.payload),
        )


def _maybe(stamp: int | None) -> datetime | None:
    return None if stamp is None else from_micros(stamp)
