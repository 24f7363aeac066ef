"""Every: exact, anchored, and refused where it cannot be meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from rota import Every
from rota.errors import InvalidTrigger
from tests.triggers.rules import TICK, check, everies, instants

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@settings(max_examples=60, deadline=None)
@given(everies, instants)
def test_next_previous_and_count_agree(trigger: Every, moment: datetime) -> None:
    check(trigger, moment)


@settings(max_examples=60, deadline=None)
@given(everies, instants)
def test_every_fire_time_is_a_whole_number_of_intervals_from_the_anchor(
    trigger: Every, moment: datetime
) -> None:
    time = trigger.next(moment)

    assert time is not None
    assert (time - trigger.anchor) % trigger.interval == timedelta(0)
    assert time - moment <= trigger.interval


def test_a_third_of_a_second_does_not_drift_in_a_hundred_years() -> None:
    trigger = Every(0.333333, anchor=datetime(2000, 1, 1, tzinfo=UTC))
    last = datetime(2000, 1, 1, tzinfo=UTC) + 10**10 * timedelta(microseconds=333_333)

    assert trigger.previous(last) == last
    assert trigger.next(last - TICK) == last
    assert trigger.count(datetime(2000, 1, 1, tzinfo=UTC), last) == 10**10


def test_without_an_anchor_the_fire_times_are_round() -> None:
    assert Every(900).next(NOON + timedelta(minutes=1)) == NOON + timedelta(minutes=15)


def test_the_anchor_sets_the_phase_before_it_as_after_it() -> None:
    trigger = Every(timedelta(hours=1), anchor=NOON + timedelta(minutes=7))

    assert trigger.previous(NOON) == NOON - timedelta(minutes=53)
    assert trigger.next(NOON) == NOON + timedelta(minutes=7)


def test_an_interval_is_the_same_however_it_is_written() -> None:
    paris = NOON.astimezone(ZoneInfo("Europe/Paris"))

    assert Every(60) == Every(60.0) == Every(timedelta(minutes=1))
    assert Every(60, anchor=NOON) == Every(60, anchor=paris)
    assert Every(60).next(paris) == Every(60).next(NOON)


@pytest.mark.parametrize(
    "interval",
    [
        *(0, -1, 1e-6, float("nan"), float("inf"), 1e300, True, None, "60"),
        *(timedelta(0), timedelta(seconds=-1), timedelta.max),
    ],
    ids=repr,
)
def test_an_interval_that_cannot_be_repeated_is_refused(interval: Any) -> None:
    with pytest.raises(InvalidTrigger, match=r"; (it must|make it)|must be seconds") as refused:
        Every(interval)
    assert refused.value.field == "interval"


def test_naive_datetimes_are_refused_by_name() -> None:
    naive = datetime(2026, 1, 1)
    asked = {
        "anchor": lambda: Every(60, anchor=naive),
        "after": lambda: Every(60).next(naive),
        "until": lambda: Every(60).previous(naive),
    }
    for field, ask in asked.items():
        with pytest.raises(InvalidTrigger, match="naive") as refused:
            ask()
        assert refused.value.field == field


def test_at_the_end_of_the_calendar_there_is_no_next() -> None:
    assert Every(86_400).next(datetime.max.replace(tzinfo=UTC)) is None
    assert Every(86_400, anchor=NOON).previous(datetime.min.replace(tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (Every(1), "every second"),
        (Every(90), "every 90 seconds"),
        (Every(timedelta(days=2)), "every 2 days"),
        (Every(3661.5), "every 1 hour 1 minute 1.5 seconds"),
        (Every(3600, anchor=NOON), "every hour, counted from 2026-11-22T12:00:00+00:00"),
    ],
)
def test_it_says_itself_in_words(trigger: Every, words: str) -> None:
    assert trigger.describe() == words
