"""Rules made of rules: any of several, or all of them at once."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, groupby, islice
from typing import Any, Self

from rota.errors import InvalidTrigger
from rota.triggers.trigger import (
    COUNT_LIMIT,
    Trigger,
    canonical,
    from_json,
    only_known,
    utc,
)

#: So many times ``AllOf`` asks its members before it says that there is no common time.
SEARCH_LIMIT = 10_000
#: And so many times while it counts.
_COUNT_STEPS = 100_000
_TICK = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, init=False)
class AnyOf:
    """Fires when any of the triggers does; what several fire at once, it fires once.

    The order of the triggers says nothing: it is kept sorted, without doubles.
    """

    triggers: tuple[Trigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        object.__setattr__(self, "triggers", _members(AnyOf, triggers))

    def next(self, after: datetime) -> datetime | None:
        after = utc(after, "after")
        times = (trigger.next(after) for trigger in self.triggers)
        return min((time for time in times if time is not None), default=None)

    def previous(self, until: datetime) -> datetime | None:
        until = utc(until, "until")
        times = (trigger.previous(until) for trigger in self.triggers)
        return max((time for time in times if time is not None), default=None)

    def count(self, after: datetime, until: datetime) -> int:
        after, until = utc(after, "after"), utc(until, "until")
        times = heapq.merge(*(_times(trigger, after, until) for trigger in self.triggers))
        return sum(1 for _ in islice(groupby(times), COUNT_LIMIT))

    def spread(self, by: str) -> AnyOf:
        return AnyOf(*(trigger.spread(by) for trigger in self.triggers))

    def to_json(self) -> dict[str, Any]:
        return {"any_of": [trigger.to_json() for trigger in self.triggers]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(*_stored_members(data, "any_of"))

    def describe(self) -> str:
        return f"any of: {'; '.join(_words(trigger) for trigger in self.triggers)}"


@dataclass(frozen=True, slots=True, init=False)
class AllOf:
    """Fires when all the triggers fire at the very same instant.

    Meant for rules on times of day (a ``Calendar`` and a ``Cron``). Each member is asked from
    the time another one has named; where they do not agree within 10,000 questions (for
    two daily rules that is 13 years) there is no next time. Counting ends at 100,000. An ``AllOf``
    below another one is refused unless it is a direct member: write
    ``AnyOf(AllOf(a, x), AllOf(b, x))`` for *(a or b) and x*. As in ``AnyOf`` the order
    says nothing.
    """

    triggers: tuple[Trigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        members = _members(AllOf, triggers)
        if any(_holds_all_of(member) for member in members):
            raise InvalidTrigger(
                "an AllOf stands inside an AnyOf inside an AllOf, a search of searches; "
                "write AnyOf(AllOf(a, x), AllOf(b, x)) for (a or b) and x",
                field="triggers",
            )
        object.__setattr__(self, "triggers", members)

    def next(self, after: datetime) -> datetime | None:
        return next(self.rising(utc(after, "after"), _LAST, SEARCH_LIMIT), None)

    def previous(self, until: datetime) -> datetime | None:
        until, agreed, candidate = utc(until, "until"), 0, None
        for trigger in islice(cycle(self.triggers), SEARCH_LIMIT):
            time = trigger.previous(until)
            if time is None:
                return None
            agreed = agreed + 1 if time == candidate else 1
            if agreed == len(self.triggers):
                return time
            until = candidate = time
        return None

    def count(self, after: datetime, until: datetime) -> int:
        times = _times(self, utc(after, "after"), utc(until, "until"))
        return sum(1 for _ in islice(times, COUNT_LIMIT))

    def rising(self, after: datetime, until: datetime, steps: int) -> Iterator[datetime]:
        """The common times in (after, until]; members are asked so many times altogether."""
        agreed, candidate = 0, None
        for trigger in islice(cycle(self.triggers), steps):
            time = trigger.next(after)
            if time is None or time > until:
                return
            agreed = agreed + 1 if time == candidate else 1
            candidate = time
            if agreed == len(self.triggers):
                yield time
                after, agreed = time, 0
            else:
                after = time - _TICK

    def spread(self, by: str) -> AllOf:
        return AllOf(*(trigger.spread(by) for trigger in self.triggers))

    def to_json(self) -> dict[str, Any]:
        return {"all_of": [trigger.to_json() for trigger in self.triggers]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(*_stored_members(data, "all_of"))

    def describe(self) -> str:
        return f"when all fire at once: {'; '.join(_words(trigger) for trigger in self.triggers)}"


def combined_from_json(data: dict[str, Any]) -> AnyOf | AllOf:
    """The combination of a stored canonical form."""
    return AnyOf.from_json(data) if "any_of" in data else AllOf.from_json(data)


def _members(kind: type[AnyOf | AllOf], triggers: Iterable[object]) -> tuple[Trigger, ...]:
    """The members in canonical order, without doubles; members of the same kind are opened."""
    found: dict[str, Trigger] = {}
    for trigger in triggers:
        if isinstance(trigger, type) or not isinstance(trigger, Trigger):
            raise InvalidTrigger(
                f"{trigger!r} is not a trigger of rota; take Cron, Every, Once, Calendar, AnyOf, "
                "AllOf, or from_apscheduler() for one of APScheduler",
                field="triggers",
            )
        inner = trigger.triggers if isinstance(trigger, kind) else (trigger,)
        found.update((canonical(one), one) for one in inner)
    if not found:
        raise InvalidTrigger(
            f"{kind.__name__} has no triggers; give it one or more", field="triggers"
        )
    return tuple(found[text] for text in sorted(found))


def _stored_members(data: dict[str, Any], key: str) -> list[Trigger]:
    only_known(data, {key})
    members = data[key]
    if not isinstance(members, list):
        raise InvalidTrigger(
            f"{key} is {json.dumps(members)}; it must be a list of triggers", field=key
        )
    return [from_json(member) for member in members]


def _holds_all_of(trigger: Trigger) -> bool:
    if isinstance(trigger, AnyOf):
        return any(isinstance(one, AllOf) or _holds_all_of(one) for one in trigger.triggers)
    return False


def _times(trigger: Trigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """The fire times in (after, until]; the search for common ones has a bound altogether."""
    if isinstance(trigger, AllOf):
        return trigger.rising(after, until, _COUNT_STEPS)
    return _one_by_one(trigger, after, until)


def _one_by_one(trigger: Trigger, after: datetime, until: datetime) -> Iterator[datetime]:
    time = trigger.next(after)
    while time is not None and time <= until:
        yield time
        time = trigger.next(time)


def _words(trigger: Trigger) -> str:
    words = trigger.describe()
    return f"({words})" if isinstance(trigger, AnyOf | AllOf) else words
