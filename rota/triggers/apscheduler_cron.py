"""APScheduler's cron rules, asked statelessly."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, Self

from rota.errors import InvalidTrigger
from rota.triggers.trigger import (
    COUNT_LIMIT,
    only_known,
    stored_instant,
    utc,
    zone,
    zone_name,
)

_FIELDS = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
#: No zone has two changes of its clock so close, nor one that is larger.
_NEAR = timedelta(days=2)
#: What has no fire time in so long never fires: APScheduler itself would search to the year 9999.
_HORIZON = timedelta(days=50 * 366)


@dataclass(frozen=True, slots=True, init=False)
class ApschedulerCron:
    """APScheduler's ``CronTrigger``: its fields, its weekdays (0 is Monday), its clock changes.

    ``fields`` are those that are not ``*``. A wall time that comes twice (autumn) fires twice,
    one that is skipped (spring) fires when it would have been: as in APScheduler. What
    APScheduler loses is there: beyond a change of the clock its search begins an hour late,
    so in Paris the first of each month misses 1 April. For crontab's rules take ``Cron``. A
    rule without a fire time in 50 years never fires.
    """

    fields: tuple[tuple[str, str], ...]
    timezone: str
    start: datetime | None
    end: datetime | None
    _rule: Any = field(repr=False, compare=False)

    def __init__(
        self,
        fields: Mapping[str, str],
        timezone: str,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        fixed_zone(timezone)
        rule = _compile(fields)
        texts = ((one.name, str(one)) for one in rule.fields)
        for name, value in {
            "fields": tuple(pair for pair in texts if pair[1] != "*"),
            "timezone": timezone,
            "start": None if start is None else utc(start, "start_date"),
            "end": None if end is None else utc(end, "end_date"),
            "_rule": rule,
        }.items():
            object.__setattr__(self, name, value)

    def next(self, after: datetime) -> datetime | None:
        after = utc(after, "after")
        if self.start is not None:
            after = max(after, self.start - _TICK)
        try:
            found = min((one for one in self._near(after) if one > after), default=None)
        except OverflowError:
            return None
        return None if found is None or (self.end and found > self.end) else found

    def previous(self, until: datetime) -> datetime | None:
        until = utc(until, "until")
        back, fired = timedelta(minutes=1), None
        while fired is None:
            if back > _HORIZON or (self.start is not None and until < self.start):
                return None
            found = self.next(until - back)
            fired = found if found is not None and found <= until else None
            back *= 4
        return self._last(fired, until)

    def _last(self, fired: datetime, until: datetime) -> datetime:
        """The last fire time up to ``until``, from any before it: the interval is halved."""
        end = until
        while (found := self.next(fired)) is not None and found <= until:
            fired = found
            middle = fired + (end - fired) / 2
            found = self.next(middle)
            if found is not None and found <= until:
                fired = found
            else:
                end = middle
        return fired

    def count(self, after: datetime, until: datetime) -> int:
        until = utc(until, "until")
        number, time = 0, self.next(after)
        while time is not None and time <= until and number < COUNT_LIMIT:
            number, time = number + 1, self.next(time)
        return number

    def spread(self, by: str) -> Self:  # noqa: ARG002 - APScheduler has no H
        return self

    def _near(self, after: datetime) -> Iterator[datetime]:
        """Fire times, the next one among them: of the next wall time, and around clock changes."""
        where = fixed_zone(self.timezone)
        wall = self._wall(after.astimezone(where).replace(tzinfo=None) + _TICK)
        changes = [_change(after - _NEAR, where), _change(after, where)]
        if wall is not None:
            moment = wall.replace(tzinfo=where).astimezone(UTC)
            yield moment
            changes += [_change(moment - _NEAR, where), _change(moment, where)]
        for change in changes:
            if change is not None:
                yield from self._at_change(change, max(after, change.at - _NEAR))

    def _at_change(self, change: _Change, after: datetime) -> Iterator[datetime]:
        """The first fire time after an instant by the clock before the change, and by that after.

        By the clock before it the skipped wall times have their instants, too.
        """
        since, at = after.replace(tzinfo=None) + _TICK, change.at.replace(tzinfo=None)
        end = at + max(change.before, change.after)
        wall = self._wall(since + change.before)
        if wall is not None and wall < end:
            yield (wall - change.before).replace(tzinfo=UTC)
        wall = self._wall(max(since, at) + change.after)
        if wall is not None and wall < end + _NEAR:
            yield (wall - change.after).replace(tzinfo=UTC)

    def _wall(self, since: datetime) -> datetime | None:
        """The first matching wall time from ``since`` on.

        Asked in UTC, where a day has 24 hours: APScheduler loses fire times elsewhere.
        """
        rule = copy.copy(self._rule)
        try:
            rule.end_date = since.replace(tzinfo=UTC) + _HORIZON
            found = rule.get_next_fire_time(None, since.replace(tzinfo=UTC))
        except (OverflowError, ValueError):
            return None
        wall: datetime | None = None if found is None else found.replace(tzinfo=None)
        return wall

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "apscheduler": "cron",
            "fields": dict(self.fields),
            "timezone": self.timezone,
        }
        if self.start is not None:
            data["start_date"] = self.start.isoformat()
        if self.end is not None:
            data["end_date"] = self.end.isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        only_known(data, {"apscheduler", "fields", "timezone", "start_date", "end_date"})
        given = data.get("fields")
        if not isinstance(given, dict):
            raise InvalidTrigger(f"fields is {given!r}; it must be an object", field="fields")
        only_known(given, set(_FIELDS), "fields")
        return cls(
            given,
            data.get("timezone", "UTC"),
            stored_instant(data["start_date"], "start_date") if "start_date" in data else None,
            stored_instant(data["end_date"], "end_date") if "end_date" in data else None,
        )

    def describe(self) -> str:
        words = ", ".join(f"{name} {text}" for name, text in self.fields) or "every second"
        bounds = "".join(
            f", {word} {moment.isoformat()}"
            for word, moment in (("from", self.start), ("until", self.end))
            if moment is not None
        )
        return f"APScheduler cron: {words}, {self.timezone}{bounds}"


def fixed_zone(name: str) -> tzinfo:
    """The zone of an IANA name, or of a fixed offset such as ``UTC+02:00``."""
    if isinstance(name, str) and name[:4] in {"UTC+", "UTC-"}:
        try:
            return datetime.strptime(name[3:], "%z").tzinfo or UTC
        except ValueError:
            raise InvalidTrigger(
                f"timezone {name!r} is not an offset; write it as 'UTC+02:00'", field="timezone"
            ) from None
    return zone(name)


def fixed_zone_name(value: tzinfo) -> str:
    """The name :func:`fixed_zone` reads; a zone without one is refused."""
    name = value.tzname(None)
    if name is not None and name[:4] in {"UTC+", "UTC-"}:
        return name
    return zone_name(UTC if name == "UTC" else value)


def _compile(given: Mapping[str, str]) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    try:
        return CronTrigger(**{name: given.get(name, "*") for name in _FIELDS}, timezone=UTC)
    except (ValueError, TypeError) as error:
        raise InvalidTrigger(
            f"APScheduler does not read the cron fields {dict(given)!r}: {error}; correct them",
            field="fields",
        ) from None


class _Change(NamedTuple):
    """When a clock is changed, and its offsets from UTC before and after."""

    at: datetime
    before: timedelta
    after: timedelta


def _change(since: datetime, where: tzinfo) -> _Change | None:
    """The change of the clock in the two days from ``since``; None if there is none."""
    low, high = since, since + _NEAR
    before, after = _offset(low, where), _offset(high, where)
    if before == after:
        return None
    while high - low > _SECOND:
        middle = low + (high - low) / 2
        low, high = (middle, high) if _offset(middle, where) == before else (low, middle)
    return _Change(high.replace(microsecond=0), before, after)


def _offset(moment: datetime, where: tzinfo) -> timedelta:
    return moment.astimezone(where).utcoffset() or timedelta(0)
