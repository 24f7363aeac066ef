"""Every fire time is decided once, and no list of the missed is ever built."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.control.planning import (
    AT_ONCE,
    GRACE_OF_NONE,
    first_time,
    pass_over,
    plan,
    run_time,
    upcoming,
)
from rota.core.recurring import Definition, Fire, Rules
from rota.triggers import Every

ZERO = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def a_definition(first: datetime | None, **fields: Any) -> Definition:
    values: dict[str, Any] = {
        "id": "beat",
        "work": "beat",
        "params": "{}",
        "trigger": "{}",
        "options": "{}",
        "queue": "default",
        "priority": 0,
        "next_fire_at": first,
    }
    return Definition(**(values | fields))


def told(fires: list[Fire]) -> list[tuple[str, float, int]]:
    return [(fire.decision, (fire.fire_at - ZERO).total_seconds(), fire.count) for fire in fires]


@pytest.mark.parametrize(
    ("rules", "now", "expected"),
    [
        (Rules(), 9, []),
        (Rules(), 10, [("fired", 10, 1)]),
        (Rules(), 45, [("missed", 10, 3), ("fired", 40, 1)]),
        (Rules(misfire_grace=5), 45, [("missed", 10, 3), ("fired", 40, 1)]),
        (Rules(misfire_grace=4), 45, [("missed", 10, 4)]),
        (Rules(catchup="none"), 45, [("missed", 10, 3), ("fired", 40, 1)]),
        (Rules(catchup="all"), 45, [("fired", 10 * n, 1) for n in (1, 2, 3, 4)]),
        (
            Rules(catchup="all", catchup_limit=2),
            45,
            [("missed", 10, 2), ("fired", 30, 1), ("fired", 40, 1)],
        ),
        (
            Rules(catchup="all", misfire_grace=15),
            45,
            [("missed", 10, 2), ("fired", 30, 1), ("fired", 40, 1)],
        ),
        (Rules(end=at(25)), 45, [("missed", 10, 1), ("fired", 20, 1)]),
        (Rules(end=at(5)), 45, []),
        (Rules(catchup="all", overlap="queue"), 45, [("fired", 10, 1)]),
        (
            Rules(catchup="all", overlap="queue", max_instances=2),
            45,
            [("fired", 10, 1), ("fired", 20, 1)],
        ),
        (Rules(overlap="queue"), 45, [("missed", 10, 3), ("fired", 40, 1)]),
    ],
)
def test_what_is_decided(rules: Rules, now: float, expected: list[tuple[str, float, int]]) -> None:
    assert told(plan(a_definition(at(10)), Every(10), rules, at(now))) == expected


def test_none_fires_what_is_as_late_as_a_lease_and_no_later() -> None:
    hourly = a_definition(at(3600))
    for late, decision in ((GRACE_OF_NONE, "fired"), (GRACE_OF_NONE + 0.001, "missed")):
        fires = plan(hourly, Every(3600), Rules(catchup="none"), at(3600 + late))
        assert told(fires) == [(decision, 3600, 1)]


def test_the_last_decision_before_the_end_ends_it() -> None:
    (fire,) = plan(a_definition(at(20)), Every(10), Rules(end=at(25)), at(22))
    assert fire.following is None
    (missed,) = plan(a_definition(at(20)), Every(10), Rules(end=at(25), misfire_grace=1), at(500))
    assert (missed.decision, missed.count, missed.following) == ("missed", 1, None)


def test_a_fire_carries_what_the_transaction_has_to_check() -> None:
    rules = Rules(overlap="skip", max_instances=3, max_runs=7)
    (fire,) = plan(a_definition(at(10), version=4), Every(10), rules, at(12))
    assert (fire.version, fire.overlap, fire.max_instances, fire.max_runs) == (4, "skip", 3, 7)
    assert (fire.expected, fire.following) == (at(10), at(20))


def test_a_next_time_that_its_trigger_does_not_know_is_decided_all_the_same() -> None:
    """The trigger's meaning may have changed with a version since it was stored."""
    fires = plan(a_definition(at(7)), Every(10), Rules(catchup="all"), at(25))
    assert told(fires) == [("fired", 7, 1), ("fired", 10, 1), ("fired", 20, 1)]


class Counted:
    """A trigger that counts how often it is asked."""

    def __init__(self, inner: Every) -> None:
        self.inner = inner
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("rules", "decided", "asked"),
    [
        (Rules(), 2, 10),
        (Rules(catchup="none"), 2, 10),
        (Rules(catchup="all", catchup_limit=50), 51, 200),
        (Rules(misfire_grace=0), 2, 10),
    ],
)
def test_seven_days_of_seconds_take_a_handful_of_questions(
    rules: Rules, decided: int, asked: int
) -> None:
    trigger: Any = Counted(Every(1))
    week = 7 * 86_400
    tracemalloc.start()
    try:
        fires = plan(a_definition(at(1)), trigger, rules, at(week))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(fires), sum(fire.count for fire in fires)) == (decided, week)
    assert trigger.asked <= asked
    assert peak < 200_000


