"""Calendar: the day of the month, the wall time, and both changes of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.errors import InvalidTrigger
from rota.triggers import Calendar
from tests.triggers.rules import calendars, check, dates, instants, listed, units

NEW_YORK = ZoneInfo("America/New_York")


def days(trigger: Calendar, after: str, many: int) -> list[str]:
    found = listed(trigger, datetime.fromisoformat(after).replace(tzinfo=UTC), many)
    return [time.date().isoformat() for time in found]


@settings(max_examples=150, deadline=None)
@given(calendars, instants)
def test_next_previous_and_count_agree(trigger: Calendar, moment: datetime) -> None:
    check(trigger, moment)


@settings(max_examples=60, deadline=None)
@given(units, dates, st.integers(0, 23))
def test_the_days_are_those_of_apscheduler(step: dict[str, int], first: date, hour: int) -> None:
    theirs = CalendarIntervalTrigger(**step, hour=hour, start_date=first, timezone="UTC")
    expected, time = [], None
    for _ in range(8):
        time = theirs.get_next_fire_time(time, datetime(2000, 1, 1, tzinfo=UTC))
        expected.append(time)

    ours = Calendar(**step, at=f"{hour:02}:00", anchor=first)

    assert listed(ours, datetime(2000, 1, 1, tzinfo=UTC), 8) == expected
    assert ours.count(datetime(2000, 1, 1, tzinfo=UTC), expected[-1]) == 8


def test_a_month_without_the_day_is_passed_over() -> None:
    monthly = Calendar(months=1, anchor="2026-01-31")
    assert days(monthly, "2026-01-01", 5) == [
        *("2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31")
    ]
    assert monthly.previous(datetime(2026, 7, 1, tzinfo=UTC)) == datetime(2026, 5, 31, tzinfo=UTC)
    leap = Calendar(years=1, anchor="2024-02-29")
    assert days(leap, "2024-01-01", 2) == ["2024-02-29", "2028-02-29"]


def test_without_an_anchor_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert days(Calendar(weeks=1), "2026-11-22", 2) == ["2026-11-23", "2026-11-30"]
    assert days(Calendar(months=1), "2026-11-22", 2) == ["2026-12-01", "2027-01-01"]
    assert days(Calendar(years=1), "2026-11-22", 1) == ["2027-01-01"]


def test_nothing_fires_before_the_anchor() -> None:
    trigger = Calendar(weeks=2, at="09:00", anchor="2026-12-01")
    start = datetime(2026, 12, 1, 9, tzinfo=UTC)

    assert trigger.previous(start - timedelta(seconds=1)) is None
    assert trigger.next(datetime(2020, 1, 1, tzinfo=UTC)) == start


def test_a_wall_time_in_the_spring_gap_fires_at_its_end() -> None:
    daily = Calendar(days=1, at="02:30", timezone="America/New_York")

    fired = listed(daily, datetime(2026, 3, 7, 5, tzinfo=UTC), 3)

    assert [time.astimezone(NEW_YORK).isoformat() for time in fired] == [
        "2026-03-07T02:30:00-05:00",
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:30:00-04:00",
    ]


def test_a_wall_time_that_exists_twice_fires_once_the_first_time() -> None:
    daily = Calendar(days=1, at="01:30", timezone="America/New_York")

    fired = listed(daily, datetime(2026, 10, 31, 6, tzinfo=UTC), 2)

    assert [time.astimezone(NEW_YORK).isoformat() for time in fired] == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:30:00-05:00",
    ]


@pytest.mark.parametrize(
    ("zone", "at", "after", "expected"),
    [
        ("Australia/Lord_Howe", "02:15", "2026-10-03T12:00", "2026-10-03T15:30"),
        ("Antarctica/Troll", "02:30", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("America/Santiago", "00:00", "2026-09-05T12:00", "2026-09-06T04:00"),
        ("Pacific/Apia", "12:00", "2011-12-30T00:00", "2011-12-30T10:00"),
    ],
)
def test_gaps_of_half_an_hour_two_hours_at_midnight_and_a_day(
    zone: str, at: str, after: str, expected: str
) -> None:
    daily = Calendar(days=1, at=at, timezone=zone)

    time = daily.next(datetime.fromisoformat(after).replace(tzinfo=UTC))

    assert time == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_day_that_was_left_out_and_the_next_fire_once_where_they_meet() -> None:
    daily = Calendar(days=1, at="00:00", timezone="Pacific/Apia")
    after, until = datetime(2011, 12, 29, 12, tzinfo=UTC), datetime(2011, 12, 31, 12, tzinfo=UTC)

    assert len([time for time in listed(daily, after, 5) if time <= until]) == 2
    assert daily.count(after, until) == 2


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("days", {}),
        ("days", {"days": 0}),
        ("months", {"months": -1}),
        ("weeks", {"weeks": 1.5}),
        ("years", {"years": 10**9}),
        ("at", {"days": 1, "at": "25:00"}),
        ("at", {"days": 1, "at": "00:00+02:00"}),
        ("at", {"days": 1, "at": time(0, 0, 0, 1)}),
        ("timezone", {"days": 1, "timezone": "Mars/Olympus"}),
        ("timezone", {"days": 1, "timezone": "../etc/passwd"}),
        ("timezone", {"days": 1, "timezone": 5}),
        ("anchor", {"days": 1, "anchor": "31 January"}),
        ("anchor", {"days": 1, "anchor": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidTrigger, match=";") as refused:
        Calendar(**given)
    assert refused.value.field == field


def test_naive_datetimes_are_refused() -> None:
    for ask, field in ((Calendar(days=1).next, "after"), (Calendar(days=1).previous, "until")):
        with pytest.raises(InvalidTrigger, match="naive") as refused:
            ask(datetime(2026, 1, 1))
        assert refused.value.field == field


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_ends_of_the_calendar_are_none(zone: str) -> None:
    daily = Calendar(days=1, at="23:00", timezone=zone, anchor=date.min)

    assert daily.next(datetime.max.replace(tzinfo=UTC)) is None
    assert daily.previous(datetime.min.replace(tzinfo=UTC)) is None
    assert daily.previous(datetime.max.replace(tzinfo=UTC)) is not None
    assert daily.next(datetime.min.replace(tzinfo=UTC)) is not None


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (Calendar(months=1, at="03:00"), "every month at 03:00, UTC"),
        (
            Calendar(weeks=2, at="09:30:15", timezone="Europe/Paris", anchor="2026-12-01"),
            "every 2 weeks at 09:30:15, Europe/Paris, from 2026-12-01",
        ),
        (Calendar(years=1, days=1), "every 1 year and 1 day at 00:00, UTC"),
    ],
)
def test_it_says_itself_in_words(trigger: Calendar, words: str) -> None:
    assert trigger.describe() == words
