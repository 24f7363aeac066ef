"""Cron agrees with cronsim, with croniter, and with a walk over every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rota.errors import InvalidTrigger
from rota.triggers.cron import Cron
from tests.triggers.cron_cases import EXPRESSIONS, HOUR, Change, changes
from tests.triggers.cron_oracle import MINUTE, ZONES, walk

SECOND = timedelta(seconds=1)
CALM = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def forward(rule: Cron, after: datetime) -> Iterator[datetime]:
    while (found := rule.next(after)) is not None:
        yield found
        after = found


def backward(rule: Cron, until: datetime) -> Iterator[datetime]:
    while (found := rule.previous(until)) is not None:
        yield found
        until = found - SECOND


def rule_of(expression: str, zone: str) -> Cron:
    try:
        return Cron(expression, zone)
    except InvalidTrigger:
        assume(False)
        raise


def follows_the_clock(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return minute.startswith("*") or hour.startswith("*")


def cronsim_errs(expression: str, zone: str, change: Change) -> bool:
    """Where cronsim 2.8 is wrong, as the walk shows, for jobs that follow the clock.

    It steps by whole hours through a change of half an hour, and takes the midnight that a
    change at midnight leaves out for a real one.
    """
    if not follows_the_clock(expression):
        return False
    reached = (change.at - MINUTE).astimezone(ZoneInfo(zone)) + MINUTE
    midnight = reached.hour == reached.minute == 0 and change.forward > timedelta(0)
    return midnight or bool(change.forward % HOUR)


def agrees_with_cronsim(zone: str, expression: str, number: int, minutes: int) -> None:
    rule = rule_of(expression, zone)
    every = changes(zone)
    change = every[number % len(every)]
    assume(not cronsim_errs(expression, zone, change))
    after = change.at - timedelta(minutes=minutes)

    expected = islice(CronSim(expression, after.astimezone(ZoneInfo(zone))), 20)
    fires = list(islice(forward(rule, after), 20))

    assert fires == [fire.astimezone(UTC) for fire in expected]
    assert list(islice(backward(rule, fires[-1]), 20)) == fires[::-1]
    assert rule.count(after, fires[-1]) == 20


def agrees_with_the_walk(zone: str, expression: str, number: int, minutes: int) -> None:
    rule = rule_of(expression, zone)
    every = changes(zone)
    after = every[number % len(every)].at + timedelta(minutes=minutes)
    until = after + 4 * HOUR

    expected = list(walk(expression, zone, after, until))

    assert [fire for fire in islice(forward(rule, after), 241) if fire <= until] == expected
    assert [fire for fire in islice(backward(rule, until), 241) if fire > after] == expected[::-1]
    assert rule.count(after, until) == len(expected)


NUMBERS = st.integers(0, 61)
#: Never from within a second pass: cronsim reads its start there as the first.
BEFORE = st.one_of(st.integers(1, 240), st.integers(1, 3_000))
AROUND = st.integers(-230, 130)


@pytest.mark.parametrize("zone", ZONES)
@settings(CALM, max_examples=40)
@given(expression=EXPRESSIONS, number=NUMBERS, minutes=BEFORE)
def test_a_sample_agrees_with_cronsim(
    zone: str, expression: str, number: int, minutes: int
) -> None:
    agrees_with_cronsim(zone, expression, number, minutes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("zone", ZONES)
@settings(CALM, max_examples=3_400)
@given(expression=EXPRESSIONS, number=NUMBERS, minutes=BEFORE)
def test_twenty_thousand_rules_agree_with_cronsim(
    zone: str, expression: str, number: int, minutes: int
) -> None:
    agrees_with_cronsim(zone, expression, number, minutes)


@pytest.mark.parametrize("zone", ZONES)
@settings(CALM, max_examples=20)
@given(expression=EXPRESSIONS, number=NUMBERS, minutes=AROUND)
def test_a_sample_agrees_with_a_walk_over_every_minute(
    zone: str, expression: str, number: int, minutes: int
) -> None:
    agrees_with_the_walk(zone, expression, number, minutes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("zone", ZONES)
@settings(CALM, max_examples=600)
@given(expression=EXPRESSIONS, number=NUMBERS, minutes=AROUND)
def test_many_rules_agree_with_a_walk_over_every_minute(
    zone: str, expression: str, number: int, minutes: int
) -> None:
    agrees_with_the_walk(zone, expression, number, minutes)


SPECIAL_DAYS = [
    *("L * *", "1,L * *", "1W * *", "15W * *", "31W * *", "W6 * *", "29-3 * *", "10/5 * *"),
    *("* * 5#3", "* * mon-fri#1", "* * 1#5", "* * L5", "* * L0", "* * 0-7", "* * fri-mon"),
    *("* * 6/2", "13 * 5", "L 2,6 *", "31 jan-apr *", "? 11-2 ?", "1,15 */5 sat", "29 2 *"),
]
TIMES = ["0 59 22-4", "5,30-32 3-9/3 5/6"]


@pytest.mark.parametrize("days", SPECIAL_DAYS)
@pytest.mark.parametrize("times", TIMES)
def test_special_days_and_seconds_agree_with_croniter(times: str, days: str) -> None:
    after = datetime(2027, 7, 31, 23, 30, tzinfo=UTC)
    known = croniter(f"{times} {days}", after, datetime, second_at_beginning=True)
    rule = Cron(f"{times} {days}", seconds="first")

    expected = [known.get_next() for _ in range(12)]
    fires = list(islice(forward(rule, after), 12))

    assert fires == expected
    assert list(islice(backward(rule, fires[-1]), 12)) == fires[::-1]
    assert rule.count(after, fires[-1]) == 12


@pytest.mark.parametrize(
    ("zone", "year", "month", "day"),
    [
        ("Pacific/Apia", 2011, 12, 30),  # a whole day left out
        ("Pacific/Kwajalein", 1993, 8, 21),  # the same, eastward
        ("Africa/Monrovia", 1972, 1, 7),  # 44 minutes and 30 seconds left out
        ("America/Caracas", 2007, 12, 9),  # half an hour put back at 03:00
        ("Asia/Pyongyang", 2018, 5, 5),
        ("Portugal", 1975, 12, 31),
    ],
)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "0,50 0,23 * * *"])
def test_odd_changes_are_counted_and_walked_both_ways_alike(
    zone: str, year: int, month: int, day: int, expression: str
) -> None:
    rule = Cron(expression, zone)
    after = datetime(year, month, day, tzinfo=UTC) - 48 * HOUR
    until = after + 96 * HOUR

    fires = [fire for fire in islice(forward(rule, after), 300) if fire <= until]

    assert len(fires) == len(set(fires)) == rule.count(after, until) > 2
    assert list(islice(backward(rule, until), len(fires))) == fires[::-1]
