"""What is looked for among the tasks, and what is found: filters, pages, counts, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple, Self, TypedDict

from rota.core.clock import instant
from rota.core.codec import check_mapping, dump
from rota.core.ids import check_id
from rota.core.names import check_key, check_queue, check_work
from rota.core.task import Stored, Task
from rota.errors import InvalidArgument

#: What each word for a state means in a row; ``retrying`` is what waits after an attempt.
_MEANING: Mapping[str, tuple[Stored, ...]] = {
    "scheduled": (Stored.SCHEDULED, Stored.PARKED),
    "retrying": (Stored.SCHEDULED,),
    "parked": (Stored.PARKED,),
    "working": (Stored.WORKING,),
    "done": (Stored.DONE,),
    "failed": (Stored.FAILED,),
    "cancelled": (Stored.CANCELLED,),
}
_PART_OF = {"retrying": "scheduled", "parked": "scheduled"}
_UNFINISHED = frozenset({Stored.SCHEDULED, Stored.PARKED, Stored.WORKING})

#: A page holds at most so many tasks.
PAGE_LIMIT = 1_000
#: A look at tasks that no index leads to ends after so many rows.
LOOK = 10_000
#: Waiting tasks are counted exactly up to this.
COUNT_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks are meant: those that fit everything given.

    ``work``, ``queue`` and ``state`` take one or several. ``state`` is a ``TaskState`` or a word
    of ``Task.status``: ``scheduled`` is all that waits, ``parked`` and ``retrying`` are parts of
    it. ``meta`` asks for top-level keys with these plain values. ``unique`` finds unfinished
    tasks only: a key is free once its task has ended. Times are aware; ``after`` includes
    its instant, ``before`` does not. Raises ``InvalidArgument`` naming the field.
    """

    work: str | Sequence[str] | None = None
    queue: str | Sequence[str] | None = None
    state: str | Sequence[str] | None = None
    unique: str | None = None
    meta: Mapping[str, Any] | None = None
    parent: object = None
    recurring: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("work", "queue", "state"):
            object.__setattr__(self, name, _several(getattr(self, name), name))
        if self.unique is not None:
            check_key(self.unique, "unique")
        if self.recurring is not None:
            check_key(self.recurring, "recurring")
        if self.parent is not None:
            object.__setattr__(self, "parent", check_id(self.parent))
        if self.meta is not None:
            _check_meta(self.meta)
        for name in _INSTANTS:
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, instant(given, name))

    @property
    def works(self) -> tuple[str, ...]:
        """The work ids; none means any."""
        return tuple(self.work or ())

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues; none means any."""
        return tuple(self.queue or ())

    @property
    def by_end(self) -> bool:
        """Whether it asks when tasks have ended, which only finished ones have."""
        return self.finished_after is not None or self.finished_before is not None

    @property
    def stored(self) -> dict[Stored, bool]:
        """The states of rows that can fit; True where only those tried before do."""
        words = tuple(self.state or ())
        meant = {state: False for word in words for state in _MEANING[word]}
        if "retrying" in words and "scheduled" not in words:
            meant[Stored.SCHEDULED] = True
        if not words:
            meant = dict.fromkeys(Stored, False)
        if self.by_end:
            meant = {state: some for state, some in meant.items() if state not in _UNFINISHED}
        if self.unique is not None:
            meant = {state: some for state, some in meant.items() if state in _UNFINISHED}
        return meant

    def narrowed(self, to: Sequence[str], verb: str, unless: Sequence[str] | None = None) -> Self:
        """The same, of these states only; ``unless`` is what an unsaid state means.

        Raises ``InvalidArgument`` when the states asked for are none of these.
        """
        if not self.state:
            return replace(self, state=unless or to)
        fit = [word for word in self.state if _PART_OF.get(word, word) in to]
        if not fit:
            raise InvalidArgument(
                f"state {', '.join(self.state)} is none that can be {verb}; "
                f"what can is {', '.join(to)}",
                field="state",
            )
        return replace(self, state=fit)


_INSTANTS = tuple(
    f"{what}_{side}" for what in ("created", "finished", "due") for side in ("after", "before")
)


def _several(given: object, name: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    check = {"work": check_work, "queue": check_queue, "state": _check_state}[name]
    if isinstance(given, str):
        return (check(given),)
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, (Sequence, set, frozenset)):
        raise InvalidArgument(f"{name} {given!r} must be a text, or a list of texts", field=name)
    if not given:
        raise InvalidArgument(
            f"{name} is an empty list, which nothing fits; leave it out for any", field=name
        )
    return tuple(dict.fromkeys(check(item) for item in given))


def _check_state(value: object) -> str:
    if isinstance(value, str) and value in _MEANING:
        return str(value)
    raise InvalidArgument(
        f"state {value!r} is not a state; use {', '.join(_MEANING)}", field="state"
    )


def _check_meta(meta: object) -> None:
    for key, value in check_mapping(meta, "meta").items():
        dump({key: value}, "meta")
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise InvalidArgument(
                f"meta[{key!r}] is a {type(value).__name__}; "
                "look for texts, numbers, booleans and None at the top level",
                field="meta",
            )


def check_limit(value: object) -> int:
    """How many at most: a whole number from 1 to 1000."""
    if type(value) is int and 1 <= value <= PAGE_LIMIT:
        return value
    raise InvalidArgument(
        f"limit {value!r} must be a whole number from 1 to {PAGE_LIMIT}; "
        "take the rest with after=page.next",
        field="limit",
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks in the order of their ids; ``next`` is what ``after`` takes to go on, None at the end.

    A page may hold fewer than were asked for, even none, and still have a ``next``: then a
    bounded look has found no more so far.
    """

    tasks: tuple[Task, ...]
    next: str | None = None

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return bool(self.tasks)


