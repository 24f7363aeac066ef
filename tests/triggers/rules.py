"""Random triggers and instants, and what every trigger must satisfy."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import strategies as st

from rota.triggers import AllOf, AnyOf, Calendar, Every, Once, Trigger, from_apscheduler

TICK = timedelta(microseconds=1)

zones = st.sampled_from(
    [
        "UTC",
        "America/New_York",
        "America/Santiago",
        "Antarctica/Troll",
        "Australia/Lord_Howe",
        "Europe/Paris",
        "Pacific/Apia",
        "Africa/Casablanca",
    ]
)
#: Half of them near a change of some clock.
instants = st.one_of(
    st.datetimes(datetime(2010, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda day, hours: day + timedelta(hours=hours),
        st.sampled_from(
            [
                datetime(2026, 3, 8, 7, tzinfo=UTC),
                datetime(2026, 3, 29, 1, tzinfo=UTC),
                datetime(2026, 10, 25, 1, tzinfo=UTC),
                datetime(2026, 11, 1, 6, tzinfo=UTC),
                datetime(2026, 4, 4, 15, tzinfo=UTC),
                datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
                datetime(2026, 9, 6, 4, tzinfo=UTC),
                datetime(2011, 12, 30, 10, tzinfo=UTC),
            ]
        ),
        st.floats(-30, 30),
    ),
)
seconds = st.builds(lambda moment: moment.replace(microsecond=0), instants)
dates = st.dates(date(2009, 1, 1), date(2027, 1, 1))
walls = st.builds(time, st.integers(0, 3) | st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
units = st.fixed_dictionaries(
    {},
    optional={
        "years": st.integers(0, 2),
        "months": st.integers(0, 14),
        "weeks": st.integers(0, 3),
        "days": st.integers(0, 40),
    },
).filter(lambda given: any(given.values()))

intervals = st.timedeltas(timedelta(milliseconds=1), timedelta(days=900))
everies = st.builds(Every, intervals) | st.builds(Every, intervals, instants)
onces = st.builds(Once, instants)
calendars = st.builds(
    lambda units, at, timezone, anchor: Calendar(**units, at=at, timezone=timezone, anchor=anchor),
    units,
    walls,
    zones,
    dates,
)

crons = st.builds(
    CronTrigger,
    month=st.sampled_from([None, "*", "2,3,10,11", "*/5"]),
    day=st.sampled_from([None, "*", "last", "2nd fri", "1-12", "31"]),
    day_of_week=st.sampled_from([None, None, "mon-fri", "mon,fri"]),
    hour=st.sampled_from(["*", "0", "1", "2", "3", "1,2", "0-3", "*/5"]),
    minute=st.sampled_from(["0", "30", "*/20", "59", "0,45"]),
    timezone=zones,
)
ap_intervals = st.builds(
    IntervalTrigger,
    days=st.integers(0, 40),
    minutes=st.integers(0, 1000),
    seconds=st.integers(1, 1000),
    start_date=seconds,
    end_date=st.none() | seconds,
)
ap_calendars = st.builds(
    lambda units, at, timezone, start, days: CalendarIntervalTrigger(
        **units,
        hour=at.hour,
        minute=at.minute,
        timezone=timezone,
        start_date=start,
        end_date=None if days is None else start + timedelta(days=days),
    ),
    units,
    walls,
    zones,
    dates,
    st.none() | st.integers(0, 5000),
)
ap_dates = st.builds(DateTrigger, instants)
ap_simple = st.one_of(crons, ap_intervals, ap_calendars, ap_dates)
apschedulers = st.one_of(
    ap_simple,
    st.builds(OrTrigger, st.lists(ap_simple, min_size=1, max_size=3)),
    crons.map(lambda one: AndTrigger([one, CronTrigger(minute="*", timezone=one.timezone)])),
)

plain = st.one_of(everies, onces, calendars, st.builds(from_apscheduler, ap_simple))
some = st.lists(plain, min_size=1, max_size=3)
combined = st.one_of(
    some.map(lambda them: AnyOf(*them)),
    some.map(lambda them: AllOf(*them)),
    st.builds(lambda a, b: AllOf(AnyOf(*a), *b), some, some),
    st.builds(lambda a, b: AnyOf(AllOf(*a), *b), some, some),
)
triggers = plain | combined


def check(trigger: Trigger, moment: datetime) -> None:
    """Next, previous and count tell of the same fire times around the moment."""
    before = trigger.previous(moment)
    after = trigger.next(moment)
    assert before is None or (before <= moment and before.tzinfo is UTC)
    assert after is None or (after > moment and after.tzinfo is UTC)
    if before is not None:
        assert trigger.previous(before) == before
        assert trigger.next(before - TICK) == before
        assert trigger.next(before) == after
        assert trigger.count(before - TICK, moment) == 1
    if after is not None:
        assert trigger.previous(after) == after
        assert trigger.previous(after - TICK) == before
        assert trigger.count(moment, after - TICK) == 0
        assert trigger.count(moment, after) == 1


def listed(trigger: Trigger, after: datetime, many: int) -> list[datetime]:
    """The next so many fire times, or as many as there are."""
    found: list[datetime] = []
    while len(found) < many:
        time = trigger.next(found[-1] if found else after)
        if time is None:
            break
        found.append(time)
    return found
