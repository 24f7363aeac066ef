"""The wall times a cron rule means, and searching and counting them without any time zone."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import date

from rota.triggers.cron_days import Days

_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class WallTimes:
    """Every matching wall time, as seconds since 1970-01-01 00:00 on the same clock.

    ``fixed`` says that neither minute nor hour begins with ``*``: a job at set times,
    rather than one that follows the clock.
    """

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    days: Days
    fixed: bool

    @property
    def per_day(self) -> int:
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def at_or_after(self, wall: int) -> int | None:
        """The first wall time not before ``wall``; None at the end of the calendar."""
        number, second = divmod(wall, _DAY)
        day = date.fromordinal(number + _EPOCH)
        if day.day in self.days.of(day.year, day.month):
            rank = self._rank(second)
            if rank < self.per_day:
                return number * _DAY + self._at(rank)
        later = self._later_day(day)
        return None if later is None else (later - _EPOCH) * _DAY + self._at(0)

    def at_or_before(self, wall: int) -> int | None:
        """The last wall time not after ``wall``; None at the beginning of the calendar."""
        number, second = divmod(wall, _DAY)
        day = date.fromordinal(number + _EPOCH)
        if day.day in self.days.of(day.year, day.month):
            rank = self._rank(second + 1)
            if rank:
                return number * _DAY + self._at(rank - 1)
        earlier = self._earlier_day(day)
        last = self.per_day - 1
        return None if earlier is None else (earlier - _EPOCH) * _DAY + self._at(last)

    def count(self, since: int, until: int) -> int:
        """How many wall times are in [since, until)."""
        if since >= until:
            return 0
        first, before_first = self._in_month(since)
        last, before_last = self._in_month(until)
        days = sum(len(self.days.of(month // 12, month % 12 + 1)) for month in range(first, last))
        return days * self.per_day + before_last - before_first

    def _in_month(self, wall: int) -> tuple[int, int]:
        """The month's number, and how many of its wall times are before ``wall``."""
        number, second = divmod(wall, _DAY)
        day = date.fromordinal(number + _EPOCH)
        days = self.days.of(day.year, day.month)
        place = bisect_left(days, day.day)
        before = place * self.per_day
        if place < len(days) and days[place] == day.day:
            before += self._rank(second)
        return day.year * 12 + day.month - 1, before

    def _rank(self, second: int) -> int:
        """How many times of a matching day are before this second of it."""
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        at = bisect_left(self.hours, hour)
        rank = at * len(self.minutes)
        if at < len(self.hours) and self.hours[at] == hour:
            at = bisect_left(self.minutes, minute)
            rank += at
            if at < len(self.minutes) and self.minutes[at] == minute:
                return rank * len(self.seconds) + bisect_left(self.seconds, second)
        return rank * len(self.seconds)

    def _at(self, rank: int) -> int:
        """The second of the day of the time with this rank."""
        rank, second = divmod(rank, len(self.seconds))
        hour, minute = divmod(rank, len(self.minutes))
        return self.hours[hour] * 3600 + self.minutes[minute] * 60 + self.seconds[second]

    def _later_day(self, day: date) -> int | None:
        after = day.day
        for month in range(day.year * 12 + day.month - 1, 120_000):
            days = self.days.of(month // 12, month % 12 + 1)
            place = bisect_left(days, after + 1)
            if place < len(days):
                return date(month // 12, month % 12 + 1, days[place]).toordinal()
            after = 0
        return None

    def _earlier_day(self, day: date) -> int | None:
        before = day.day
        for month in range(day.year * 12 + day.month - 1, 11, -1):
            days = self.days.of(month // 12, month % 12 + 1)
            place = bisect_left(days, before)
            if place:
                return date(month // 12, month % 12 + 1, days[place - 1]).toordinal()
            before = 32
        return None
