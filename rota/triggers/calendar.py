"""Every so many days, weeks, months or years, at a wall time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Self

from rota.errors import InvalidTrigger
from rota.triggers.dates import Days, Step
from rota.triggers.timetable import Timetable
from rota.triggers.trigger import COUNT_LIMIT, only_known, utc, zone, zone_name

#: A Monday, the first of a month and of a year: what most people mean who name no day.
_ANCHOR = date(2001, 1, 1)
_UNITS = ("years", "months", "weeks", "days")
_LONGEST = {"years": 1_000, "months": 12_000, "weeks": 52_000, "days": 365_000}


@dataclass(frozen=True, slots=True, init=False)
class Calendar:
    """Every so many calendar units from the day ``anchor`` on, at the wall time ``at``.

    Months and years keep the day of the month, and months that do not have it are passed
    over: from 31 January every month means the seven long months (for the last day of each
    month: ``Cron("0 3 L * *")``). With months *and* days, the days are added after the
    months. Nothing fires before the anchor; without one it is Monday 1 January 2001.

    A wall time that does not exist (spring) fires at the end of the gap; one that exists
    twice (autumn) fires once, the first time.

    >>> from datetime import UTC
    >>> Calendar(months=1, at="03:00", timezone="Europe/Paris").next(
    ...     datetime(2026, 1, 15, tzinfo=UTC)
    ... )
    datetime.datetime(2026, 2, 1, 2, 0, tzinfo=datetime.timezone.utc)
    """

    years: int
    months: int
    weeks: int
    days: int
    at: time
    timezone: str
    anchor: date

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        at: str | time = "00:00",
        timezone: str = "UTC",
        anchor: date | str = _ANCHOR,
    ) -> None:
        given = {"years": years, "months": months, "weeks": weeks, "days": days}
        for unit, number in checked_units(given).items():
            object.__setattr__(self, unit, number)
        object.__setattr__(self, "at", _wall_time(at))
        object.__setattr__(self, "timezone", zone_name(timezone))
        object.__setattr__(self, "anchor", day_of(anchor, "anchor"))

    def next(self, after: datetime) -> datetime | None:
        return next(self._times().rising(utc(after, "after")), None)

    def previous(self, until: datetime) -> datetime | None:
        return self._times().previous(utc(until, "until"))

    def count(self, after: datetime, until: datetime) -> int:
        return self._times().count(utc(after, "after"), utc(until, "until"), COUNT_LIMIT)

    def spread(self, by: str) -> Self:  # noqa: ARG002 - the wall time is stated
        return self

    def _times(self) -> Timetable:
        step = Step(self.years * 12 + self.months, self.weeks * 7 + self.days)
        return Timetable(Days(self.anchor, step), self.at, zone(self.timezone))

    def to_json(self) -> dict[str, Any]:
        units = {unit: getattr(self, unit) for unit in _UNITS if getattr(self, unit)}
        data: dict[str, Any] = {
            "calendar": units,
            "at": self.at.isoformat() if self.at.second else self.at.isoformat("minutes"),
            "timezone": self.timezone,
        }
        if self.anchor != _ANCHOR:
            data["anchor"] = self.anchor.isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        only_known(data, {"calendar", "at", "timezone", "anchor"})
        units = data["calendar"]
        if not isinstance(units, dict):
            raise InvalidTrigger(
                f"calendar is {units!r}; write its units, as in {{'months': 1}}", field="calendar"
            )
        only_known(units, set(_UNITS), "calendar")
        rest = {key: value for key, value in data.items() if key != "calendar"}
        return cls(**units, **rest)

    def describe(self) -> str:
        words = [f"every {in_units(self)} at {self.to_json()['at']}, {self.timezone}"]
        if self.anchor != _ANCHOR:
            words.append(f"from {self.anchor.isoformat()}")
        return ", ".join(words)


def in_units(rule: object) -> str:
    """``month``, ``2 weeks``, ``1 year and 1 day``."""
    many = [(getattr(rule, unit), unit) for unit in _UNITS if getattr(rule, unit)]
    if len(many) == 1 and many[0][0] == 1:
        return many[0][1].removesuffix("s")
    return " and ".join(
        f"{number} {unit.removesuffix('s') if number == 1 else unit}" for number, unit in many
    )


def checked_units(given: dict[str, int]) -> dict[str, int]:
    """The steps of a calendar rule; negative, fractional and huge ones are refused, and none."""
    for unit, number in given.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InvalidTrigger(
                f"{unit} is {number!r}; it must be a whole number, zero or more", field=unit
            )
        if number > _LONGEST[unit]:
            raise InvalidTrigger(
                f"{unit} is {number}; it must be {_LONGEST[unit]} or less", field=unit
            )
    if not any(given.values()):
        raise InvalidTrigger(
            "a calendar rule has no interval; give days, weeks, months or years", field="days"
        )
    return given


def day_of(value: object, field: str) -> date:
    """A date, given as one or as ISO text; datetimes are refused, their zone would be lost."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise InvalidTrigger(
        f"{field} is {value!r}; give a date, as in date(2026, 1, 31) or '2026-01-31'", field=field
    )


def _wall_time(value: object) -> time:
    at = value
    if isinstance(at, str):
        try:
            at = time.fromisoformat(at)
        except ValueError:
            at = None
    if not isinstance(at, time) or at.tzinfo is not None or at.microsecond:
        raise InvalidTrigger(
            f"at is {value!r}; give a wall time in whole seconds, as in '03:00', "
            "and the zone as timezone=",
            field="at",
        )
    return at.replace(fold=0)
