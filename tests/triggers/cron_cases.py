"""Random cron rules, and moments at which zones change their clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

HOUR = timedelta(hours=1)


class Change(NamedTuple):
    """When a zone's clock changes, and by how much it is put forward."""

    at: datetime
    forward: timedelta


@cache
def changes(zone: str) -> tuple[Change, ...]:
    """Every change from 2000 to 2030, to the minute."""
    found = []
    day = datetime(2000, 1, 1, tzinfo=UTC)
    while day.year < 2031:
        later = day + 24 * HOUR
        if _offset(later, zone) != _offset(day, zone):
            low, high = 0, 24 * 60
            while high - low > 1:
                middle = (low + high) // 2
                same = _offset(day + timedelta(minutes=middle), zone) == _offset(day, zone)
                low, high = (middle, high) if same else (low, middle)
            found.append(
                Change(day + timedelta(minutes=high), _offset(later, zone) - _offset(day, zone))
            )
        day = later
    return tuple(found)


def _offset(moment: datetime, zone: str) -> timedelta:
    return moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)


def _lists(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])
    term = st.one_of(
        number.map(str),
        number.map(str),
        ranges.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.tuples(ranges, st.integers(1, 5)).map(lambda t: f"{t[0][0]}-{t[0][1]}/{t[1]}"),
    )
    return st.lists(term, min_size=1, max_size=3).map(",".join)


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """One field: a star, a star with a step, or a list."""
    steps = st.sampled_from([1, 2, 3, 5, 6, 7]).map("*/{}".format)
    return st.one_of(st.just("*"), steps, _lists(low, high), _lists(low, high))


#: Hours lean to the night, where clocks are changed; dates to every one.
EXPRESSIONS = st.tuples(
    fields(0, 59),
    st.one_of(fields(0, 3), fields(0, 23)),
    st.one_of(st.just("*"), st.just("*"), fields(1, 31)),
    st.one_of(st.just("*"), st.just("*"), st.just("*"), fields(1, 12)),
    st.one_of(st.just("*"), st.just("*"), fields(0, 6)),
).map(" ".join)
