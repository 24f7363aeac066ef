"""Slots and the order of taking them."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from rota.scheduler.dispatcher import STARTS_PER_TURN
from tests.engine.parts import Floor, turns


async def test_no_more_run_than_there_are_slots() -> None:
    floor = Floor(concurrency=2)
    probes = [floor.add(str(n)) for n in range(5)]
    await turns()
    assert floor.names == ["0", "1"]
    assert (floor.dispatcher.running, floor.dispatcher.ripe, floor.dispatcher.held) == (2, 3, 3)
    probes[0].gate.set()
    await turns()
    assert floor.names == ["0", "1", "2"]
    for probe in probes:
        probe.gate.set()
    await floor.dispatcher.idle()
    await turns()
    assert floor.names == ["0", "1", "2", "3", "4"]
    assert (floor.dispatcher.running, floor.dispatcher.freed) == (0, 5)


async def test_slots_go_by_priority_then_due_then_arrival() -> None:
    floor = Floor(concurrency=1)
    blocker = floor.add("blocker")
    await turns()
    for name, wait, priority in (("c", 2, 0), ("d", 2, 0), ("b", 1, 0), ("a", 3, 1), ("e", 1, -1)):
        floor.add(name, wait=wait, priority=priority).gate.set()
    floor.clock.advance(5)
    await turns()
    blocker.gate.set()
    await turns()
    assert floor.names == ["blocker", "a", "b", "c", "d", "e"]


async def test_what_is_not_due_waits_for_its_time() -> None:
    floor = Floor()
    floor.add("later", wait=10)
    floor.clock.advance(9.9)
    await turns()
    assert floor.names == []
    assert (floor.dispatcher.held, floor.dispatcher.ripe) == (1, 0)
    floor.clock.advance(0.1)
    await turns()
    assert floor.names == ["later"]


@pytest.mark.parametrize(("every", "times"), [(1, 9), (4, 2)])
async def test_a_loop_with_no_end_of_work_gives_way_to_threads(every: int, times: int) -> None:
    given: list[int] = []
    floor = Floor(
        concurrency=1_000,
        give_way_every=every,
        give_way=lambda: given.append(len(floor.started)),
    )
    for _ in range(STARTS_PER_TURN * 10):
        floor.add().gate.set()
    await turns(50)
    assert len(floor.started) == STARTS_PER_TURN * 10
    # Before it starts on the next: what this turn began takes its first step a turn later.
    assert given == [STARTS_PER_TURN * (every * n - 1) for n in range(1, times + 1)]


async def test_a_turn_that_started_all_there_was_gives_nobody_way() -> None:
    given: list[None] = []
    floor = Floor(concurrency=1_000, give_way_every=1, give_way=lambda: given.append(None))
    for _ in range(10):
        for _ in range(STARTS_PER_TURN):
            floor.add().gate.set()
        await turns()
    assert (len(floor.started), given) == (STARTS_PER_TURN * 10, [])


async def test_a_burst_does_not_hold_up_the_loop() -> None:
    floor, between = Floor(concurrency=1000), 0
    for _ in range(1000):
        floor.add().gate.set()
    while len(floor.started) < 1000:
        between += 1
        await asyncio.sleep(0)
    assert between >= 10


async def test_a_limited_queue_lets_the_others_pass() -> None:
    floor = Floor(concurrency=3, limits={"narrow": 1})
    first = floor.add("n1", queue="narrow")
    floor.add("n2", queue="narrow")
    floor.add("w1", queue="wide")
    floor.add("w2", queue="wide")
    await turns()
    assert floor.names == ["n1", "w1", "w2"]
    assert floor.dispatcher.room("narrow") == -1
    first.gate.set()
    await turns()
    assert floor.names == ["n1", "w1", "w2", "n2"]
    assert floor.dispatcher.room("narrow") == 0


async def test_in_a_limited_queue_the_line_moves_on_past_who_left_it() -> None:
    floor = Floor(concurrency=5, limits={"narrow": 1})
    first = floor.add("first", queue="narrow")
    left = [floor.add(f"left{n}", queue="narrow") for n in range(3)]
    floor.add("last", queue="narrow")
    await turns()
    assert all(floor.dispatcher.withdraw(probe) for probe in left)
    assert floor.dispatcher.ripe == 1
    first.gate.set()
    await turns()
    assert floor.names == ["first", "last"]


async def test_one_let_forward_and_then_withdrawn_hands_its_turn_on() -> None:
    floor = Floor(concurrency=3, limits={"narrow": 1})
    first = floor.add("first", queue="narrow")
    other = floor.add("other", queue="wide")
    second = floor.add("second", queue="narrow")
    floor.add("third", queue="narrow")
    await turns()
    floor.dispatcher.concurrency = 1
    first.gate.set()
    await turns()  # the second is let forward, but there is no slot
    floor.dispatcher.withdraw(second)
    other.gate.set()
    await turns()
    assert floor.names == ["first", "other", "third"]


async def test_a_limited_queue_has_all_its_room_again_after_giving_back() -> None:
    floor = Floor(concurrency=5, limits={"narrow": 1})
    first = floor.add("first", queue="narrow")
    floor.add("late", queue="narrow")
    await turns()
    floor.clock.advance(2)
    assert [probe.name for probe in floor.dispatcher.overripe(1.0)] == ["late"]  # type: ignore[attr-defined]
    first.gate.set()
    await turns()
    assert floor.dispatcher.room("narrow") == 1
    assert floor.dispatcher.ripe == 0


async def test_a_limit_that_grows_is_used_when_woken() -> None:
    floor = Floor(concurrency=5, limits={"narrow": 1})
    for n in range(3):
        floor.add(str(n), queue="narrow")
    await turns()
    assert floor.names == ["0"]
    floor.dispatcher.limits["narrow"] = 2
    floor.dispatcher.wake()
    await turns()
    assert floor.names == ["0", "1"]


async def test_withdrawing_works_until_it_starts() -> None:
    floor = Floor(concurrency=1)
    running, ready = floor.add("running"), floor.add("ready")
    timed = floor.add("timed", wait=10)
    await turns()
    assert [floor.dispatcher.withdraw(item) for item in (running, ready, timed)] == [
        False,
        True,
        True,
    ]
    assert floor.dispatcher.withdraw(ready) is False
    assert (floor.dispatcher.held, floor.dispatcher.ripe, len(floor.timer)) == (0, 0, 0)
    running.gate.set()
    floor.clock.advance(20)
    await turns()
    assert floor.names == ["running"]


async def test_a_hundred_thousand_withdrawn_leave_nothing() -> None:
    floor = Floor(concurrency=1)
    floor.add("blocker")
    await turns()
    for wait in (0, 10):
        for _ in range(50_000):
            floor.dispatcher.withdraw(floor.add(wait=wait))
    assert len(floor.dispatcher._ready._heap) < 200
    assert len(floor.timer._heap) < 200
    assert floor.dispatcher.held == 0


async def test_what_waits_too_long_for_a_slot_is_taken_back() -> None:
    floor = Floor(concurrency=1)
    floor.add("running")
    floor.add("old")
    await turns()
    floor.clock.advance(0.6)
    floor.add("young")
    floor.add("not due", wait=10)
    floor.clock.advance(0.6)
    late = floor.dispatcher.overripe(1.0)
    assert [probe.name for probe in late] == ["old"]  # type: ignore[attr-defined]
    assert floor.dispatcher.overripe(1.0) == []
    assert (floor.dispatcher.held, floor.dispatcher.ripe) == (2, 1)


async def test_the_number_of_slots_may_change_at_any_time() -> None:
    floor = Floor(concurrency=1)
    probes = [floor.add(str(n)) for n in range(5)]
    await turns()
    floor.dispatcher.concurrency = 3
    floor.dispatcher.wake()
    await turns()
    assert floor.names == ["0", "1", "2"]
    floor.dispatcher.concurrency = 1
    probes[0].gate.set()
    probes[1].gate.set()
    await turns()
    assert floor.names == ["0", "1", "2"]
    probes[2].gate.set()
    await turns()
    assert floor.names == ["0", "1", "2", "3"]


async def test_without_permission_nothing_starts() -> None:
    floor = Floor()
    floor.allowed = False
    floor.add("a")
    floor.add("b", wait=1)
    floor.clock.advance(2)
    await turns()
    assert (floor.names, floor.dispatcher.ripe) == ([], 2)
    floor.allowed = True
    floor.dispatcher.wake()
    await turns()
    assert floor.names == ["a", "b"]


async def test_what_lingers_keeps_its_slot_until_it_is_done() -> None:
    floor = Floor(concurrency=1)
    first = floor.add("first")
    first.leaves = asyncio.get_running_loop().create_future()
    floor.add("second")
    await turns()
    first.gate.set()
    await turns()
    assert (floor.names, floor.dispatcher.running, floor.dispatcher.overdue) == (["first"], 1, 1)
    assert floor.dispatcher.freed == 0
    first.leaves.set_result(None)
    await turns()
    assert (floor.names, floor.dispatcher.overdue) == (["first", "second"], 0)
    assert floor.dispatcher.freed == 1


async def test_what_lingers_and_is_done_already_keeps_nothing() -> None:
    floor = Floor(concurrency=1)
    first = floor.add("first")
    first.leaves = asyncio.get_running_loop().create_future()
    first.leaves.set_result(None)
    first.gate.set()
    floor.add("second")
    await turns()
    assert floor.names == ["first", "second"]
    assert floor.dispatcher.overdue == 0


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        BaseException("b"),
    ],
)
async def test_however_a_run_ends_its_slot_comes_back(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    freed: list[int] = []
    floor = Floor(concurrency=1, on_free=lambda: freed.append(1))
    bad = floor.add("bad")
    bad.ending = error
    bad.gate.set()
    floor.add("next")
    with caplog.at_level(logging.ERROR):
        await turns()
    assert floor.names == ["bad", "next"]
    assert (floor.dispatcher.running, floor.dispatcher.freed, freed) == (1, 1, [1])
    told = [record for record in caplog.records if "outside its chain" in record.message]
    assert len(told) == (0 if isinstance(error, asyncio.CancelledError) else 1)


async def test_a_run_cancelled_before_its_first_step_gives_its_slot_back() -> None:
    floor = Floor(concurrency=1)
    early = floor.add("early")
    while not early.started:
        await asyncio.sleep(0)
    assert floor.names == []  # its task exists, and has not begun
    floor.dispatcher.cancel(early)
    floor.add("next")
    await turns()
    assert floor.dispatcher.freed == 1
    assert floor.names[-1] == "next"


def test_a_run_thrown_away_with_its_loop_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> Floor:
        floor = Floor()
        floor.add("left behind")
        floor.add("ready")
        floor.add("ready too")
        await turns()
        return floor

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    floor = loop.run_until_complete(leave())
    loop.close()
    assert floor.names == ["left behind", "ready"]
    gc.collect()  # what other tests have left behind may say something
    caplog.clear()
    del floor
    gc.collect()
    assert caplog.text == ""


async def test_what_runs_and_what_waits_can_be_asked_for() -> None:
    floor = Floor(concurrency=1)
    running, waiting = floor.add("running"), floor.add("waiting", wait=5)
    await turns()
    assert floor.dispatcher.live() == [running]
    assert floor.dispatcher.holding() == [waiting]
    idle = asyncio.ensure_future(floor.dispatcher.idle())
    await turns()
    assert not idle.done()
    running.gate.set()
    await idle
    assert floor.dispatcher.live() == []
    assert floor.dispatcher.received == 2
