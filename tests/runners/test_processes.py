"""The process runner by itself: answers, deaths, stops, and what is left afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rota.core.clock import SystemClock
from rota.core.failure import RaisedElsewhere
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Release, Retry
from rota.errors import ProcessDied, SchedulerNotRunning
from rota.scheduler.processes import IDLE, ProcessRunner
from rota.testing.clock import FakeClock
from tests.runners.parts import PATIENCE, Gate, children, end_of, files

FUNCTIONS = "tests.runners.functions:"


@pytest.fixture
async def runner() -> AsyncIterator[ProcessRunner]:
    before = children()
    made = ProcessRunner(loop=asyncio.get_running_loop(), clock=SystemClock())
    yield made
    await made.close()
    assert children().keys() <= before.keys()


async def call(runner: ProcessRunner, name: str, /, **params: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await runner.run(FUNCTIONS + name, params)


async def test_params_become_arguments_and_results_their_json_form(runner: ProcessRunner) -> None:
    assert await call(runner, "add", a=1) == Done(11)
    assert await call(runner, "later", at="2026-03-01T12:00:00Z", by=60) == Done(
        "2026-03-01T12:01:00+00:00"
    )
    assert await call(runner, "undecorated", at="2026-03-01T12:00:00+02:00") == Done(
        "2026-03-01T12:00:00+00:00"
    )
    assert await call(runner, "answer", kind="large") == Done("é" * 100_000)


async def test_one_process_is_used_again_and_again(runner: ProcessRunner) -> None:
    pids = {(await call(runner, "who")).result for _ in range(10)}
    assert pids == set(runner.pids)
    assert len(pids) == 1
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retry", Retry(after=90, reason="busy")),
        ("fail", Fail("for good")),
        ("cancel", Cancel("not wanted")),
        ("again", Again(after=5, params={"name": "again"})),
        ("release", Release(after=7)),
        ("ignore", Ignore()),
    ],
)
async def test_outcomes_come_back_raised_or_returned(
    runner: ProcessRunner, name: str, expected: Any
) -> None:
    outcome = await call(runner, "outcome", name=name)
    assert type(outcome) is type(expected)
    assert vars(outcome) == vars(expected)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("answer", {"kind": "nan"}, "nan"),
        ("answer", {"kind": "lock"}, "lock"),
        ("answer", {"kind": "huge"}, "over the limit"),
        ("answer", {"kind": "nul"}, "NUL"),
        ("outcome", {"name": "crooked"}, "after is -1"),
        ("outcome", {"name": "unstorable"}, "params cannot be written"),
        ("add", {"b": 1}, "params do not fit .*add.* needs a"),
        ("add", {"a": "one"}, "params do not fit"),
    ],
)
async def test_what_has_no_json_form_fails_and_the_process_stays(
    runner: ProcessRunner, name: str, params: dict[str, Any], message: str
) -> None:
    before = (await call(runner, "who")).result
    outcome = await call(runner, name, **params)
    assert isinstance(outcome, Fail)
    assert re.search(message, outcome.reason)
    assert (await call(runner, "who")).result == before


async def test_an_exception_comes_back_with_the_traceback_from_there(
    runner: ProcessRunner,
) -> None:
    with pytest.raises(RaisedElsewhere, match="ValueError: out of reach") as caught:
        await call(runner, "boom", text="out of reach")
    assert caught.value.stored["type"] == "builtins.ValueError"
    assert "in boom" in caught.value.stored["traceback"]

    with pytest.raises(RaisedElsewhere, match="SystemExit: 3"):
        await call(runner, "leave", status=3)
    with pytest.raises(RaisedElsewhere, match="nobody"):
        await call(runner, "nobody")
    with pytest.raises(RaisedElsewhere, match="ModuleNotFoundError"):
        await runner.run("tests.runners.nowhere:add", {})
    assert len(runner.pids) == 1


@pytest.mark.parametrize(
    ("name", "params", "status", "words"),
    [
        ("quit_at_once", {"status": 3}, 3, "exit status 3"),
        ("quit_at_once", {"status": 0}, 0, "exit status 0"),
        ("kill_self", {"number": signal.SIGKILL}, -9, "killed by SIGKILL"),
        ("kill_self", {"number": signal.SIGTERM}, -15, "killed by SIGTERM"),
        ("segfault", {}, -11, "killed by SIGSEGV"),
    ],
)
async def test_a_death_says_how_and_the_next_run_gets_a_new_process(
    runner: ProcessRunner, name: str, params: dict[str, Any], status: int, words: str
) -> None:
    first = (await call(runner, "who")).result
    with pytest.raises(ProcessDied, match=words) as caught:
        await call(runner, name, **params)
    assert caught.value.status == status
    second = (await call(runner, "who")).result
    assert second != first
    assert runner.pids == [second]


async def test_a_process_that_closed_its_end_is_ended(runner: ProcessRunner) -> None:
    with pytest.raises(ProcessDied):
        await call(runner, "hang_up")
    assert await call(runner, "add", a=1) == Done(11)


async def test_a_killed_process_does_not_disturb_its_neighbour(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    one, two = Gate(tmp_path, "one"), Gate(tmp_path, "two")
    first = asyncio.create_task(call(runner, "hold", **one.params))
    second = asyncio.create_task(call(runner, "hold", **two.params))
    os.kill(await one.entered(), signal.SIGKILL)
    with pytest.raises(ProcessDied, match="SIGKILL"):
        await first
    pid = await two.entered()
    await two.open()
    assert await second == Done(pid)


async def test_a_process_that_dies_while_idle_costs_no_run(runner: ProcessRunner) -> None:
    first = (await call(runner, "who")).result
    os.kill(first, signal.SIGKILL)
    while first in runner.pids:
        await asyncio.to_thread(end_of, first)
    assert (await call(runner, "who")).result != first


async def test_cancelling_ends_the_process_before_it_answers(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, "run")
    running = asyncio.create_task(call(runner, "hold", **gate.params))
    pid = await gate.entered()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert pid not in children()
    assert runner.pids == []


async def test_who_ignores_the_request_is_killed_after_the_grace(tmp_path: Path) -> None:
    clock = FakeClock()
    runner = ProcessRunner(loop=asyncio.get_running_loop(), clock=clock)
    gate = Gate(tmp_path, "run")
    running = asyncio.create_task(call(runner, "stubborn", inside=str(gate.inside)))
    pid = await gate.entered()
    running.cancel()
    running.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert children()[pid] != "Z"
    assert not running.done()
    clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert pid not in children()
    await runner.close()


async def test_who_comes_to_an_end_within_the_grace_is_heard(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, "run")
    running = asyncio.create_task(call(runner, "graceful", inside=str(gate.inside)))
    pid = await gate.entered()
    running.cancel()
    assert await running == Done("came to an end")
    assert pid not in children()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6, 8])
async def test_a_cancel_while_the_process_starts_leaves_nothing(
    runner: ProcessRunner, turns: int
) -> None:
    running = asyncio.create_task(call(runner, "who"))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert runner.pids == []
    assert await call(runner, "add", a=1) == Done(11)


async def test_an_idle_process_ends_after_its_time() -> None:
    clock = FakeClock()
    runner = ProcessRunner(loop=asyncio.get_running_loop(), clock=clock)
    first = (await call(runner, "who")).result
    clock.advance(IDLE - 1)
    assert (await call(runner, "who")).result == first
    clock.advance(IDLE - 1)
    assert (await call(runner, "who")).result == first
    clock.advance(IDLE)
    assert await asyncio.to_thread(end_of, first)
    assert (await call(runner, "who")).result != first
    await runner.close()
    assert runner.pids == []


async def test_closing_ends_idle_and_busy_processes(tmp_path: Path) -> None:
    runner = ProcessRunner(loop=asyncio.get_running_loop(), clock=SystemClock())
    gate = Gate(tmp_path, "run")
    busy = asyncio.create_task(call(runner, "hold", **gate.params))
    await gate.entered()
    await call(runner, "who")
    assert len(runner.pids) == 2
    await runner.close()
    assert runner.pids == []
    with pytest.raises(ProcessDied):
        await busy
    with pytest.raises(SchedulerNotRunning):
        await call(runner, "who")
    await runner.close()


async def test_ctrl_c_is_not_for_them_and_a_termination_is(runner: ProcessRunner) -> None:
    expected = [str(int(signal.SIG_IGN)), str(int(signal.SIG_DFL)), "[]"]
    assert await call(runner, "interrupts") == Done(expected)


async def test_output_goes_where_the_parents_goes(
    runner: ProcessRunner, capfd: pytest.CaptureFixture[str]
) -> None:
    await call(runner, "speak", text="from far away")
    out, err = capfd.readouterr()
    assert "from far away" in out
    assert "FROM FAR AWAY" in err


async def test_fifty_runs_leave_no_file_and_no_zombie() -> None:
    before, kin = files(), children()
    runner = ProcessRunner(loop=asyncio.get_running_loop(), clock=SystemClock())
    for n in range(50):
        if n % 10 == 9:
            with pytest.raises(ProcessDied):
                await call(runner, "quit_at_once", status=1)
        else:
            assert await call(runner, "add", a=n) == Done(n + 10)
    await runner.close()
    assert children().keys() <= kin.keys()
    assert files() <= before
