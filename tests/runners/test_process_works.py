"""Works with ``runner="process"`` through a scheduler: slots, outcomes, and every kind of stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.errors import MiddlewareOrderError, TaskCancelled, TaskFailed
from rota.testing.clock import FakeClock
from tests.conftest import Database
from tests.runners import functions
from tests.runners.parts import PATIENCE, Gate, children

MakeDatabase = Callable[[str, Clock], Database]


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Database:
    return make_database(request.param, SystemClock())


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    before = children()
    yield
    assert children().keys() <= before.keys()


async def test_twenty_runs_in_two_slots_need_two_processes(place: Database) -> None:
    async with place.scheduler(functions.works, concurrency=2) as scheduler:
        handles = await scheduler.schedule_many([functions.who.bind()] * 20)
        pids = {await handle.result(timeout=PATIENCE) for handle in handles}
        assert 1 <= len(pids) <= 2
        assert os.getpid() not in pids
        assert scheduler._house.engine.dispatcher.running == 0


async def test_two_run_at_once_and_a_kill_hits_only_one(place: Database, tmp_path: Path) -> None:
    one, two = Gate(tmp_path, "one"), Gate(tmp_path, "two")
    async with place.scheduler(functions.works, concurrency=2) as scheduler:
        first = await scheduler.schedule("hold", one.params, max_attempts=2)
        second = await scheduler.schedule("hold", two.params)
        killed = await one.entered()
        await two.entered()
        os.kill(killed, signal.SIGKILL)
        assert await one.entered() != killed
        await one.open()
        await two.open()
        assert await first.result(timeout=PATIENCE) != killed
        assert await second.result(timeout=PATIENCE)
        history = await scheduler.history(first.id)
    assert "killed by SIGKILL" in (history[0].reason or "")


async def test_results_come_back_in_their_type_and_errors_with_their_traceback(
    place: Database,
) -> None:
    async with place.scheduler(functions.works) as scheduler:
        assert await (await scheduler.schedule(functions.add.bind(1))).result(PATIENCE) == 11
        failing = await scheduler.schedule(functions.boom.bind("out of reach"))
        with pytest.raises(TaskFailed, match="ValueError: out of reach"):
            await failing.result(PATIENCE)
        error = (await failing.info()).error
        assert error is not None
        assert error["type"] == "builtins.ValueError"
        assert "in boom" in error["traceback"]
        for name, params, reason in [
            ("leave", {"status": 3}, "SystemExit: 3"),
            ("quit", {"status": 3}, "exit status 3"),
            ("segfault", {}, "SIGSEGV"),
            ("answer", {"kind": "nan"}, "nan"),
            ("answer", {"kind": "lock"}, "lock"),
            ("answer", {"kind": "huge"}, "over the limit"),
            ("outcome", {"name": "fail"}, "for good"),
        ]:
            handle = await scheduler.schedule(name, params)
            with pytest.raises(TaskFailed, match=reason):
                await handle.result(PATIENCE)
        assert await (await scheduler.schedule(functions.add.bind(2))).result(PATIENCE) == 12


async def test_a_cancel_ends_the_process_and_is_recorded(place: Database, tmp_path: Path) -> None:
    gate = Gate(tmp_path, "run")
    async with place.scheduler(functions.works, concurrency=1) as scheduler:
        handle = await scheduler.schedule("hold", gate.params)
        pid = await gate.entered()
        assert await handle.cancel("not needed") == "requested"
        with pytest.raises(TaskCancelled, match="not needed"):
            await handle.result(PATIENCE)
        assert pid not in children()
        assert await (await scheduler.schedule(functions.add.bind(1))).result(PATIENCE) == 11


async def test_who_ends_in_time_after_a_cancel_is_done(place: Database, tmp_path: Path) -> None:
    gate = Gate(tmp_path, "run")
    async with place.scheduler(functions.works) as scheduler:
        handle = await scheduler.schedule("graceful", {"inside": str(gate.inside)})
        await gate.entered()
        await handle.cancel("not needed")
        assert await handle.result(PATIENCE) == "came to an end"


async def test_at_the_timeout_the_outcome_is_there_and_the_slot_when_the_process_is_gone(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    gate = Gate(tmp_path, "run")
    async with Scheduler(functions.works, concurrency=1, clock=clock) as scheduler:
        handle = await scheduler.schedule("stubborn", {"inside": str(gate.inside)}, timeout=4)
        pid = await gate.entered()
        clock.advance(4)
        with pytest.raises(TaskFailed, match="ran longer than its timeout of 4 s"):
            await handle.result()
        dispatcher = scheduler._house.engine.dispatcher
        assert (dispatcher.running, dispatcher.overdue) == (1, 1)
        assert pid in children()
        following = await scheduler.schedule(functions.who.bind())
        clock.advance(1)
        assert await following.result() != pid
        assert pid not in children()


async def test_at_shutdown_a_run_that_goes_on_is_ended_and_given_back(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    place = make_database("sqlite", SystemClock())
    gate = Gate(tmp_path, "run")
    async with place.scheduler(functions.works) as scheduler:
        handle = await scheduler.schedule("hold", gate.params)
        first = await gate.entered()
        await scheduler.shutdown(timeout=0)
        assert first not in children()
    async with place.scheduler(functions.works) as scheduler:
        second = await gate.entered()
        await gate.open()
        assert await scheduler.handle(handle.id).result(PATIENCE) == second
        assert (await scheduler.info(handle.id)).attempt == 1


async def test_a_shutdown_does_not_wait_for_who_ignores_it(tmp_path: Path) -> None:
    gate = Gate(tmp_path, "run")
    async with asyncio.timeout(PATIENCE):
        async with Scheduler(functions.works) as scheduler:
            await scheduler.schedule("stubborn", {"inside": str(gate.inside)})
            pid = await gate.entered()
            await scheduler.shutdown(timeout=0)
    assert pid not in children()


async def test_a_middleware_for_threads_is_refused_also_for_works_that_come_later() -> None:
    works = WorkRegistry()

    def around(run: object, call_next: Callable[[object], object]) -> object:
        return call_next(run)

    with pytest.raises(MiddlewareOrderError):
        async with Scheduler(functions.works, middleware=[around]):
            pass
    async with Scheduler(works, middleware=[around]) as scheduler:
        works.include("", functions.works)
        handle = await scheduler.schedule(functions.add.bind(1))
        with pytest.raises(TaskFailed, match="does not run in a thread"):
            await handle.result(PATIENCE)
