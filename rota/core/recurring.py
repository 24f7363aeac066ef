"""The recurring task's stored definition, its rules, and what is decided at its fire times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self, get_args

from rota.core.task import Stored
from rota.errors import InvalidArgument

Catchup = Literal["latest", "all", "none"]
Overlap = Literal["skip", "allow", "queue"]
#: ``waiting`` is answered, never recorded: the fire time stays undecided (``queue``).
DecisionKind = Literal["fired", "skipped", "missed", "rejected", "triggered", "waiting"]

CATCHUPS: tuple[str, ...] = get_args(Catchup)
OVERLAPS: tuple[str, ...] = get_args(Overlap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a definition treats lateness, overlap and its end.

    ``catchup_limit`` bounds what ``all`` makes up for. ``misfire_grace`` and ``jitter``
    are seconds. ``max_instances`` unfinished children at most, unless overlap is
    ``allow``. ``version`` is the one the code states, 0 if it states none.
    """

    catchup: Catchup = "latest"
    catchup_limit: int = 100
    misfire_grace: float | None = None
    overlap: Overlap = "skip"
    max_instances: int = 1
    start: datetime | None = None
    end: datetime | None = None
    max_runs: int | None = None
    jitter: float = 0.0
    version: int = 0

    def encode(self) -> str:
        """Compact canonical JSON of what differs from the defaults."""
        data: dict[str, Any] = {}
        for name, key in _KEYS.items():
            value = getattr(self, name)
            if value != getattr(_PLAIN, name):
                data[key] = value.isoformat() if isinstance(value, datetime) else value
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The rules of stored JSON; keys this version does not know are passed over.

        Raises ``InvalidArgument`` for what it cannot read all the same.
        """
        try:
            data = json.loads(text)
            fields = {name: data[key] for name, key in _KEYS.items() if key in data}
            for name in ("start", "end"):
                if fields.get(name) is not None:
                    fields[name] = datetime.fromisoformat(fields[name])
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidArgument(
                f"stored rules cannot be read ({type(error).__name__}: {error}); "
                "if a later version wrote them, upgrade rota here",
                field="rules",
            ) from error
        return cls(**fields)


_KEYS = {
    "catchup": "catchup",
    "catchup_limit": "catchup_limit",
    "misfire_grace": "misfire_grace_seconds",
    "overlap": "overlap",
    "max_instances": "max_instances",
    "start": "start_at",
    "end": "end_at",
    "max_runs": "max_runs",
    "jitter": "jitter_seconds",
    "version": "version",
}
_PLAIN = Rules()


class Definition(NamedTuple):
    """A stored recurring task; ``params``, ``trigger``, ``options``, ``rules`` are JSON text.

    ``next_fire_at`` is the first nominal time not yet decided, None once it has ended.
    ``due_at`` is when nodes look at it next: ``next_fire_at``, or later while its ticks
    wait for an unfinished child (overlap ``queue``). ``version`` counts the changes of
    its content; ``runs`` the children fired so far.
    """

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
    rules: str = "{}"
    meta: str | None = None
    due_at: datetime | None = None
    runs: int = 0


class Put(StrEnum):
    """What became of a definition that was put."""

    CREATED = "created"
    CHANGED = "changed"
    SAME = "same"
    #: The stored one states a higher version and was kept.
    OLDER = "older"
    #: It exists, and was not to be replaced.
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Fire:
    """One tick: the CAS on ``next_fire_at`` that the child's insert rides on.

    Without ``expected`` it was triggered by hand: nothing is compared and the
    definition does not move on. ``max_instances`` counts unfinished children; what
    meets it is skipped or left waiting, as ``overlap`` says.
    """

    recurring: str
    expected: datetime | None  #: what next_fire_at must still be
    following: datetime | None  #: what it becomes; None ends the recurrence
    fire_at: datetime  #: the nominal time this decision is about
    decision: DecisionKind = "fired"
    count: int = 1
    task: str | None = None
    version: int | None = None  #: what the definition's version must still be
    overlap: Overlap = "allow"
    max_instances: int = 1
    max_runs: int | None = None  #: the recurrence ends with so many children

    @property
    def by_hand(self) -> bool:
        """Whether somebody asked for it, out of rhythm."""
        return self.expected is None


class Fired(NamedTuple):
    """What became of a tick; ``decision`` is None where the CAS was lost."""

    decision: DecisionKind | None
    task: str | None = None
    created: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for a fire time, as recorded; ``version`` is the definition's then."""

    recurring: str
    fire_at: datetime
    decision: DecisionKind
    count: int
    task: str | None
    decided_at: datetime
    version: int = 1


class Child(NamedTuple):
    """A task that a definition made; ``version`` is the definition's then, if still known."""

    task: str
    fire_at: datetime
    version: int | None
    state: Stored
