"""APScheduler's triggers as rota's: stateless, stored as JSON, never pickled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Self

from rota.errors import InvalidTrigger
from rota.triggers.apscheduler_cron import ApschedulerCron, fixed_zone, fixed_zone_name
from rota.triggers.calendar import checked_units, day_of, in_units
from rota.triggers.combined import AllOf, AnyOf
from rota.triggers.dates import Days, Step
from rota.triggers.every import in_words, interval_of, plain_seconds
from rota.triggers.once import Once
from rota.triggers.timetable import Timetable
from rota.triggers.trigger import COUNT_LIMIT, Trigger, only_known, stored_instant, utc

_UNITS = ("years", "months", "weeks", "days")


@dataclass(frozen=True, slots=True)
class ApschedulerInterval:
    """APScheduler's ``IntervalTrigger``, counted from its ``start_date`` in exact microseconds.

    Nothing fires before ``start``, nor after ``end``.
    """

    interval: timedelta
    start: datetime
    end: datetime | None = None

    def __post_init__(self) -> None:
        interval_of(self.interval, "seconds")
        object.__setattr__(self, "start", utc(self.start, "start_date"))
        if self.end is not None:
            object.__setattr__(self, "end", utc(self.end, "end_date"))

    def next(self, after: datetime) -> datetime | None:
        moment = self._at(self._number(utc(after, "after")) + 1)
        return None if moment is None or (self.end and moment > self.end) else moment

    def previous(self, until: datetime) -> datetime | None:
        number = self._number(utc(until, "until"))
        return None if number < 0 else self._at(number)

    def count(self, after: datetime, until: datetime) -> int:
        return max(0, self._number(utc(until, "until")) - self._number(utc(after, "after")))

    def spread(self, by: str) -> Self:  # noqa: ARG002 - an interval is not spread
        return self

    def _number(self, when: datetime) -> int:
        """The number of the last fire time not later; 0 is the start, -1 before it."""
        when = when if self.end is None else min(when, self.end)
        return max(-1, (when - self.start) // self.interval)

    def _at(self, number: int) -> datetime | None:
        try:
            return self.start + number * self.interval
        except OverflowError:
            return None

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "apscheduler": "interval",
            "seconds": plain_seconds(self.interval),
            "start_date": self.start.isoformat(),
        }
        if self.end is not None:
            data["end_date"] = self.end.isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        only_known(data, {"apscheduler", "seconds", "start_date", "end_date"})
        return cls(
            interval_of(data.get("seconds", 0), "seconds"),
            stored_instant(data.get("start_date"), "start_date"),
            stored_instant(data["end_date"], "end_date") if "end_date" in data else None,
        )

    def describe(self) -> str:
        until = "" if self.end is None else f", until {self.end.isoformat()}"
        return f"every {in_words(self.interval)}, from {self.start.isoformat()}{until}"


@dataclass(frozen=True, slots=True)
class ApschedulerCalendar:
    """APScheduler's ``CalendarIntervalTrigger``: a wall time in the spring gap is passed over.

    Days are counted from ``start`` on; ``end`` is the last day.
    """

    years: int
    months: int
    weeks: int
    days: int
    at: time
    timezone: str
    start: date
    end: date | None = None

    def __post_init__(self) -> None:
        checked_units({unit: getattr(self, unit) for unit in _UNITS})
        fixed_zone(self.timezone)

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
        return Timetable(
            Days(self.start, step),
            self.at,
            fixed_zone(self.timezone),
            skip_gaps=True,
            last=self.end,
        )

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "apscheduler": "calendarinterval",
            "interval": {unit: getattr(self, unit) for unit in _UNITS if getattr(self, unit)},
            "time": self.at.isoformat(),
            "timezone": self.timezone,
            "start_date": self.start.isoformat(),
        }
        if self.end is not None:
            data["end_date"] = self.end.isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        known = {"apscheduler", "interval", "time", "timezone", "start_date", "end_date"}
        only_known(data, known)
        units = data.get("interval")
        if not isinstance(units, dict):
            raise InvalidTrigger(f"interval is {units!r}; it must be an object", field="interval")
        only_known(units, set(_UNITS), "interval")
        try:
            at = time.fromisoformat(str(data.get("time")))
        except ValueError:
            raise InvalidTrigger(
                f"time is {data.get('time')!r}; write it as '03:00:00'", field="time"
            ) from None
        return cls(
            **dict.fromkeys(_UNITS, 0) | units,
            at=at,
            timezone=data.get("timezone", "UTC"),
            start=day_of(data.get("start_date"), "start_date"),
            end=day_of(data["end_date"], "end_date") if "end_date" in data else None,
        )

    def describe(self) -> str:
        words = f"every {in_units(self)} at {self.at.isoformat()}, {self.timezone}"
        until = "" if self.end is None else f", until {self.end.isoformat()}"
        return f"{words}, from {self.start.isoformat()}{until}"


def from_apscheduler(trigger: object) -> Trigger:
    """A trigger of APScheduler 3 (cron, interval, date, calendarinterval, and, or) as rota's.

    Asked without a history: no drift, no fire in the past, and the times of an *or* are those
    of its members. A date is a ``Once``, *or* an ``AnyOf``, *and* an ``AllOf``. Without
    ``start_date`` an interval counts from the moment it was made, which another start of
    the program makes another trigger: give it one, or take ``Every``.

    Raises ``InvalidTrigger`` for jitter (rota has its own, outside the trigger) and for
    classes of your own: what is stored is JSON, and other nodes could not read them.
    """
    from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
    from apscheduler.triggers.combining import AndTrigger, OrTrigger
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.date import DateTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    readers: dict[type, Callable[[Any], Trigger]] = {
        CronTrigger: _cron,
        IntervalTrigger: lambda one: ApschedulerInterval(
            one.interval, one.start_date, one.end_date
        ),
        DateTrigger: lambda one: Once(one.run_date),
        CalendarIntervalTrigger: _calendar,
        OrTrigger: lambda one: AnyOf(*map(from_apscheduler, one.triggers)),
        AndTrigger: lambda one: AllOf(*map(from_apscheduler, one.triggers)),
    }
    reader = readers.get(type(trigger))
    if reader is None:
        raise InvalidTrigger(
            f"{type(trigger).__module__}.{type(trigger).__qualname__} is not one of APScheduler's "
            "own trigger classes, and rota stores triggers as JSON that every node can read; "
            "combine Cron, Every, Once and Calendar with AnyOf and AllOf",
            field="trigger",
        )
    if getattr(trigger, "jitter", None):
        raise InvalidTrigger(
            "the trigger has jitter, which would move the nominal times; "
            "make it without, and give jitter= to the recurring task",
            field="jitter",
        )
    return reader(trigger)


def apscheduler_from_json(data: dict[str, Any]) -> Trigger:
    """The trigger of a stored canonical form; raises ``InvalidTrigger`` if it is unknown."""
    match data["apscheduler"]:
        case "cron":
            return ApschedulerCron.from_json(data)
        case "interval":
            return ApschedulerInterval.from_json(data)
        case "calendarinterval":
            return ApschedulerCalendar.from_json(data)
        case other:
            raise InvalidTrigger(
                f"APScheduler trigger {other!r} is not known to this version; "
                "upgrade rota to read it",
                field="apscheduler",
            )


def _cron(trigger: Any) -> ApschedulerCron:
    return ApschedulerCron(
        {one.name: str(one) for one in trigger.fields},
        fixed_zone_name(trigger.timezone),
        trigger.start_date,
        trigger.end_date,
    )


def _calendar(trigger: Any) -> ApschedulerCalendar:
    return ApschedulerCalendar(
        **{unit: getattr(trigger, unit) for unit in _UNITS},
        at=time(*trigger.__getstate__()["time"]),
        timezone=fixed_zone_name(trigger.timezone),
        start=_plain_day(trigger.start_date),
        end=None if trigger.end_date is None else _plain_day(trigger.end_date),
    )


def _plain_day(day: date) -> date:
    return day.date() if isinstance(day, datetime) else day
