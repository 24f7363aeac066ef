"""APScheduler's triggers, asked statelessly, against APScheduler's own answers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import assume, given, settings

from rota.errors import InvalidTrigger
from rota.triggers import AllOf, AnyOf, Once, Trigger, from_apscheduler
from tests.triggers.rules import (
    TICK,
    ap_calendars,
    ap_intervals,
    apschedulers,
    check,
    crons,
    instants,
    listed,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")


class Sunrise(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> Any:
        return now


class SolarTime(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(minutes=7)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "solar"


class Mine(CronTrigger):
    """A subclass, whose difference no other node would know."""


@settings(max_examples=80, deadline=None)
@given(apschedulers, instants)
def test_next_previous_and_count_agree(theirs: BaseTrigger, moment: datetime) -> None:
    check(from_apscheduler(theirs), moment)


@settings(max_examples=40, deadline=None)
@given(crons, instants)
def test_cron_fires_when_apscheduler_does(theirs: CronTrigger, moment: datetime) -> None:
    # Where no clock is changed: beyond a change APScheduler loses fire times.
    theirs = CronTrigger(
        **{one.name: str(one) for one in theirs.fields},
        timezone=ZoneInfo("Asia/Tokyo"),
        end_date="2040-01-01",
    )
    expected, now = [], moment
    for _ in range(4):
        time = theirs.get_next_fire_time(None, now + TICK)
        if time is None:
            break
        now = time.astimezone(UTC)
        expected.append(now)

    assert listed(from_apscheduler(theirs), moment, 4) == expected


@settings(max_examples=60, deadline=None)
@given(crons, instants)
def test_cron_fires_at_every_wall_time_that_matches(theirs: CronTrigger, moment: datetime) -> None:
    # Twice where the clock shows it twice, and when it would have been where it is skipped.
    where, ours = theirs.timezone, from_apscheduler(theirs)
    by_wall = CronTrigger(**{one.name: str(one) for one in theirs.fields}, timezone=UTC)
    after, until = moment - timedelta(hours=40), moment + timedelta(hours=40)
    expected, wall = set(), after - timedelta(days=2)
    while wall < until + timedelta(days=2):
        wall = by_wall.get_next_fire_time(None, wall + TICK)
        for fold in (0, 1):
            time = wall.replace(tzinfo=where, fold=fold).astimezone(UTC)
            if fold == 0 or time.astimezone(where).replace(tzinfo=UTC) == wall:
                expected.add(time)
    seen = sorted(time for time in expected if after < time <= until)

    fired = [time for time in listed(ours, after, len(seen) + 1) if time <= until]

    assert fired == seen
    assert ours.previous(until) == max(seen, default=ours.previous(after))


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
def test_the_first_of_each_month_is_not_lost_after_a_clock_change(zone: str) -> None:
    theirs = CronTrigger(day=1, timezone=zone)

    fired = listed(from_apscheduler(theirs), datetime(2025, 12, 31, 12, tzinfo=UTC), 12)

    local = [time.astimezone(ZoneInfo(zone)) for time in fired]
    assert [(one.month, one.day, one.hour) for one in local] == [(n, 1, 0) for n in range(1, 13)]


@settings(max_examples=40, deadline=None)
@given(ap_intervals, instants)
def test_intervals_fire_when_apscheduler_does(theirs: IntervalTrigger, moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    time = theirs.get_next_fire_time(None, moment + timedelta(milliseconds=1))

    assert from_apscheduler(theirs).next(moment) == time


@settings(max_examples=40, deadline=None)
@given(ap_calendars)
def test_calendar_intervals_fire_when_apscheduler_does(theirs: CalendarIntervalTrigger) -> None:
    # The day after the one that Samoa left out is lost there.
    assume("Apia" not in repr(theirs))
    expected, time = [], None
    for _ in range(5):
        time = theirs.get_next_fire_time(time, NOON)
        if time is None:
            break
        expected.append(time.astimezone(UTC))

    assert listed(from_apscheduler(theirs), datetime(2000, 1, 1, tzinfo=UTC), 5) == expected


def test_a_calendar_interval_that_began_long_ago_fires_in_the_future() -> None:
    theirs = CalendarIntervalTrigger(days=1, hour=3, start_date=date(2020, 1, 1), timezone="UTC")

    assert from_apscheduler(theirs).next(NOON) == datetime(2026, 11, 23, 3, tzinfo=UTC)


def test_a_calendar_interval_passes_over_a_time_in_the_gap() -> None:
    theirs = CalendarIntervalTrigger(
        days=1, hour=2, minute=30, start_date=date(2026, 3, 7), timezone=NEW_YORK
    )
    fired = listed(from_apscheduler(theirs), datetime(2026, 3, 1, tzinfo=UTC), 2)

    assert [time.astimezone(NEW_YORK).day for time in fired] == [7, 9]


def test_a_date_is_once_and_does_not_fire_in_the_past() -> None:
    ours = from_apscheduler(DateTrigger("2026-11-22 13:00:00", timezone="UTC"))

    assert ours == Once(NOON + timedelta(hours=1))
    assert ours.next(NOON + timedelta(hours=1)) is None


def test_a_union_fires_at_ninety_too() -> None:
    theirs = OrTrigger([IntervalTrigger(seconds=s, start_date=NOON) for s in (60, 90)])

    fired = listed(from_apscheduler(theirs), NOON - TICK, 7)

    assert [(time - NOON).seconds for time in fired] == [0, 60, 90, 120, 180, 240, 270]
    assert isinstance(from_apscheduler(theirs), AnyOf)


def test_members_that_never_agree_do_not_hang() -> None:
    start = NOON.replace(year=2020)
    theirs = AndTrigger(
        [
            IntervalTrigger(minutes=1, start_date=start),
            IntervalTrigger(minutes=1, start_date=start + timedelta(seconds=1)),
        ]
    )
    ours = from_apscheduler(theirs)

    assert isinstance(ours, AllOf)
    assert ours.next(NOON) is None


def test_late_runs_do_not_move_an_interval() -> None:
    ours = from_apscheduler(IntervalTrigger(seconds=60, start_date=NOON))

    assert ours.next(NOON + timedelta(days=365, seconds=17)) == NOON + timedelta(
        days=365, minutes=1
    )


def test_interval_bounds_are_inclusive() -> None:
    ours = from_apscheduler(
        IntervalTrigger(hours=1, start_date=NOON, end_date=NOON + timedelta(hours=2))
    )
    far = NOON + timedelta(days=1)

    assert ours.next(NOON - timedelta(days=1)) == NOON
    assert ours.next(NOON + timedelta(hours=2)) is None
    assert ours.previous(far) == NOON + timedelta(hours=2)
    assert ours.previous(NOON - TICK) is None
    assert ours.count(NOON - TICK, far) == 3


def test_cron_bounds_are_inclusive() -> None:
    ours = from_apscheduler(
        CronTrigger(
            minute=0, start_date=NOON, end_date=NOON + timedelta(hours=2), timezone="Europe/Paris"
        )
    )
    far = NOON + timedelta(days=1)

    assert listed(ours, NOON - timedelta(days=1), 9) == [
        NOON + timedelta(hours=hours) for hours in range(3)
    ]
    assert ours.previous(far) == NOON + timedelta(hours=2)
    assert ours.previous(NOON - TICK) is None
    assert ours.count(NOON - timedelta(days=1), far) == 3


@pytest.mark.parametrize(
    ("fields", "zone", "after", "expected"),
    [
        # skipped in spring: when it would have been
        ({"hour": 2, "minute": 30}, "America/New_York", "2026-03-08T05:00", "2026-03-08T07:30"),
        ({"hour": 2, "minute": 30}, "America/New_York", "2026-03-08T07:10", "2026-03-08T07:30"),
        # twice in autumn
        ({"hour": 1, "minute": 30}, "America/New_York", "2026-11-01T05:00", "2026-11-01T05:30"),
        ({"hour": 1, "minute": 30}, "America/New_York", "2026-11-01T05:30", "2026-11-01T06:30"),
        # by two hours, which APScheduler itself gets wrong
        ({"hour": 1, "minute": "0,45"}, "Antarctica/Troll", "2026-10-25T00:28", "2026-10-25T01:00"),
        (
            {"hour": "2,3", "minute": "*/7"},
            "Antarctica/Troll",
            "2026-03-29T01:00",
            "2026-03-29T01:07",
        ),
    ],
)
def test_cron_where_the_clock_is_changed(
    fields: dict[str, Any], zone: str, after: str, expected: str
) -> None:
    ours = from_apscheduler(CronTrigger(**fields, timezone=zone))

    assert ours.next(datetime.fromisoformat(after).replace(tzinfo=UTC)) == datetime.fromisoformat(
        expected
    ).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "theirs",
    [
        CronTrigger(month=2, day=30, timezone="UTC"),
        CronTrigger(year=2020, timezone="UTC"),
        CronTrigger(end_date=NOON, timezone="UTC"),
        IntervalTrigger(seconds=1, start_date=NOON, end_date=NOON),
        DateTrigger(NOON),
        CalendarIntervalTrigger(
            days=1, start_date=date(2020, 1, 1), end_date=date(2020, 1, 2), timezone="UTC"
        ),
    ],
    ids=repr,
)
def test_what_never_fires_again_says_so(theirs: BaseTrigger) -> None:
    assert from_apscheduler(theirs).next(NOON) is None


def test_equal_rules_are_equal_however_written() -> None:
    five = from_apscheduler(CronTrigger(hour=5, timezone="Europe/Paris"))

    assert five == from_apscheduler(
        CronTrigger(hour="05", minute="0", second=0, timezone=ZoneInfo("Europe/Paris"))
    )
    assert five.to_json() == {
        "apscheduler": "cron",
        "fields": {"hour": "5", "minute": "0", "second": "0"},
        "timezone": "Europe/Paris",
    }


def test_a_fixed_offset_is_kept() -> None:
    ours = from_apscheduler(CronTrigger(hour=5, timezone=timezone(timedelta(hours=5, minutes=30))))

    assert ours.to_json()["timezone"] == "UTC+05:30"
    assert ours.next(NOON) == datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("theirs", "field", "remedy"),
    [
        (CronTrigger(hour=5, jitter=60, timezone="UTC"), "jitter", "give jitter="),
        (OrTrigger([IntervalTrigger(hours=1, jitter=5)]), "jitter", "give jitter="),
        (OrTrigger([DateTrigger(NOON)], jitter=5), "jitter", "give jitter="),
        (Mine(hour=5, timezone="UTC"), "trigger", "combine Cron"),
        (Sunrise(), "trigger", "combine Cron"),
        (AndTrigger([Sunrise()]), "trigger", "combine Cron"),
        (AndTrigger([]), "triggers", "give it one"),
        (IntervalTrigger(seconds=-5, start_date=NOON), "seconds", "it must be"),
        (CalendarIntervalTrigger(days=-1, timezone="UTC"), "days", "it must be"),
        ("cron", "trigger", "combine Cron"),
    ],
)
def test_what_could_not_be_stored_is_refused_with_the_reason(
    theirs: object, field: str, remedy: str
) -> None:
    with pytest.raises(InvalidTrigger, match=remedy) as refused:
        from_apscheduler(theirs)
    assert refused.value.field == field


def test_a_zone_without_a_name_is_refused() -> None:
    theirs = CronTrigger(hour=5, timezone=SolarTime())
    with pytest.raises(InvalidTrigger, match="no IANA name") as refused:
        from_apscheduler(theirs)
    assert refused.value.field == "timezone"


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (
            CronTrigger(day_of_week="mon-fri", hour=9, timezone="Europe/Paris"),
            "APScheduler cron: day_of_week mon-fri, hour 9, minute 0, second 0, Europe/Paris",
        ),
        (CronTrigger(timezone="UTC"), "APScheduler cron: every second, UTC"),
        (
            IntervalTrigger(minutes=5, start_date=NOON, end_date=NOON),
            "every 5 minutes, from 2026-11-22T12:00:00+00:00, until 2026-11-22T12:00:00+00:00",
        ),
        (
            CalendarIntervalTrigger(weeks=2, hour=3, start_date=date(2026, 1, 1), timezone="UTC"),
            "every 2 weeks at 03:00:00, UTC, from 2026-01-01",
        ),
    ],
)
def test_it_says_itself_in_words(theirs: BaseTrigger, words: str) -> None:
    trigger: Trigger = from_apscheduler(theirs)
    assert trigger.describe() == words
    assert trigger.spread("nightly") is trigger
