"""The fake clock: it moves when told, and wakes who waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from rota.errors import InvalidArgument
from rota.testing import FakeClock
from rota.testing import clock as clock_module


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()
    before = clock.now(), clock.monotonic(), clock.offset
    assert (clock.now(), clock.monotonic(), clock.offset) == before
    clock.advance(90)
    assert clock.now() - before[0] == timedelta(seconds=90)
    assert clock.monotonic() - before[1] == 90
    assert clock.offset == 90


def test_it_starts_at_the_real_time_or_where_it_is_told() -> None:
    early = datetime.now(UTC)
    assert early <= FakeClock().now() <= datetime.now(UTC)
    start = datetime(2026, 3, 29, 1, 59, tzinfo=UTC)
    clock = FakeClock(start)
    clock.advance(timedelta(minutes=2))
    assert clock.now() == start + timedelta(minutes=2)


def test_it_takes_no_naive_start_and_does_not_go_back() -> None:
    with pytest.raises(InvalidArgument):
        FakeClock(datetime(2026, 1, 1))
    with pytest.raises(InvalidArgument):
        FakeClock().advance(-1)


async def test_callbacks_come_in_order_of_their_time() -> None:
    clock, heard = FakeClock(), []
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    clock.call_at(loop, 30, finished.set)
    for when in (20, 10, 15):
        clock.call_at(loop, when, lambda when=when: heard.append(when))
    clock.advance(16)
    await asyncio.sleep(0)
    assert heard == [10, 15]
    clock.advance(100)
    await finished.wait()
    assert heard == [10, 15, 20]


async def test_what_is_due_already_is_called_at_once() -> None:
    clock = FakeClock()
    clock.advance(5)
    called = asyncio.Event()
    clock.call_at(asyncio.get_running_loop(), 5, called.set)
    await asyncio.wait_for(called.wait(), 20)


async def test_a_cancelled_callback_is_not_called_even_if_it_was_due() -> None:
    clock, heard = FakeClock(), []
    loop = asyncio.get_running_loop()
    early = clock.call_at(loop, 1, lambda: heard.append("early"))
    due = clock.call_at(loop, 2, lambda: heard.append("due"))
    early.cancel()
    clock.advance(3)
    due.cancel()
    await asyncio.sleep(0)
    assert heard == []


async def test_the_clock_may_be_moved_from_another_thread() -> None:
    clock = FakeClock()
    called = asyncio.Event()
    where = []
    clock.call_at(
        asyncio.get_running_loop(), 1, lambda: (where.append(threading.get_ident()), called.set())
    )
    threading.Thread(target=clock.advance, args=(2,)).start()
    await asyncio.wait_for(called.wait(), 20)
    assert where == [threading.get_ident()]


def test_a_callback_for_a_closed_loop_is_dropped() -> None:
    clock = FakeClock()
    loop = asyncio.new_event_loop()
    clock.call_at(loop, 1, lambda: None)
    loop.close()
    clock.advance(2)
    assert clock.monotonic() == 2


def test_a_wait_ends_false_when_the_clock_has_passed_it(pool: ThreadPoolExecutor) -> None:
    clock, event = FakeClock(), threading.Event()
    waiting = pool.submit(clock.wait, event, 10)
    clock.block_until(1)
    clock.advance(9)
    assert not waiting.done()
    clock.advance(1)
    assert waiting.result(20) is False
    assert not event.is_set()


def test_a_wait_ends_true_when_anyone_sets_the_event(pool: ThreadPoolExecutor) -> None:
    clock, event = FakeClock(), threading.Event()
    waiting = pool.submit(clock.wait, event, 10)
    clock.block_until(1)
    event.set()
    assert waiting.result(20) is True
    assert event.is_set()
    clock.block_until(0)


def test_an_event_set_beforehand_and_a_timeout_of_nothing_do_not_block() -> None:
    clock, event = FakeClock(), threading.Event()
    assert clock.wait(event, 0) is False
    assert clock.wait(event, -1) is False
    event.set()
    assert clock.wait(event, 10) is True
    assert clock.wait(event, 0) is True
    assert clock.wait(event, None) is True


def test_a_wait_without_timeout_ends_with_the_event(pool: ThreadPoolExecutor) -> None:
    clock, event = FakeClock(), threading.Event()
    waiting = pool.submit(clock.wait, event, None)
    clock.advance(10_000)
    event.set()
    assert waiting.result(20) is True


def test_each_of_many_waits_has_its_own_end(pool: ThreadPoolExecutor) -> None:
    clock, event = FakeClock(), threading.Event()
    waits: list[Future[bool]] = [pool.submit(clock.wait, event, 10 + n) for n in range(6)]
    clock.block_until(6)
    clock.advance(12)
    assert [wait.result(20) for wait in waits[:3]] == [False] * 3
    assert not any(wait.done() for wait in waits[3:])
    event.set()
    assert [wait.result(20) for wait in waits[3:]] == [True] * 3


def test_a_clock_nobody_moves_fails_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "PATIENCE", 0.01)
    with pytest.raises(RuntimeError, match="advance"):
        FakeClock(patience=0.01).wait(threading.Event(), 10)
    with pytest.raises(RuntimeError, match="not 1"):
        FakeClock().block_until(1)
