"""Check what was said about a recurring task's lateness, overlap and end."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict, TypeVar

from rota.core.clock import Seconds, instant, seconds
from rota.core.recurring import CATCHUPS, OVERLAPS, Catchup, Overlap, Rules
from rota.errors import InvalidArgument

W = TypeVar("W", bound=str)

#: What ``catchup_limit`` may be at most: so many children are made one after the other.
MOST_CATCHUP = 10_000


class RuleOptions(TypedDict, total=False):
    """The rules of a recurring task; what is left out has the default.

    ``catchup`` of fire times that came while no node ran: ``latest`` (default) one child
    for the newest, ``all`` one each for the newest ``catchup_limit`` (100), ``none`` only
    for one that is hardly late · ``misfire_grace_time`` seconds a fire time may be late,
    later it is missed (None: any; ``none``: 30) · ``overlap`` when ``max_instances`` (1)
    children have not ended: ``skip`` (default) this fire time, ``queue`` until one ends,
    or ``allow`` · ``start``, ``end`` aware datetimes, the first and last moment it may
    fire · ``max_runs`` children at most · ``jitter`` seconds: each child runs up to so
    much later · ``version`` of your code's definition: a lower one never replaces it.
    """

    catchup: Catchup
    catchup_limit: int
    misfire_grace_time: Seconds | None
    overlap: Overlap
    max_instances: int
    start: datetime | None
    end: datetime | None
    max_runs: int | None
    jitter: Seconds
    version: int


def make_rules(
    *,
    catchup: Catchup = "latest",
    catchup_limit: int = 100,
    misfire_grace_time: Seconds | None = None,
    overlap: Overlap = "skip",
    max_instances: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    max_runs: int | None = None,
    jitter: Seconds = 0,
    version: int = 0,
) -> Rules:
    """The rules, every one checked; ``InvalidArgument.field`` names the wrong one."""
    rules = Rules(
        catchup=_word(catchup, CATCHUPS, "catchup"),
        catchup_limit=_count(catchup_limit, "catchup_limit", 1, MOST_CATCHUP),
        misfire_grace=_grace(misfire_grace_time),
        overlap=_word(overlap, OVERLAPS, "overlap"),
        max_instances=1 if max_instances is None else _count(max_instances, "max_instances", 1),
        start=None if start is None else instant(start, "start"),
        end=None if end is None else instant(end, "end"),
        max_runs=None if max_runs is None else _count(max_runs, "max_runs", 1),
        jitter=seconds(jitter, "jitter"),
        version=_count(version, "version", 0),
    )
    if rules.start is not None and rules.end is not None and rules.end < rules.start:
        raise InvalidArgument(
            f"end {rules.end.isoformat()} is before start {rules.start.isoformat()}; "
            "it would never fire",
            field="end",
        )
    if rules.overlap == "allow" and rules.max_instances != 1:
        raise InvalidArgument(
            f"max_instances is {max_instances} and overlap='allow' has no limit; "
            "use overlap='skip' or 'queue' with it",
            field="max_instances",
        )
    return rules


def said_of(rules: Rules) -> RuleOptions:
    """The rules as they would be given."""
    return {
        "catchup": rules.catchup,
        "catchup_limit": rules.catchup_limit,
        "misfire_grace_time": rules.misfire_grace,
        "overlap": rules.overlap,
        "max_instances": rules.max_instances,
        "start": rules.start,
        "end": rules.end,
        "max_runs": rules.max_runs,
        "jitter": rules.jitter,
        "version": rules.version,
    }


def _word(value: W, words: tuple[str, ...], field: str) -> W:
    if isinstance(value, str) and value in words:
        return value
    raise InvalidArgument(
        f"{field} is {value!r}; it must be one of {', '.join(map(repr, words))}", field=field
    )


def _count(value: int, field: str, least: int, most: int | None = None) -> int:
    if type(value) is int and value >= least and (most is None or value <= most):
        return value
    bound = f"from {least}" if most is None else f"from {least} to {most}"
    raise InvalidArgument(f"{field} is {value!r}; it must be a whole number {bound}", field=field)


def _grace(value: Seconds | None) -> float | None:
    if value is None:
        return None
    grace = seconds(value, "misfire_grace_time")
    if grace == 0:
        raise InvalidArgument(
            "misfire_grace_time is 0, and every fire time is noticed a little late; "
            "give it some seconds, or None for any lateness",
            field="misfire_grace_time",
        )
    return grace