class Filters(TypedDict, total=False):
    """The fields of :class:`TaskFilter` as keywords, but for ``unique``."""

    work: str | Sequence[str] | None
    queue: str | Sequence[str] | None
    state: str | Sequence[str] | None
    meta: Mapping[str, Any] | None
    parent: object
    recurring: str | None
    created_after: datetime | None
    created_before: datetime | None
    finished_after: datetime | None
    finished_before: datetime | None
    due_after: datetime | None
    due_before: datetime | None


class Matched(NamedTuple):
    """What a verb on all that fit has done.

    ``requested``: working tasks that were asked to stop. ``skipped``: found, but in
    another state when their turn came.
    """

    changed: int = 0
    requested: int = 0
    skipped: int = 0

    def plus(self, other: Matched) -> Matched:
        """Both together."""
        return Matched(*(mine + its for mine, its in zip(self, other, strict=True)))


class Matches(NamedTuple):
    """A page of ids alone."""

    ids: list[str]
    next: str | None


class Count(NamedTuple):
    """How many; with ``more`` there are at least so many, and nobody counted on."""

    n: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.n:,}+" if self.more else f"{self.n:,}"

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(self.n + other.n, self.more or other.more)


_NONE = Count(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many tasks of one queue or work there are in each state.

    The waiting are exact up to 10,000. ``done``, ``failed`` and ``cancelled`` count ends, also
    of tasks whose history is gone. ``paused`` is why it is held back, None if it is not.
    """

    scheduled: Count = _NONE
    working: Count = _NONE
    parked: Count = _NONE
    done: Count = _NONE
    failed: Count = _NONE
    cancelled: Count = _NONE
    paused: str | None = None


class Failures(NamedTuple):
    """What failed alike: one work, one ``error`` (the exception's type, or the reason)."""

    work: str
    error: str
    n: int
    last_at: datetime
    example: str  #: the id of the last of them


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A node as an operator sees it; ``lease_left`` in seconds, negative when over.

    ``tasks`` is how many it has claimed and not finished. ``version`` is that of its rota.
    """

    id: int
    name: str
    host: str
    pid: int
    version: str
    started_at: datetime
    lease: float
    lease_left: float
    tasks: int = field(default=0)

    @property
    def beat_age(self) -> float:
        """Seconds since its last heartbeat reached the database."""
        return max(0.0, self.lease - self.lease_left)
