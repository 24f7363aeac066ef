"""Command works on real programs: what may be run, what comes of it, and how it is stopped."""

from __future__ import annotations

import asyncio
import doctest
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.outcome import Retry
from rota.errors import InvalidArgument, InvalidParams, TaskCancelled, TaskFailed
from rota.registry import book
from tests.conftest import Database
from tests.runners.parts import PATIENCE, children, end_of, files

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    kin, open_files = children(), files()
    yield
    assert children().keys() <= kin.keys()
    left = {name for name in files() - open_files if "pipe:" in name}
    assert left == set()


async def run(works: WorkRegistry, work: Any, **params: Any) -> Any:
    async with Scheduler(works) as scheduler:
        return await (await scheduler.schedule(work.bind(**params))).result(PATIENCE)


def script(works: WorkRegistry, code: str, *args: str, **options: Any) -> Any:
    return works.command("script", PYTHON, args=["-c", code, *args], **options)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_command_runs_and_says_what_came_of_it(
    kind: str, works: WorkRegistry, make_database: Callable[[str, Clock], Database]
) -> None:
    works.command("greet", "echo", args=["hello", "{name}", "{{{count}}}"], queue="shell")
    place = make_database(kind, SystemClock())
    async with place.scheduler(works) as scheduler:
        handle = await scheduler.schedule("greet", {"name": "Ada; rm -rf $HOME", "count": 3})
        assert await handle.result(PATIENCE) == {
            "status": 0,
            "stdout": "hello Ada; rm -rf $HOME {3}\n",
            "stderr": "",
            "truncated": False,
        }
        assert (await handle.info()).queue == "shell"


async def test_the_work_can_be_called_without_a_scheduler(works: WorkRegistry) -> None:
    greet = works.command("greet", "echo", args=["--", "{name}"])
    assert (await greet(name="-n"))["stdout"] == "-- -n\n"


async def test_environment_directory_and_input_are_set(
    works: WorkRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "kept")
    code = (
        "import os, sys; print(os.getcwd(), os.environ['X'], os.environ['OURS'], sys.stdin.read())"
    )
    work = script(works, code, env={"X": "set"}, cwd=tmp_path)
    assert (await run(works, work))["stdout"].split() == [str(tmp_path), "set", "kept"]


@pytest.mark.parametrize("name", ["database", "count"])
@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}, b"a", float("nan")])
async def test_params_are_text_or_numbers(works: WorkRegistry, name: str, value: object) -> None:
    work = works.command("dump", "echo", args=["{database}", "-n={count}"])
    params = {"database": "main", "count": 3, name: value}
    with pytest.raises(InvalidParams, match=name):
        work.bind(**params)
    async with Scheduler(works) as scheduler:
        with pytest.raises(InvalidParams, match=name):
            await scheduler.schedule("dump", params)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "database"),
        ({"database": "main", "more": 1}, "more"),
        ({"database": "main", "program": "/bin/sh"}, "program"),
        ({"database": "a\0b"}, "database"),
        ({"database": "--file=/etc/passwd"}, "database"),
        ({"database": -1}, "database"),
    ],
)
async def test_params_that_are_missing_unknown_or_an_option_are_refused_when_scheduling(
    works: WorkRegistry, params: dict[str, Any], field: str
) -> None:
    works.command("dump", "echo", args=["--format=c", "{database}"])
    async with Scheduler(works) as scheduler:
        with pytest.raises(InvalidParams) as caught:
            await scheduler.schedule("dump", params)
        assert caught.value.field.rpartition(".")[2] == field


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (["{x}"], True),
        (["{x}tail"], True),
        (["{y}{x}"], True),
        (["--name={x}"], False),
        (["--", "{x}"], False),
        (["{x}", "--"], True),
        (["--name={x}", "{x}"], True),
    ],
)
def test_a_leading_dash_is_refused_where_it_could_pass_for_an_option(
    works: WorkRegistry, args: list[str], refused: bool
) -> None:
    work = works.command("w", "echo", args=args)
    params: Mapping[str, Any] = {"x": "-v", **({"y": ""} if "{y}" in args[0] else {})}
    if refused:
        with pytest.raises(InvalidParams, match="x begins with '-'"):
            work.bind(**params)
    else:
        assert work.bind(**params).params == params


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"program": "/no/such/program"}, "program"),
        ({"program": __file__}, "program"),
        ({"program": "/usr/bin"}, "program"),
        ({"program": "bin/echo"}, "program"),
        ({"program": ""}, "program"),
        ({"program": "a\0b"}, "program"),
        ({"program": ["echo"]}, "program"),
        ({"args": "hello"}, "args"),
        ({"args": ["a", 3]}, "args[1]"),
        ({"args": ["a\0"]}, "args[0]"),
        ({"args": ["{}"]}, "args[0]"),
        ({"args": ["{0}"]}, "args[0]"),
        ({"args": ["{a.b}"]}, "args[0]"),
        ({"args": ["{a!r}"]}, "args[0]"),
        ({"args": ["{a:>9}"]}, "args[0]"),
        ({"args": ["{a"]}, "args[0]"),
        ({"args": ["{class}"]}, "args[0]"),
        ({"env": {"A": 1}}, "env"),
        ({"env": ["A=1"]}, "env"),
        ({"max_output": -1}, "max_output"),
        ({"max_output": True}, "max_output"),
        ({"ok_statuses": ()}, "ok_statuses"),
        ({"ok_statuses": [300]}, "ok_statuses"),
        ({"ok_statuses": 0}, "ok_statuses"),
        ({"timeout": -1}, "timeout"),
        ({"runner": "thread"}, "runner"),
    ],
)
def test_what_could_not_run_is_refused_at_registration(
    works: WorkRegistry, options: dict[str, Any], field: str
) -> None:
    program = options.pop("program", "echo")
    with pytest.raises(InvalidArgument) as caught:
        works.command("w", program, **options)
    assert caught.value.field == field
    assert "w" not in works


