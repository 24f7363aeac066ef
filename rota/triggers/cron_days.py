"""Which days of a month a cron rule means: days, weekdays, ``L``, ``W`` and ``#``."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from typing import NamedTuple

#: The week of ``L5``: the last one of that weekday.
LAST = -1


class DayFields(NamedTuple):
    """The three day fields, expanded.

    ``nearest`` is ``15W``'s day, 31 for ``LW``; ``weeks`` are pairs of weekday (0 is
    Sunday) and which of the month. ``either``: a day needs to match only one side.
    """

    months: frozenset[int]
    days: frozenset[int]
    last_day: bool
    nearest: int | None
    weekdays: frozenset[int]
    weeks: frozenset[tuple[int, int]]
    either: bool


@dataclass(frozen=True, slots=True)
class Days:
    """The matching days, month by month.

    They depend on the month's first weekday and length only, of which there are 28 pairs:
    each is worked out once.
    """

    fields: DayFields
    _known: dict[tuple[int, int], tuple[int, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def of(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of a month, rising."""
        if month not in self.fields.months:
            return ()
        shape = calendar.monthrange(year, month)
        found = self._known.get(shape)
        if found is None:
            found = self._known[shape] = _matching(self.fields, *shape)
        return found

    def ever(self) -> bool:
        """Whether any day matches; the calendar repeats after 400 years."""
        return any(
            self.of(year, month) for year in range(2000, 2400) for month in self.fields.months
        )


def _matching(fields: DayFields, first: int, length: int) -> tuple[int, ...]:
    nearest = None if fields.nearest is None else _nearest(fields.nearest, first, length)
    found = []
    for day in range(1, length + 1):
        weekday = (first + day) % 7
        by_day = day in fields.days or day == nearest or (fields.last_day and day == length)
        by_weekday = (
            weekday in fields.weekdays
            or (weekday, (day + 6) // 7) in fields.weeks
            or (day + 7 > length and (weekday, LAST) in fields.weeks)
        )
        if (by_day or by_weekday) if fields.either else (by_day and by_weekday):
            found.append(day)
    return tuple(found)


def _nearest(day: int, first: int, length: int) -> int:
    """The Monday to Friday nearest a day, within its month; a day too high is the last one."""
    day = min(day, length)
    weekday = (first + day - 1) % 7  # 0 is Monday
    if weekday == 5:
        return day - 1 if day > 1 else 3
    if weekday == 6:
        return day + 1 if day < length else day - 2
    return day
