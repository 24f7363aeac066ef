"""When a cron rule fires: the days it means, the edges of the calendar, ``H``, and counting."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from rota.errors import InvalidTrigger
from rota.triggers.cron import Cron

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def days(expression: str, number: int, after: datetime = NOON) -> list[str]:
    """The dates of the next fire times."""
    rule, found = Cron(expression), []
    for _ in range(number):
        following = rule.next(after)
        assert following is not None
        found.append(following.strftime("%m-%d"))
        after = following
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 13 * 5", ["11-27", "12-04", "12-11", "12-13", "12-18"]),
        ("0 0 13 * 0-6", ["11-23", "11-24", "11-25"]),
        ("0 0 */2 * 1", ["11-23", "12-07", "12-21", "01-11"]),
        ("0 0 1-7 * */7", ["12-06", "01-03", "02-07"]),
        ("0 0 L * 2#1", ["11-30", "12-01", "12-31", "01-05", "01-31"]),
        ("0 0 1W * *", ["12-01", "01-01", "02-01", "03-01", "04-01", "05-03"]),
        ("0 0 LW * *", ["11-30", "12-31", "01-29", "02-26"]),
        ("0 0 28W * *", ["11-27", "12-28", "01-28", "02-26"]),
        ("0 0 * * L0,5#5", ["11-29", "12-27", "01-29", "01-31"]),
        ("0 0 29 2 *", ["02-29", "02-29"]),
    ],
)
def test_days_of_month_and_week_as_vixie_reads_them(expression: str, expected: list[str]) -> None:
    assert days(expression, len(expected)) == expected


def test_next_is_later_and_previous_is_not() -> None:
    rule = Cron("0 12 * * *")
    late = NOON + timedelta(microseconds=1)

    assert rule.next(NOON - timedelta(microseconds=1)) == NOON
    assert rule.next(NOON) == NOON + timedelta(days=1)
    assert rule.previous(NOON) == rule.previous(late) == NOON
    assert rule.previous(NOON - timedelta(microseconds=1)) == NOON - timedelta(days=1)
    assert rule.count(NOON, late) == 0
    assert rule.count(NOON - timedelta(microseconds=1), NOON) == 1
    assert rule.count(late, NOON) == 0


def test_instants_of_other_zones_are_read_and_answered_in_utc() -> None:
    rule = Cron("0 3 * * *", "Europe/Paris")
    here = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=-9)))

    following = rule.next(here)

    assert following == datetime(2026, 7, 2, 1, tzinfo=UTC)
    assert following.tzinfo is UTC
    assert Cron("0 3 * * *", ZoneInfo("Europe/Paris")) == rule  # type: ignore[arg-type]


@pytest.mark.parametrize(("verb", "field"), [("next", "after"), ("previous", "until")])
def test_naive_instants_are_refused(verb: str, field: str) -> None:
    with pytest.raises(InvalidTrigger, match=f"{field} is a naive datetime") as caught:
        getattr(Cron("@daily"), verb)(NOON.replace(tzinfo=None))

    assert caught.value.field == field


def test_counting_refuses_naive_instants_too() -> None:
    with pytest.raises(InvalidTrigger, match="until is a naive datetime"):
        Cron("@daily").count(NOON, NOON.replace(tzinfo=None))


def test_the_calendar_ends_without_an_error() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for rule in (Cron("0 0 29 2 *"), Cron("* * * * *", "Pacific/Auckland")):
        assert rule.next(last) is None
        assert rule.previous(first) is None
        assert rule.next(first) is not None
        assert rule.previous(last) is not None
    assert Cron("0 0 29 2 *").count(first, last) == 2424


def test_a_rare_date_is_found_far_away() -> None:
    leap_sunday = Cron("30 4 29 2 */7", "Europe/Paris")
    found = datetime(2088, 2, 29, 3, 30, tzinfo=UTC)

    following = leap_sunday.next(found)

    assert leap_sunday.next(found - timedelta(days=4_000)) == found
    assert following == datetime(2128, 2, 29, 3, 30, tzinfo=UTC)
    assert leap_sunday.previous(following - timedelta(seconds=1)) == found


def test_seconds_are_counted_through_a_change_of_the_clock() -> None:
    every = Cron("* * * * * *", "Europe/Paris", seconds="first")
    set_times = Cron("*/10 0-59 0-23 * * *", "Europe/Paris", seconds="first")
    spring, autumn = (datetime(2026, *day, tzinfo=UTC) for day in ((3, 26), (10, 22)))
    week = timedelta(days=7)

    assert every.count(spring, spring + week) == every.count(autumn, autumn + week) == 604_800
    assert set_times.count(spring, spring + week) == 60_480
    assert set_times.count(autumn, autumn + week) == 60_480 - 360


def test_h_waits_for_an_id() -> None:
    with pytest.raises(InvalidTrigger, match=re.escape("call spread('the recurring id') first")):
        Cron("H 3 * * *").next(NOON)


def test_h_is_decided_by_the_id_and_the_field_and_never_changes() -> None:
    rule = Cron("H H(0-7) H * H", "Europe/Paris")

    assert rule.spread("nightly").expression == "15 5 15 * 0"
    assert rule.spread("nightly") == rule.spread("nightly") != rule.spread("weekly")
    assert rule.spread("nightly").timezone == "Europe/Paris"
    plain = Cron("0 3 * * THU")
    assert plain.spread("nightly") is plain


def test_h_spreads_over_its_range_and_only_there() -> None:
    names = [f"task-{number}" for number in range(400)]

    def seen(expression: str, field: int) -> set[str]:
        return {Cron(expression).spread(name).expression.split()[field] for name in names}

    assert seen("H * * * *", 0) == {str(minute) for minute in range(60)}
    assert seen("H(10-14) * * * *", 0) == {"10", "11", "12", "13", "14"}
    assert seen("0 0 H * *", 2) == {str(day) for day in range(1, 29)}
    assert seen("0 0 * * H", 4) == {str(day) for day in range(7)}
    assert seen("H/15 * * * *", 0) == {f"{first}-59/15" for first in range(15)}
    assert seen("H(0-5)/4,59 * * * *", 0) == {"0-5/4,59", "1-5/4,59", "2,59", "3,59"}


def test_h_over_seconds_fires_as_often_as_it_says() -> None:
    rule = Cron("H/20 * * * * *", seconds="first").spread("beat")

    assert rule.count(NOON, NOON + timedelta(hours=1)) == 180


def test_a_rule_can_be_pickled_and_is_hashable() -> None:
    rule = Cron("0 3 * * *", "Europe/Paris")

    again = pickle.loads(pickle.dumps(rule))

    assert again == rule
    assert hash(again) == hash(rule)
    assert again.next(NOON) == rule.next(NOON)
