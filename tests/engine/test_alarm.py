"""The alarm a timer sets: by the kernel's timer where there is one, else by the loop's."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.errors import StorageUnavailable
from rota.scheduler import Engine
from rota.scheduler import alarm as module
from rota.scheduler.alarm import Alarm, KernelAlarm, LoopAlarm, alarm
from rota.testing.clock import FakeClock

PATIENCE = 20
HOUR = 3600.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's timers are Linux's")

Make = Callable[[Callable[[], object]], Alarm]


@pytest.fixture(params=["loop", pytest.param("kernel", marks=linux)])
def make(request: pytest.FixtureRequest) -> Make:
    def of_the_loop(ring: Callable[[], object]) -> Alarm:
        return LoopAlarm(asyncio.get_running_loop(), SystemClock(), ring)

    def of_the_kernel(ring: Callable[[], object]) -> Alarm:
        return KernelAlarm(asyncio.get_running_loop(), ring)

    return of_the_loop if request.param == "loop" else of_the_kernel


async def rung(make: Make, when: float) -> float:
    """When an alarm that was set for then has rung."""
    told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    one = make(lambda: told.set_result(time.monotonic()))
    one.set(when)
    try:
        async with asyncio.timeout(PATIENCE):
            return await told
    finally:
        one.close()


@pytest.mark.parametrize("ahead", [0.0, 0.0004, 0.0123, 0.05])
async def test_it_rings_and_never_before_its_moment(make: Make, ahead: float) -> None:
    when = time.monotonic() + ahead
    assert await rung(make, when) >= when


@pytest.mark.parametrize("when", [0.0, -5.0, 1.0])
async def test_what_is_past_rings_at_once(make: Make, when: float) -> None:
    await rung(make, when)


async def test_what_is_set_last_counts_and_rings_once(make: Make) -> None:
    rings: list[str] = []
    brought_on, put_off = make(lambda: rings.append("on")), make(lambda: rings.append("off"))
    now = time.monotonic()
    brought_on.set(now + HOUR)
    brought_on.set(now + 0.01)
    put_off.set(now + 0.01)
    put_off.set(now + 1e12)
    await rung(make, now + 0.03)
    await rung(make, now + 0.04)
    assert rings == ["on"]
    brought_on.set(time.monotonic())
    await rung(make, time.monotonic() + 0.01)
    assert rings == ["on", "on"]
    for one in (brought_on, put_off):
        one.close()


async def test_once_closed_it_rings_no_more(make: Make) -> None:
    rings: list[str] = []
    before, after = make(lambda: rings.append("before")), make(lambda: rings.append("after"))
    now = time.monotonic()
    before.set(now + 0.01)
    before.close()
    before.close()
    after.close()
    await rung(make, now + 0.03)
    assert rings == []


@linux
async def test_the_kernels_is_taken_on_the_machines_clock_only() -> None:
    loop = asyncio.get_running_loop()
    precise = alarm(loop, SystemClock(), lambda: None)
    assert isinstance(precise, KernelAlarm)
    precise.close()
    assert isinstance(alarm(loop, FakeClock(), lambda: None), LoopAlarm)


@linux
async def test_a_loop_that_watches_no_files_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_readers(*_: Any) -> None:
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_reader", no_readers)
    before = descriptors()
    assert isinstance(alarm(loop, SystemClock(), lambda: None), LoopAlarm)
    assert descriptors() == before


@linux
async def test_a_c_library_without_timers_or_a_machine_without_descriptors_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: object())
    assert isinstance(alarm(loop, SystemClock(), lambda: None), LoopAlarm)
    monkeypatch.undo()
    monkeypatch.setattr(os, "O_CLOEXEC", -1)  # the kernel refuses flags it does not know
    assert isinstance(alarm(loop, SystemClock(), lambda: None), LoopAlarm)


@linux
async def test_an_engine_gives_its_descriptor_back() -> None:
    async with Engine():
        began = descriptors()
    before = descriptors()
    assert before == began - 1
    for _ in range(10):
        async with Engine() as engine:
            await engine.call_later(0.001, max, 1, 2).wait()
    assert descriptors() == before


@linux
async def test_a_start_that_failed_leaves_none_open() -> None:
    nowhere = "postgresql://127.0.0.1:1/nowhere"
    before = descriptors()
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await Scheduler(WorkRegistry(), nowhere, start_timeout=0).start()
        assert descriptors() == before


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
