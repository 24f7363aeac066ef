"""What an audit looks for in the tables, and the findings it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How much a finding matters: a fact, something to look at, a promise at risk."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing an audit has to say; ``mended`` if it has been put right already."""

    kind: str
    severity: Severity
    detail: str
    remedy: str = ""
    mended: bool = False


class Flaw(StrEnum):
    """An invariant of the layout, by what breaks it."""

    OWNERLESS = "task-without-owner"  #: working, no lease names it, its node is gone
    UNLEASED = "task-without-lease"  #: working, no lease names it, its node is there
    BODILESS = "task-without-body"
    TWICE = "task-unfinished-and-finished"
    EMPTY_LEASE = "lease-without-tasks"
    STRAY_CHILD = "child-of-no-definition"


class Walk(StrEnum):
    """The tables an audit walks along, each by its key."""

    TASKS = "tasks"
    LEASES = "leases"
    CHILDREN = "children"

    @property
    def flaws(self) -> frozenset[Flaw]:
        """What can be found on this walk."""
        return _FOUND_ON[self]


_FOUND_ON = {
    Walk.TASKS: frozenset({Flaw.OWNERLESS, Flaw.UNLEASED, Flaw.BODILESS, Flaw.TWICE}),
    Walk.LEASES: frozenset({Flaw.EMPTY_LEASE}),
    Walk.CHILDREN: frozenset({Flaw.STRAY_CHILD}),
}

#: A place on a walk: the key of the last row looked at.
Place = tuple[str, ...] | tuple[int, ...]


class Suspect(NamedTuple):
    """A row that broke an invariant in one snapshot; equal to itself in the next one."""

    flaw: Flaw
    task: str = ""
    node: int = 0  #: no node's number; a working row may name none only if it was made so by hand
    batch: int = 0
    recurring: str = ""


class Stretch(NamedTuple):
    """What one bounded look has found, and where the next goes on; None at the end."""

    suspects: list[Suspect]
    place: Place | None
