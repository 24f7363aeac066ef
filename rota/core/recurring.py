"""The recurring task's stored definition and its decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Definition(NamedTuple):
    """A stored recurring task; ``trigger``, ``params`` and ``options`` are JSON text."""

    id: str
    work: str
    params: str
    trigger: str
    options: str
    queue: str
    priority: int
    next_fire_at: datetime | None
    last_fire_at: datetime | None = None
    paused: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class Fire:
    """One tick: the CAS on ``next_fire_at`` that the child's insert rides on."""

    recurring: str
    expected: datetime  #: what next_fire_at must still be
    following: datetime | None  #: what it becomes; None ends the recurrence
    fire_at: datetime  #: the nominal time this decision is about
    decision: str  #: fired, skipped, missed, rejected
    count: int = 1
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for a fire time, as recorded."""

    recurring: str
    fire_at: datetime
    decision: str
    count: int
    task: str | None
    decided_at: datetime
