"""AnyOf and AllOf: unions without doubles, and searches that end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.errors import InvalidTrigger
from rota.triggers import COUNT_LIMIT, AllOf, AnyOf, Calendar, Cron, Every, Once, Trigger
from tests.triggers.rules import TICK, calendars, check, everies, instants, listed, onces

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: Whole minutes, so that they meet.
minutes = st.builds(lambda many: Every(60 * many), st.integers(1, 90))
days = st.builds(lambda many: Calendar(days=many), st.integers(1, 5))
members = st.lists(minutes | days | onces, min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(everies | calendars | onces, min_size=1, max_size=3), instants)
def test_next_previous_and_count_of_a_union_agree(them: list[Trigger], moment: datetime) -> None:
    check(AnyOf(*them), moment)


@settings(max_examples=60, deadline=None)
@given(st.lists(minutes | days, min_size=1, max_size=3), instants)
def test_next_previous_and_count_of_common_times_agree(
    them: list[Trigger], moment: datetime
) -> None:
    check(AllOf(*them), moment)


@settings(max_examples=40, deadline=None)
@given(members, instants)
def test_a_union_fires_when_any_member_does(them: list[Trigger], moment: datetime) -> None:
    until = moment + timedelta(hours=3)
    expected = {time for one in them for time in listed(one, moment, 200) if time <= until}

    fired = [time for time in listed(AnyOf(*them), moment, 600) if time <= until]

    assert fired == sorted(expected)
    assert AnyOf(*them).count(moment, until) == len(expected)


@settings(max_examples=40, deadline=None)
@given(members, instants)
def test_common_times_are_those_every_member_has(them: list[Trigger], moment: datetime) -> None:
    for time in listed(AllOf(*them), moment, 3):
        assert all(one.previous(time) == time for one in them)


def test_sixty_and_ninety_seconds_fire_at_ninety_too() -> None:
    fired = listed(AnyOf(Every(60), Every(90)), NOON, 4)

    assert [(time - NOON).seconds for time in fired] == [60, 90, 120, 180]


def test_common_times_of_intervals_are_their_common_multiples() -> None:
    together = AllOf(Every(7 * 60), Every(11 * 60), Every(60))

    first = together.next(NOON)

    assert first is not None
    assert first.timestamp() % (77 * 60) == 0
    assert together.previous(first + timedelta(minutes=76)) == first
    assert together.count(NOON, NOON + timedelta(minutes=770)) == 10


def test_the_first_monday_of_a_month_is_a_common_time() -> None:
    together = AllOf(Cron("0 9 1-7 * *"), Cron("0 9 * * mon"))

    assert [time.day for time in listed(together, NOON, 3)] == [7, 4, 1]


def test_the_rare_member_leads_the_search() -> None:
    leap = AllOf(Calendar(years=1, anchor="2024-02-29"), Cron("* * * * mon"), Every(0.001))

    assert leap.next(NOON) == datetime(2044, 2, 29, tzinfo=UTC)
    assert leap.previous(datetime(2044, 2, 28, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "apart",
    [
        AllOf(Every(60), Every(60, anchor=NOON + TICK)),
        AllOf(Cron("0 9 * * *"), Cron("30 9 * * *")),
        AllOf(Once(NOON), Once(NOON + HOUR)),
        AnyOf(AllOf(Every(60), Every(60, anchor=NOON + TICK)), Once(NOON)),
    ],
    ids=["intervals", "crons", "dates", "inside a union"],
)
def test_members_that_never_agree_have_no_next_time(apart: Trigger) -> None:
    after = NOON + HOUR
    assert apart.next(after) is None
    assert apart.count(after, after + 24 * HOUR) == 0


def test_members_that_never_agree_have_no_previous_time() -> None:
    assert AllOf(Every(60), Every(60, anchor=NOON + TICK)).previous(NOON) is None


def test_a_union_goes_on_when_a_member_has_ended() -> None:
    both = AnyOf(Once(NOON), Every(3600, anchor=NOON + HOUR / 2))

    assert listed(both, NOON - HOUR / 4, 2) == [NOON, NOON + HOUR / 2]
    assert AnyOf(Once(NOON), Once(NOON - HOUR)).next(NOON) is None
    assert AnyOf(Once(NOON), Once(NOON - HOUR)).previous(NOON - 2 * HOUR) is None


def test_counting_stops_at_its_limit() -> None:
    for trigger in (AnyOf(Every(1), Every(2)), AllOf(Every(1), Every(2))):
        assert trigger.count(NOON, NOON + timedelta(days=7)) == COUNT_LIMIT


def test_order_doubles_and_nesting_make_no_difference() -> None:
    a, b, c = Every(60), Every(90), Once(NOON)

    for kind in (AnyOf, AllOf):
        assert kind(a, b) == kind(b, a, a) == kind(b, kind(a))
        assert hash(kind(a, b, c)) == hash(kind(kind(c, b), a))
    assert AnyOf(a, b) != AllOf(a, b)


def test_spreading_passes_on_to_the_members() -> None:
    hashed = AllOf(AnyOf(Cron("H 3 * * *"), Cron("0 4 * * *")), Every(60))

    spread = hashed.spread("nightly")

    assert spread == AllOf(AnyOf(Cron("H 3 * * *").spread("nightly"), Cron("0 4 * * *")), Every(60))
    assert spread.next(NOON) is not None
    assert spread.spread("another") == spread


def test_a_search_inside_a_search_is_refused_and_can_be_written_otherwise() -> None:
    a, b, x = Every(120), Every(180), Every(60)
    with pytest.raises(InvalidTrigger, match=r"write AnyOf\(AllOf") as refused:
        AllOf(AnyOf(AllOf(a, b), x), x)
    assert refused.value.field == "triggers"
    assert AnyOf(AllOf(a, b, x), x).next(NOON) == NOON + timedelta(seconds=60)


@pytest.mark.parametrize("kind", [AnyOf, AllOf])
@pytest.mark.parametrize("given", [(), (60,), ("0 3 * * *",), (Every,), ([Every(1)],)], ids=repr)
def test_only_triggers_are_combined(kind: type[AnyOf | AllOf], given: tuple[Trigger, ...]) -> None:
    with pytest.raises(InvalidTrigger, match=r"no triggers|not a trigger") as refused:
        kind(*given)
    assert refused.value.field == "triggers"


def test_naive_datetimes_are_refused() -> None:
    for trigger in (AnyOf(Every(1)), AllOf(Every(1))):
        for ask, field in ((trigger.next, "after"), (trigger.previous, "until")):
            with pytest.raises(InvalidTrigger, match="naive") as refused:
                ask(datetime(2026, 1, 1))
            assert refused.value.field == field


def test_they_say_themselves_in_words() -> None:
    hours = AnyOf(Every(3600), Once(NOON))
    assert hours.describe() == "any of: every hour; once, at 2026-11-22T12:00:00+00:00"
    assert AllOf(hours, Every(60)).describe() == (
        "when all fire at once: "
        "(any of: every hour; once, at 2026-11-22T12:00:00+00:00); every minute"
    )
