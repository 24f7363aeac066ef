"""Once: one instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from rota import Once
from rota.errors import InvalidTrigger
from tests.triggers.rules import TICK, check, instants, onces

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@settings(max_examples=30, deadline=None)
@given(onces, instants)
def test_next_previous_and_count_agree(trigger: Once, moment: datetime) -> None:
    check(trigger, moment)
    check(trigger, trigger.at)


def test_it_fires_at_its_instant_and_never_after() -> None:
    trigger = Once(NOON)

    assert trigger.next(NOON - TICK) == NOON
    assert trigger.next(NOON) is None
    assert trigger.previous(NOON - TICK) is None
    assert trigger.count(NOON - timedelta(days=9), NOON + timedelta(days=9)) == 1
    assert trigger.describe() == "once, at 2026-11-22T12:00:00+00:00"


def test_two_spellings_of_an_instant_are_equal() -> None:
    assert Once(NOON.astimezone(ZoneInfo("Asia/Tokyo"))) == Once(NOON)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="naive") as refused:
        Once(datetime(2026, 1, 1))
    assert refused.value.field == "at"