async def test_a_name_that_no_path_knows_fails_the_attempt(works: WorkRegistry) -> None:
    work = works.command("w", "no-such-program-here")
    with pytest.raises(TaskFailed, match="is not in the PATH of this node"):
        await run(works, work)


async def test_a_program_that_went_away_fails_the_attempt(
    works: WorkRegistry, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/echo", program)
    work = works.command("w", program)
    program.unlink()
    with pytest.raises(TaskFailed, match="FileNotFoundError"):
        await run(works, work)


async def test_another_status_is_a_failed_attempt_with_the_last_line_of_stderr(
    works: WorkRegistry,
) -> None:
    code = "import sys; print('out'); print('first\\nlast', file=sys.stderr); sys.exit(3)"
    work = script(works, code, max_attempts=2, backoff=None)
    async with Scheduler(works) as scheduler:
        handle = await scheduler.schedule(work.bind(), max_attempts=1)
        with pytest.raises(TaskFailed) as caught:
            await handle.result(PATIENCE)
        info = await handle.info()
    assert caught.value.reason == "exit status 3: last"
    assert info.error is not None
    assert (info.error["status"], info.error["stdout"]) == (3, "out\n")
    with pytest.raises(Retry):
        await work()


async def test_other_statuses_may_be_well(works: WorkRegistry) -> None:
    work = script(works, "import sys; sys.exit(3)", ok_statuses=(0, 3))
    assert (await run(works, work))["status"] == 3


async def test_a_signal_is_named(works: WorkRegistry) -> None:
    work = script(works, "import os; os.kill(os.getpid(), 9)", ok_statuses=(0, 9))
    with pytest.raises(TaskFailed, match="killed by SIGKILL"):
        await run(works, work)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_output_past_the_bound_is_read_and_dropped(works: WorkRegistry, stream: str) -> None:
    code = f"import sys; sys.{stream}.write('x' * 3_000_000); sys.{stream}.flush(); print('on')"
    result = await run(works, script(works, code, max_output=1000))
    assert result["truncated"] is True
    assert result[stream] == "x" * 1000
    if stream == "stderr":
        assert result["stdout"] == "on\n"


async def test_output_need_not_be_text(works: WorkRegistry) -> None:
    code = "import sys; sys.stdout.buffer.write(b'a\\xff\\x00z')"
    assert (await run(works, script(works, code)))["stdout"] == "a\ufffd\\0z"


SLEEPER = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
{before}
with open(sys.argv[1], "w") as out:
    out.write("%d %d" % (os.getpid(), child.pid))
while True:
    signal.pause()
"""
PLAIN = "print(flush=True)\nimport signal\nwhile True: signal.pause()"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PLAIN
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("child", "before"), [(PLAIN, ""), (DEAF, ""), (DEAF, IGNORE)], ids=["plain", "child", "both"]
)
@pytest.mark.parametrize("how", ["cancel", "shutdown"])
async def test_a_stop_ends_the_whole_group_also_who_ignores_it(
    works: WorkRegistry, tmp_path: Path, child: str, before: str, how: str
) -> None:
    inside = tmp_path / "inside"
    os.mkfifo(inside)
    code = SLEEPER.format(child=child, before=before)
    work = script(works, code, "{inside}")
    async with Scheduler(works, concurrency=1) as scheduler:
        handle = await scheduler.schedule(work.bind(inside=str(inside)))
        pids = [int(pid) for pid in (await asyncio.to_thread(inside.read_text)).split()]
        assert len(pids) == 2
        if how == "cancel":
            await handle.cancel("not needed")
            with pytest.raises(TaskCancelled, match="not needed"):
                await handle.result(PATIENCE)
        else:
            await scheduler.shutdown(timeout=0)
    for pid in pids:
        assert await asyncio.to_thread(end_of, pid)


async def test_at_the_timeout_it_is_ended(works: WorkRegistry) -> None:
    work = script(works, "import signal\nwhile True: signal.pause()", timeout=0.2)
    with pytest.raises(TaskFailed, match="ran longer than its timeout"):
        await run(works, work)


async def test_what_it_leaves_in_the_background_does_not_hold_it_up(
    works: WorkRegistry, tmp_path: Path
) -> None:
    """The seed's command work never returned."""
    code = (
        "import subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {PLAIN!r}]); print(child.pid)"
    )
    result = await run(works, script(works, code))
    pid = int(result["stdout"].split()[0])
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.to_thread(end_of, pid)


async def test_many_at_once_leave_no_process_and_no_file(works: WorkRegistry) -> None:
    before = files()
    work = works.command("seq", "seq", args=["{first}", "{last}"])
    async with Scheduler(works, concurrency=8) as scheduler:
        handles = await scheduler.schedule_many([work.bind(first=n, last=n + 1) for n in range(40)])
        results = [await handle.result(PATIENCE) for handle in handles]
    assert [result["stdout"] for result in results] == [f"{n}\n{n + 1}\n" for n in range(40)]
    assert len({name for name in files() - before if "pipe:" in name}) == 0


def test_the_example_of_the_docstring_runs() -> None:
    results = doctest.testmod(book)
    assert results.attempted > 0
    assert results.failed == 0
