"""What can happen to tasks, as values: the lines of a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from rota.core.context import Token

#: The outcomes after which nothing may be accepted any more.
TERMINAL = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A caller was told that the task is stored; ``due`` is the moment asked for."""

    task: str
    at: float
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt began to run its work; ``queue`` is needed where limits are checked."""

    task: str
    attempt: int
    token: Token
    node: int
    at: float
    queue: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """The work has done, under this attempt's token, what it is there for."""

    task: str
    token: Token
    at: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """An attempt's work runs no more, however it ended; its outcome may be on its way still."""

    task: str
    token: Token
    at: float


@dataclass(frozen=True, slots=True)
class Limited:
    """From now on a node runs so many attempts at once: of this queue, or (None) of all."""

    node: int
    limit: int
    at: float
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The repository took an attempt's outcome.

    ``due`` is when the task may start next, where the outcome says so. An ending no
    attempt wrote (expired, lost) has no token.
    """

    task: str
    token: Token | None
    outcome: str
    at: float
    due: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The repository turned an attempt's outcome down: its lease was lost."""

    task: str
    token: Token
    outcome: str
    at: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A caller was told that the waiting task is cancelled; a mere request is no such event."""

    task: str
    at: float


@dataclass(frozen=True, slots=True)
class FireDecided:
    """A fire time of a recurring task was decided, as the winner of its CAS reports it."""

    recurring: str
    fire_at: float
    decision: str
    at: float


Event = (
    Scheduled | Started | Effect | Stopped | Limited | Accepted | Refused | Cancelled | FireDecided
)

#: By their names.
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
