"""Duties survive, say so once and back off; odd jobs have a few threads of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from rota.core.clock import SystemClock
from rota.core.duty import FIRST_PAUSE, LONGEST_PAUSE, Duty, Offload
from rota.errors import StorageUnavailable
from rota.testing.clock import FakeClock

PATIENCE = 20.0


class Steps:
    """A duty's step: does what it is told, and lets a test wait for its calls."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self.error: BaseException | None = None
        self.wait = 3600.0
        self._changed = threading.Condition()

    def __call__(self) -> float:
        with self._changed:
            self.count += 1
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()
        if self.error is not None:
            raise self.error
        return self.wait

    def until(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def duty(steps: Steps, fake_clock: FakeClock) -> Iterator[Duty]:
    made = Duty(name="rota-test", step=steps, clock=fake_clock)
    made.start()
    yield made
    made.stop()
    assert made.join(PATIENCE)


def test_it_steps_waits_and_steps_again(steps: Steps, duty: Duty, fake_clock: FakeClock) -> None:
    fake_clock.block_until(1)
    assert steps.count == 1
    fake_clock.advance(3599)
    fake_clock.block_until(1)
    assert steps.count == 1
    fake_clock.advance(1)
    steps.until(2)
    fake_clock.block_until(1)
    duty.wake()
    steps.until(3)
    assert steps.threads == {"rota-test"}


def test_a_wake_during_the_step_is_not_lost(fake_clock: FakeClock) -> None:
    inside, go, second = threading.Event(), threading.Event(), threading.Event()

    def step() -> float:
        if inside.is_set():
            second.set()
        inside.set()
        assert go.wait(PATIENCE)
        return 3600.0

    duty = Duty(name="rota-test", step=step, clock=fake_clock)
    duty.start()
    assert inside.wait(PATIENCE)
    duty.wake()
    go.set()
    assert second.wait(PATIENCE)
    duty.stop()
    assert duty.join(PATIENCE)


def test_it_survives_its_errors_and_says_so_once(
    steps: Steps, duty: Duty, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake_clock.block_until(1)
    caplog.set_level(logging.INFO, "rota.duty")
    steps.error = StorageUnavailable("the database is away")
    before = duty.last_pass
    fake_clock.advance(3600)
    for count in range(2, 8):
        steps.until(count)
        fake_clock.block_until(1)
        assert duty.error is steps.error
        fake_clock.advance(LONGEST_PAUSE)
    steps.until(8)
    assert duty.last_pass == before
    fake_clock.block_until(1)
    steps.error = None
    fake_clock.advance(LONGEST_PAUSE)
    steps.until(9)
    fake_clock.block_until(1)
    assert duty.error is None
    assert duty.last_pass > before
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "the database is away" in told[0]
    assert "goes on after 7 failures" in told[1]


class WatchedClock(FakeClock):
    """Remembers what was waited for, and how long at most."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[threading.Event, float | None]] = []

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        self.waits.append((event, timeout))
        return super().wait(event, timeout)


def test_the_pause_after_an_error_grows_has_jitter_and_an_end() -> None:
    steps, clock = Steps(), WatchedClock()
    steps.error = ValueError("a")
    duty = Duty(name="rota-test", step=steps, clock=clock)
    duty.start()
    parts = []
    for failures in range(1, 12):
        steps.until(failures)
        clock.block_until(1)
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
        pause = clock.waits[-1][1] or 0.0
        assert 0.5 * longest <= pause <= longest
        parts.append(pause / longest)
        clock.advance(longest)
    steps.until(12)
    assert len({round(part, 6) for part in parts}) > 1
    duty.stop()
    assert duty.join(PATIENCE)


def test_a_wake_does_not_shorten_the_pause_after_an_error() -> None:
    steps, clock = Steps(), WatchedClock()
    duty = Duty(name="rota-test", step=steps, clock=clock)
    steps.error = ValueError("a")
    duty.start()
    clock.block_until(1)
    duty.wake()
    (during_pause, _) = clock.waits[-1]
    assert not during_pause.is_set()
    steps.error = None
    clock.advance(LONGEST_PAUSE)
    steps.until(2)
    duty.stop()
    assert during_pause.is_set()
    assert duty.join(PATIENCE)


@pytest.mark.parametrize("error", [None, ValueError("a")])
def test_stopping_ends_every_wait_and_closes_in_its_own_thread(
    fake_clock: FakeClock, error: Exception | None
) -> None:
    steps, closed = Steps(), []
    steps.error = error
    duty = Duty(
        name="rota-test",
        step=steps,
        clock=fake_clock,
        close=lambda: closed.append(threading.current_thread().name),
    )
    assert duty.join(0)  # not started: nothing to wait for
    duty.start()
    fake_clock.block_until(1)
    assert (closed, duty.stopping) == ([], False)
    duty.stop()
    assert duty.join(PATIENCE)
    assert (closed, duty.stopping, steps.count) == (["rota-test"], True, 1)


def test_a_close_that_fails_ends_the_thread_all_the_same() -> None:
    def close() -> None:
        raise ValueError("a")

    steps = Steps()
    duty = Duty(name="rota-test", step=steps, clock=SystemClock(), close=close)
    duty.start()
    steps.until(1)
    duty.stop()
    assert duty.join(PATIENCE)


class Rooms:
    """Calls that say when they are inside, and wait there."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, n: int) -> int:
        self.names.append(threading.current_thread().name)
        self.entered.release()
        assert self.go.wait(PATIENCE)
        return n


async def test_odd_jobs_have_at_most_so_many_named_threads() -> None:
    rooms, closed = Rooms(), []
    offload = Offload(
        name="rota-odd", size=2, close=lambda: closed.append(threading.current_thread().name)
    )
    jobs = [asyncio.ensure_future(offload.run(rooms, n)) for n in range(6)]
    for _ in range(2):
        assert await asyncio.to_thread(rooms.entered.acquire, timeout=PATIENCE)
    assert sorted(rooms.names) == ["rota-odd-1", "rota-odd-2"]
    rooms.go.set()
    assert await asyncio.gather(*jobs) == list(range(6))
    assert set(rooms.names) == {"rota-odd-1", "rota-odd-2"}
    await asyncio.to_thread(offload.close)
    assert sorted(closed) == ["rota-odd-1", "rota-odd-2"]


async def test_one_thread_is_enough_for_one_call_after_another() -> None:
    offload = Offload(name="rota-odd", size=4)
    names = [(await offload.run(threading.current_thread)).name for _ in range(3)]
    assert names[0] == "rota-odd-1"
    await asyncio.to_thread(offload.close)


@pytest.mark.parametrize("error", [ValueError("a"), SystemExit(2), StorageUnavailable("b")])
async def test_an_error_is_carried_to_who_waits_and_the_thread_goes_on(
    error: BaseException,
) -> None:
    def boom(*, kind: str) -> None:
        assert kind == "keyword"
        raise error

    offload = Offload(name="rota-odd", size=1)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(type(error)) as caught:
            await offload.run(boom, kind="keyword")
        assert caught.value is error
        assert await offload.run(max, 1, 2) == 2
    await asyncio.to_thread(offload.close)


async def test_a_cancelled_waiter_leaves_the_call_to_its_end() -> None:
    rooms, offload = Rooms(), Offload(name="rota-odd", size=1)
    job = asyncio.ensure_future(offload.run(rooms, 1))
    assert await asyncio.to_thread(rooms.entered.acquire, timeout=PATIENCE)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    after = asyncio.ensure_future(offload.run(max, 1, 2))
    rooms.go.set()
    assert await after == 2
    await asyncio.to_thread(offload.close)


async def test_closing_finishes_what_was_given_and_refuses_what_comes_after() -> None:
    rooms, offload = Rooms(), Offload(name="rota-odd", size=1)
    jobs = [asyncio.ensure_future(offload.run(rooms, n)) for n in range(3)]
    assert await asyncio.to_thread(rooms.entered.acquire, timeout=PATIENCE)
    closing = asyncio.ensure_future(asyncio.to_thread(offload.close))
    rooms.go.set()
    assert await asyncio.gather(*jobs) == [0, 1, 2]
    await closing
    with pytest.raises(RuntimeError, match="was shut down"):
        await offload.run(max, 1, 2)


def test_an_answer_for_a_loop_that_is_gone_harms_nobody() -> None:
    rooms, offload = Rooms(), Offload(name="rota-odd", size=1)

    async def leave() -> None:
        job = asyncio.ensure_future(offload.run(rooms, 1))
        assert await asyncio.to_thread(rooms.entered.acquire, timeout=PATIENCE)
        job.cancel()

    asyncio.run(leave())
    rooms.go.set()
    offload.close()
    assert asyncio.run(_fresh()) == 2


async def _fresh() -> int:
    offload = Offload(name="rota-fresh", size=1)
    try:
        return await offload.run(max, 1, 2)
    finally:
        await asyncio.to_thread(offload.close)
