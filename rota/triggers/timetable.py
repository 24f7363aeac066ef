"""The instants of a wall time on the days of a calendar rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from rota.triggers.dates import Days

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Timetable:
    """A wall time on days, up to the day ``last``.

    One that exists twice (autumn) counts once, the first time. One that does not exist
    (spring) is the end of the gap, or with ``skip_gaps`` is passed over.
    """

    days: Days
    at: time
    where: tzinfo
    skip_gaps: bool = False
    last: date | None = None

    def rising(self, after: datetime) -> Iterator[datetime]:
        """The instants later than ``after``."""
        # A day earlier, since the end of a gap may lie on the day after.
        for day in self.days.rising(self._day(after, -_DAY)):
            if self.last is not None and day > self.last:
                return
            moment = self._moment(day)
            if moment is not None and moment > after:
                yield moment
                after = moment

    def previous(self, until: datetime) -> datetime | None:
        """The last instant not later than ``until``."""
        day = self._day(until, _DAY)
        moments = map(self._moment, self.days.falling(min(day, self.last or day)))
        return next((one for one in moments if one is not None and one <= until), None)

    def count(self, after: datetime, until: datetime, limit: int) -> int:
        """How many instants are in (after, until]; counting stops at ``limit``."""
        number = 0
        for moment in self.rising(after):
            if moment > until or number == limit:
                break
            number += 1
        return number

    def _day(self, moment: datetime, shift: timedelta) -> date:
        """The day the calendar of the zone shows, moved; within the years 1 to 9999."""
        try:
            return (moment + shift).astimezone(self.where).date()
        except OverflowError:
            return date.min if shift < timedelta(0) else date.max

    def _moment(self, day: date) -> datetime | None:
        """The instant of the wall time; None in a gap, and outside the years 1 to 9999 in UTC."""
        wall = datetime.combine(day, self.at)
        try:
            moment = wall.replace(tzinfo=self.where).astimezone(UTC)
            if moment.astimezone(self.where).replace(tzinfo=None) == wall:
                return moment
            return None if self.skip_gaps else _end_of_gap(wall, self.where)
        except OverflowError:
            return None


def _end_of_gap(wall: datetime, where: tzinfo) -> datetime:
    # Read with the offset after the change, the wall time is an instant before it.
    before = wall.replace(tzinfo=where, fold=1).astimezone(UTC)
    after = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
    offset = before.astimezone(where).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(where).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
