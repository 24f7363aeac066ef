"""The timer: in order, never early, one slice at a time, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.scheduler import timer as timer_module
from rota.scheduler.timer import Timed, Timer
from rota.testing.clock import FakeClock
from tests.engine.parts import turns


def a_timer(clock: FakeClock) -> Timer:
    return Timer(loop=asyncio.get_running_loop(), clock=clock)


async def test_it_fires_by_time_then_priority_then_arrival(fake_clock: FakeClock) -> None:
    timer, fired = a_timer(fake_clock), list[str]()
    for name, when, priority in (
        ("late", 3, 9),
        ("low", 2, -1),
        ("first", 2, 5),
        ("second", 2, 5),
        ("early", 1, -9),
    ):
        timer.at(when, lambda name=name: fired.append(name), priority=priority)
    fake_clock.advance(10)
    await turns()
    assert fired == ["early", "first", "second", "low", "late"]
    assert len(timer) == 0


async def test_each_fires_at_its_own_moment(fake_clock: FakeClock) -> None:
    timer, fired = a_timer(fake_clock), list[int]()
    for when in (30, 10, 20):
        timer.at(when, lambda when=when: fired.append(when))
    seen = []
    for _ in range(3):
        fake_clock.advance(10)
        await turns()
        seen.append(list(fired))
    assert seen == [[10], [10, 20], [10, 20, 30]]


async def test_what_is_cancelled_does_not_fire_and_too_late_is_harmless(
    fake_clock: FakeClock,
) -> None:
    timer, fired = a_timer(fake_clock), list[str]()
    before = timer.at(1, lambda: fired.append("cancelled"))
    after = timer.at(1, lambda: fired.append("fired"))
    before.cancel()
    before.cancel()
    assert len(timer) == 1
    fake_clock.advance(1)
    await turns()
    after.cancel()
    assert fired == ["fired"]
    assert before.withdrawn
    assert after.withdrawn
    assert len(timer) == 0


async def test_a_hundred_thousand_cancelled_leave_nothing(fake_clock: FakeClock) -> None:
    timer, largest = a_timer(fake_clock), 0
    kept = timer.at(1, lambda: None)
    for n in range(100_000):
        timer.at(3600 + n, print).cancel()
        largest = max(largest, len(timer._heap))
    assert largest < 200
    many = [timer.at(3600 + n, print) for n in range(100_000)]
    for timed in many:
        timed.cancel()
    assert len(timer) == 1
    assert len(timer._heap) < 200
    assert not kept.withdrawn


async def test_a_cancelled_callback_is_let_go_at_once(fake_clock: FakeClock) -> None:
    class Heavy:
        def __call__(self) -> None: ...

    heavy = Heavy()
    ghost = weakref.ref(heavy)
    timed = a_timer(fake_clock).at(3600, heavy)
    timed.cancel()
    del heavy
    gc.collect()
    assert ghost() is None


@pytest.mark.parametrize("error", [ValueError("a"), asyncio.CancelledError()])
async def test_a_callback_that_raises_stops_no_other(
    fake_clock: FakeClock, error: BaseException
) -> None:
    def boom() -> None:
        raise error

    timer, fired = a_timer(fake_clock), list[str]()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    timer.at(1, boom)
    timer.at(1, lambda: fired.append("same time"))
    timer.at(2, lambda: fired.append("later"))
    fake_clock.advance(1)
    await turns()
    fake_clock.advance(1)
    await turns()
    assert fired == ["same time", "later"]
    assert [context["exception"] for context in told] == [error]


async def test_what_is_put_in_while_firing_has_its_turn(fake_clock: FakeClock) -> None:
    timer, fired = a_timer(fake_clock), list[str]()

    def chain() -> None:
        fired.append("first")
        timer.at(1, lambda: fired.append("at once"))
        timer.at(5, lambda: fired.append("later"))

    timer.at(1, chain)
    fake_clock.advance(1)
    await turns()
    assert fired == ["first", "at once"]
    fake_clock.advance(4)
    await turns()
    assert fired == ["first", "at once", "later"]


@pytest.mark.parametrize("live", [True, False])
async def test_a_burst_of_fifty_thousand_lets_others_have_their_turn(
    fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """Each look at the (made up) clock takes a millisecond, so a slice is a few looks long."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(
        timer_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 1000)
    )
    monkeypatch.setattr(timer_module, "_COMPACT_FROM", 10**9)
    timer, fired, between = a_timer(fake_clock), 0, 0
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def count() -> None:
        nonlocal fired
        fired += 1

    def other() -> None:
        nonlocal between
        between += 1
        if not ended.is_set():
            loop.call_soon(other)

    for _ in range(50_000):
        timed = timer.at(1, count)
        if not live:
            timed.cancel()
    timer.at(2, ended.set)
    other()
    fake_clock.advance(2)
    await ended.wait()
    assert fired == (50_000 if live else 0)
    assert between > 50_000 / (32 * 6)


class EarlyClock(FakeClock):
    """Calls back up to half a second too early, as a loop's own clock may in small."""

    def call_at(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]
    ) -> Any:
        return super().call_at(loop, when - 0.5, callback)


async def test_it_is_never_early_even_if_its_alarm_is() -> None:
    clock = EarlyClock()
    timer, fired = a_timer(clock), list[float]()
    timer.at(10, lambda: fired.append(clock.monotonic()))
    for step in (9.0, 0.6, 0.3):
        clock.advance(step)
        await turns()
        assert fired == []
    clock.advance(0.2)
    await turns()
    assert fired == [pytest.approx(10.1)]


async def test_once_closed_nothing_fires_and_nothing_gathers(fake_clock: FakeClock) -> None:
    timer, fired = a_timer(fake_clock), list[str]()
    timed = timer.at(1, lambda: fired.append("before"))
    timer.close()
    timed.cancel()
    timer.at(1, lambda: fired.append("after"))
    fake_clock.advance(5)
    await turns()
    assert fired == []
    assert len(timer) == 0


AT = st.tuples(st.just("at"), st.integers(0, 8), st.integers(-2, 2))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 40), st.just(0))
ADVANCE = st.tuples(st.just("advance"), st.integers(0, 3), st.just(0))


@settings(max_examples=60, deadline=None)
@given(st.lists(AT | CANCEL | ADVANCE, max_size=40))
def test_it_agrees_with_a_sorted_list(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_compare(steps))


async def _compare(steps: list[tuple[str, int, int]]) -> None:
    clock = FakeClock()
    timer = a_timer(clock)
    armed: list[Timed] = []
    model: list[tuple[float, int, int]] = []
    fired: list[int] = []
    expected: list[int] = []
    for verb, number, priority in steps:
        if verb == "at":
            arrival, when = len(armed), clock.monotonic() + number
            armed.append(timer.at(when, lambda n=arrival: fired.append(n), priority=priority))
            model.append((when, -priority, arrival))
        elif verb == "cancel" and number < len(armed):
            armed[number].cancel()
            model = [item for item in model if item[2] != number]
        elif verb == "advance":
            clock.advance(number)
            await turns(4)
            due = sorted(item for item in model if item[0] <= clock.monotonic())
            expected += [arrival for _, _, arrival in due]
            model = [item for item in model if item not in due]
            assert fired == expected
        assert len(timer) == len(model)