def test_a_resumed_definition_passes_over_what_came_due() -> None:
    definition = a_definition(at(10), paused=True)
    missed, following = pass_over(definition, Every(10), Rules(catchup="all"), at(45))
    assert missed is not None
    assert told([missed]) == [("missed", 10, 4)]
    assert (missed.expected, missed.following, following) == (at(10), at(50), at(50))
    assert pass_over(definition, Every(10), Rules(), at(9)) == (None, at(10))
    assert pass_over(a_definition(None), Every(10), Rules(), at(9)) == (None, None)


def test_the_first_time_keeps_to_start_and_end() -> None:
    assert first_time(Every(10), Rules(), at(10)) == at(20)
    assert first_time(Every(10), Rules(start=at(30)), at(10)) == at(30)
    assert first_time(Every(10), Rules(start=at(5)), at(10)) == at(20)
    assert first_time(Every(10), Rules(end=at(20)), at(10)) == at(20)
    assert first_time(Every(10), Rules(end=at(19)), at(10)) is None


def test_upcoming_times_end_with_the_recurrence() -> None:
    ten = Every(10)
    assert upcoming(a_definition(at(10)), ten, Rules(), at(15), 3) == [at(10), at(20), at(30)]
    assert upcoming(a_definition(at(10)), ten, Rules(end=at(20)), at(5), 9) == [at(10), at(20)]
    assert upcoming(a_definition(at(10), runs=2), ten, Rules(max_runs=3), at(5), 9) == [at(10)]
    assert upcoming(a_definition(None), ten, Rules(), at(5), 9) == []
    paused = a_definition(at(10), paused=True)
    assert upcoming(paused, ten, Rules(), at(35), 2) == [at(40), at(50)]


@given(
    st.text(min_size=1, max_size=20),
    st.integers(0, 10**6),
    st.floats(0.001, 10_000, allow_nan=False),
)
def test_jitter_is_the_same_everywhere_and_stays_within_its_bounds(
    name: str, second: int, jitter: float
) -> None:
    late = run_time(name, at(second), jitter)
    assert late == run_time(name, at(second), jitter)
    assert 0 <= (late - at(second)).total_seconds() <= jitter
    assert run_time(name, at(second), 0.0) == at(second)


def test_jitter_spreads_ids_and_times() -> None:
    offsets = [
        (run_time(f"r{n}", at(tick), 60) - at(tick)).total_seconds()
        for n in range(20)
        for tick in range(20)
    ]
    assert len(set(offsets)) == 400
    assert 25 < sum(offsets) / 400 < 35


RULES = st.builds(
    Rules,
    catchup=st.sampled_from(["latest", "all", "none"]),
    catchup_limit=st.integers(1, 12),
    misfire_grace=st.none() | st.floats(0, 300),
    overlap=st.sampled_from(["skip", "allow", "queue"]),
    max_instances=st.integers(1, 4),
    end=st.none() | st.integers(1, 2000).map(at),
)


@settings(deadline=None)
@given(
    interval=st.integers(1, 40),
    rules=RULES,
    pauses=st.lists(st.floats(0, 400), min_size=1, max_size=25),
)
def test_the_decisions_add_up_to_the_fire_times_whatever_the_node_slept_through(
    interval: int, rules: Rules, pauses: list[float]
) -> None:
    trigger = Every(interval, ZERO)
    definition = a_definition(first_time(trigger, rules, ZERO))
    now, decided, fired = ZERO, 0, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        while fires := plan(definition, trigger, rules, now):
            for fire in fires:
                assert fire.expected == definition.next_fire_at
                definition = definition._replace(next_fire_at=fire.following)
                decided += fire.count
                if fire.decision == "fired":
                    fired.append((fire.fire_at, now))
    end = now if rules.end is None else min(now, rules.end)
    times = [at(n) for n in range(interval, 10_000, interval) if at(n) <= end]
    assert decided == len(times)
    assert {tick for tick, _ in fired} <= set(times)
    assert len({tick for tick, _ in fired}) == len(fired)
    grace = rules.misfire_grace
    if grace is None and rules.catchup == "none":
        grace = GRACE_OF_NONE
    for tick, seen in fired:
        assert tick <= seen
        assert grace is None or seen - tick <= timedelta(seconds=grace)


@given(
    interval=st.integers(1, 30),
    late=st.integers(0, 600),
    catchup=st.sampled_from(["latest", "all", "none"]),
    limit=st.integers(1, 30),
    grace=st.none() | st.integers(0, 120),
)
def test_one_pass_decides_as_the_naive_list_does(
    interval: int, late: int, catchup: Any, limit: int, grace: int | None
) -> None:
    rules = Rules(catchup=catchup, catchup_limit=limit, misfire_grace=grace)
    now = at(interval + late)
    times = [at(n) for n in range(interval, interval + late + 1, interval)]
    bound = GRACE_OF_NONE if grace is None and catchup == "none" else grace
    wanted = times[-limit:] if catchup == "all" else times[-1:]
    wanted = [tick for tick in wanted if bound is None or now - tick <= timedelta(seconds=bound)]
    fires = plan(a_definition(times[0]), Every(interval, ZERO), rules, now)
    assert [fire.fire_at for fire in fires if fire.decision == "fired"] == wanted[:AT_ONCE]
    missed = [fire for fire in fires if fire.decision == "missed"]
    assert sum(fire.count for fire in missed) == len(times) - len(wanted)
    assert len(missed) <= 1
