"""Wall times as instants: what becomes of them where a zone's clock is put forward or back.

The rules are Vixie's as Debian ships them. A job at fixed times runs once where the clock is
put back, in the first pass, and at the end of the gap where it is put forward. A job that
follows the clock runs whenever the clock shows a matching time: twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from rota.triggers.cron_wall import WallTimes
from rota.triggers.trigger import zone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = 86_400

#: A zone's clock cannot be read at the very ends of Python's calendar.
_YEARS = range(2, 9_999)
_FIRST = (datetime(_YEARS.start, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_END = (datetime(_YEARS.stop, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND


class Span(NamedTuple):
    """Seconds since 1970 in [start, end) through which the zone's offset stays the same.

    ``shown`` is the wall time up to which the clock had got before: later than the wall
    time at ``start`` where it was put back, earlier where it was put forward.
    """

    start: int
    end: int
    offset: int
    shown: int

    def opening(self, fixed: bool) -> int:
        """The first wall time that belongs to this span."""
        return self.shown if fixed else self.start + self.offset

    def instant(self, wall: int) -> int:
        """When a wall time of this span is; one in the gap before it is at its start."""
        return max(wall - self.offset, self.start)


def next_fire(times: WallTimes, timezone: str, after: datetime) -> datetime | None:
    """The first instant later than ``after``; None at the end of the calendar (year 9998)."""
    since = max(_seconds(after) + 1, _FIRST)
    for span in _spans_from(timezone, since):
        wall = span.opening(times.fixed)
        if since > span.start:
            wall = max(wall, since + span.offset)
        found = times.at_or_after(wall)
        if found is None:
            return None
        if found < span.end + span.offset:
            return _EPOCH + timedelta(seconds=span.instant(found))
    return None


def previous_fire(times: WallTimes, timezone: str, until: datetime) -> datetime | None:
    """The last instant not later than ``until``; None at the beginning of the calendar."""
    last = min(_seconds(until), _END - 1)
    for span in _spans_back(timezone, last):
        found = times.at_or_before(min(last, span.end - 1) + span.offset)
        if found is None:
            return None
        if found >= span.opening(times.fixed):
            return _EPOCH + timedelta(seconds=span.instant(found))
    return None


def count_fires(times: WallTimes, timezone: str, after: datetime, until: datetime) -> int:
    """How many instants are later than ``after`` and not later than ``until``, exactly."""
    since, last = max(_seconds(after) + 1, _FIRST), min(_seconds(until), _END - 1)
    total = 0
    for span in _spans_from(timezone, since):
        if span.start > last:
            break
        opening = span.opening(times.fixed)
        first = max(since, span.start) + span.offset
        end = min(last + 1, span.end) + span.offset
        if since <= span.start and opening < first:
            # However many times the gap swallowed, they and the first second after it are one.
            total += min(times.count(opening, first + 1), 1)
            first += 1
        total += times.count(max(opening, first), end)
    return total


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def _spans_from(timezone: str, since: int) -> Iterator[Span]:
    if since >= _END:
        return
    for year in range(_year(since), _YEARS.stop):
        for span in spans(timezone, year):
            if span.end > since:
                yield span


def _spans_back(timezone: str, last: int) -> Iterator[Span]:
    if last < _FIRST:
        return
    for year in range(_year(last), _YEARS.start - 1, -1):
        for span in reversed(spans(timezone, year)):
            if span.start <= last:
                yield span


def _year(moment: int) -> int:
    return (_EPOCH + timedelta(seconds=moment)).year


@lru_cache(maxsize=4_096)
def spans(timezone: str, year: int) -> tuple[Span, ...]:
    """The spans of a UTC year.

    Looks at the offset once a day; nobody has put a clock forward and back within one.
    """
    first, end = ((datetime(one, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND for one in (year, year + 1))
    if timezone == "UTC":
        return (Span(first, end, 0, first),)
    found: list[Span] = []
    # Two days earlier: what the clock showed just before the year began counts, too.
    edges = _edges(zone(timezone), max(first - 2 * _DAY, _FIRST), end)
    shown = edges[0][0] + edges[0][1]
    for (start, offset), (stop, _) in zip(edges, [*edges[1:], (end, 0)], strict=True):
        if stop > first:
            begin = max(start, first)
            reached = shown if start >= first else max(shown, first + offset)
            found.append(Span(begin, stop, offset, reached))
        shown = max(shown, stop + offset)
    return tuple(found)


def _edges(clock: tzinfo, first: int, end: int) -> list[tuple[int, int]]:
    """Where each offset begins in [first, end), ``first`` among them."""
    edges = [(first, _offset(clock, first))]
    seen = first
    for moment in [*range(first + _DAY, end, _DAY), end - 1]:
        if _offset(clock, moment) != edges[-1][1]:
            edges.append(_edge(clock, seen, moment))
        seen = moment
    return edges


def _edge(clock: tzinfo, before: int, after: int) -> tuple[int, int]:
    """The first second with the offset of ``after``."""
    offset = _offset(clock, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(clock, middle) == offset:
            after = middle
        else:
            before = middle
    return after, offset


def _offset(clock: tzinfo, moment: int) -> int:
    shift = (_EPOCH + timedelta(seconds=moment)).astimezone(clock).utcoffset()
    return 0 if shift is None else shift // _SECOND
