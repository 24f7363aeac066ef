"""``rota run``: a node as a process of its own, and what signals do to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Scheduler
from rota.cli import exits
from tests.cli.command import COMMAND, environment, rota

APP = """
import asyncio, gc, os, threading
from rota import Scheduler, WorkRegistry

works = WorkRegistry()
pipe = os.open("pipe", os.O_RDWR)

@works.register("wait", queue="slow", max_attempts=4)
async def wait(seconds: float) -> str:
    os.write(pipe, b"begun\\n")
    await asyncio.sleep(seconds)
    return "well"

@works.register("deaf")
def deaf() -> None:
    os.write(pipe, b"begun\\n")
    threading.Event().wait()

@works.register("quick")
def quick(n: int) -> int:
    return n + 1

@works.register("frozen")
def frozen() -> int:
    return gc.get_freeze_count()

scheduler = Scheduler(works, "sqlite:///app.db", name="app", poll=0.5, lease=3, heartbeat=1)

def make():
    return scheduler
"""
ENVIRONMENT = {**environment(), "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a service, whose work says when it begins."""
    (tmp_path / "service.py").write_text(APP)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.fixture
def node(app: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """``rota run`` in it, with the options of the parameter."""
    options = getattr(request, "param", [])
    with subprocess.Popen(
        [*COMMAND, "run", "service:make", "--json", *options],
        cwd=app,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def say(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the service's directory."""
    return subprocess.run(
        [*COMMAND, *words, "--json"],
        cwd=app,
        env={**ENVIRONMENT, "ROTA_APP": "service:scheduler"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_it_says_what_it_serves_and_the_app_checks_what_is_scheduled(
    app: Path, node: subprocess.Popen[str]
) -> None:
    assert node.stdout is not None
    said = json.loads(node.stdout.readline())
    assert said["serving"] == "service:make on sqlite:///app.db"
    assert (said["queues"], said["pid"]) == (None, node.pid)
    assert said["works"] == ["deaf", "frozen", "quick", "wait"]
    done = say(app, "tasks", "schedule", "quick", "-p", "n=7", "--wait", "20")
    assert (json.loads(done.stdout)["result"], done.returncode) == (8, 0)
    frozen = say(app, "tasks", "schedule", "frozen", "--wait", "20")
    assert json.loads(frozen.stdout)["result"] > 10_000, "the start-up is left to the collector"
    refused = say(app, "tasks", "schedule", "quick", "-p", "n=seven")
    assert refused.returncode == 2
    assert refused.stderr == "error: n must be an int, not str; pass an int\n"
    assert say(app, "tasks", "schedule", "quik").returncode == 3
    later = json.loads(
        say(app, "tasks", "schedule", "wait", "-p", "seconds=1", "--delay", "1h").stdout
    )
    assert (later["queue"], later["max_attempts"]) == ("slow", 4)
    node.send_signal(signal.SIGTERM)
    assert node.wait(timeout=30) == 0
    assert node.stderr is not None
    assert node.stderr.read() == ""


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
async def test_the_first_signal_drains_and_the_second_stops_at_once(
    app: Path, node: subprocess.Popen[str], signals: list[signal.Signals]
) -> None:
    assert node.stdout is not None
    assert node.stderr is not None
    node.stdout.readline()
    at_once = len(signals) > 1
    async with Scheduler(
        None, f"sqlite:///{app / 'app.db'}", queues=[], allow_unknown=True
    ) as client:
        params = {"seconds": 600 if at_once else 0.3}
        handle = await client.schedule("wait", params, queue="slow")
        with (app / "pipe").open() as pipe:
            assert pipe.readline() == "begun\n"
        for number in signals:
            node.send_signal(number)
        assert node.wait(timeout=20) == 0
        task = await handle.info()
    said = "error: stopping at once; what has not ended will run again\n" if at_once else ""
    assert node.stderr.read() == said
    assert (task.status, task.attempt) == (("scheduled", 0) if at_once else ("done", 1))


@pytest.mark.parametrize("node", [["--timeout", "0.1"]], indirect=True)
@pytest.mark.parametrize(
    ("timeout", "said", "status"),
    [
        (None, "did not end at shutdown; it is given back", "scheduled"),
        (0.1, "ran longer than its timeout", "failed"),
    ],
)
async def test_a_thread_that_does_not_end_does_not_hold_up_the_node(
    app: Path, node: subprocess.Popen[str], timeout: float | None, said: str, status: str
) -> None:
    assert node.stdout is not None
    assert node.stderr is not None
    node.stdout.readline()
    async with Scheduler(
        None, f"sqlite:///{app / 'app.db'}", queues=[], allow_unknown=True
    ) as client:
        handle = await client.schedule("deaf", timeout=timeout)
        with (app / "pipe").open() as pipe:
            assert pipe.readline() == "begun\n"
        if timeout is not None:
            await handle.wait(timeout=20)
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=30) == 0
        task = await handle.info()
    [line] = node.stderr.read().splitlines()
    assert handle.id in line
    assert said in line
    assert task.status == status


async def test_a_node_whose_database_was_upgraded_beyond_it_drains_and_exits_with_5(
    app: Path,
) -> None:
    command = [*COMMAND, "run", "service:make", "--timeout", "0.2"]
    options: dict[str, Any] = {"cwd": app, "env": ENVIRONMENT, "text": True}
    url = f"sqlite:///{app / 'app.db'}"
    # The client does not look at the schema meanwhile.
    rare: dict[str, Any] = {"heartbeat": 3600, "lease": 7200}
    async with Scheduler(None, url, queues=[], allow_unknown=True, **rare) as client:
        handle = await client.schedule("wait", {"seconds": 600}, queue="slow")
        with (
            contextlib.closing(sqlite3.connect(app / "app.db")) as other,
            subprocess.Popen(command, stdout=-1, stderr=-1, **options) as node,
        ):
            with (app / "pipe").open() as pipe:
                assert pipe.readline() == "begun\n"
            other.execute("insert into rota_schema values (9, 'later', 0, 9)")
            other.commit()
            said, complaint = node.communicate(timeout=30)
            again = say(app, "run", "service:make")
            other.execute("delete from rota_schema where version = 9")
            other.commit()
        assert node.returncode == exits.UNFIT == 5
        assert said.splitlines()[1] == "draining for at most 200 ms; once more stops at once"
        logged, error = complaint.splitlines()
        fact = "the database is at step 9, which this version of rota (step 1) cannot work with"
        remedy = "install a version that knows step 9 or later"
        assert logged.endswith(f"ERROR rota.node: node app drains and stops: {fact}; {remedy}")
        assert error == f"error: {fact}; {remedy}"
        assert (again.returncode, again.stderr.strip()) == (exits.UNFIT, error)
        task = await handle.info()
        assert (task.status, task.attempt) == ("scheduled", 0)


def test_a_broken_module_is_one_line_and_all_of_it_with_debug(app: Path) -> None:
    (app / "broken.py").write_text("1 / 0\n")
    for words in (["run", "broken:x"], ["tasks", "schedule", "w", "--app", "broken:x"]):
        done = say(app, *words)
        assert done.returncode == 2
        assert done.stderr == (
            "error: broken raised ZeroDivisionError: division by zero; add --debug to see where\n"
        )
    assert "Traceback" in say(app, "run", "broken:x", "--debug").stderr


def test_cron_is_explained() -> None:
    words = ["cron", "explain", "30 2 * * sun", "--timezone", "Europe/Paris", "--count", "2"]
    done = rota(*words, "--after", "2027-03-27T00:00Z")
    assert done.stdout.splitlines() == [
        "at 02:30 on Sunday, Europe/Paris",
        "Sun 2027-03-28 03:00:00 CEST  01:00:00Z",
        "Sun 2027-04-04 02:30:00 CEST  00:30:00Z",
    ]
    spread = json.loads(rota("cron", "explain", "H * * * *", "--id", "mine", "--json").stdout)
    assert spread["expression"].split()[0].isdigit()
    assert len(spread["next"]) == 5
