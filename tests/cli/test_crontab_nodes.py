"""One crontab on two nodes: each line once at each of its times, as cron has them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from rota import Context, Cron, Scheduler, WorkRegistry
from rota.cli.crontab_file import Entry, parse
from rota.cli.crontab_install import install, named
from rota.cli.crontab_work import LINE, QUEUE
from rota.core.clock import Clock
from rota.testing import FakeClock
from tests.app.recurrences import Stage, until
from tests.cli.command import COMMAND, environment
from tests.conftest import Database

DEBIAN = Path(__file__).with_name("debian.crontab").read_text()
PARIS = ZoneInfo("Europe/Paris")


def ticks(entry: Entry, after: datetime, to: datetime) -> list[datetime]:
    """When cron would run the line, as cronsim has it, which is written after Debian's cron."""
    oracle = CronSim(entry.rule.expression, after.astimezone(PARIS))
    times: list[datetime] = []
    while (moment := next(oracle).astimezone(UTC)) <= to:
        times.append(moment)
    return times


@pytest.fixture(params=["sqlite", "postgres"])
def stage(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Iterator[Stage]:
    """The two that several nodes can share, on a clock that only the test moves."""
    database = make_database(request.param, fake_clock)
    yield Stage(database, fake_clock)
    database.close()


@pytest.mark.parametrize("hours", [3, pytest.param(24, marks=pytest.mark.slow)])
async def test_two_nodes_run_each_line_once_at_each_of_its_times(
    stage: Stage, works: WorkRegistry, hours: int
) -> None:
    ran: Counter[tuple[str | None, datetime | None]] = Counter()

    @works.register(LINE, queue=QUEUE)
    async def line(ctx: Context, command: str, **_: Any) -> None:
        ran[ctx.recurring, ctx.fire_at] += 1

    entries = parse(DEBIAN, system=True, timezone="Europe/Paris").entries[:20]
    end = stage.at(hours * 3_600)
    due = {name: ticks(one, stage.zero, end) for name, one in named(entries, "tab").items()}
    async with (
        stage.scheduler(works, queues=[QUEUE], name="one") as one,
        stage.scheduler(works, queues=[QUEUE], name="two") as two,
    ):
        for node in (one, two):
            await install(node, entries, name="tab")
        expected = Counter[tuple[str | None, datetime | None]]()
        for moment in sorted({moment for times in due.values() for moment in times}):
            await stage.go((moment - stage.clock.now()).total_seconds() + 1)
            expected.update((name, moment) for name, times in due.items() if moment in times)

            async def all_ran() -> bool:
                # An instant is rounded: a clock that stands might not quite get there.
                stage.clock.advance(1e-5)
                return ran.total() >= expected.total()

            await until(all_ran)
        for name, times in due.items():
            told = await two.recurring(name).decisions(1_000)
            # The database's own clock went on beside the one that is moved.
            told = [made for made in told if made.fire_at <= end]
            assert sorted(made.fire_at for made in told) == times
            assert {(made.decision, made.count) for made in told} <= {("fired", 1)}
        assert {tick: n for tick, n in ran.items() if tick in expected} == expected


@pytest.fixture
def two_hosts(durable: Database, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes of ``rota crontab run`` on one file of 20 lines that write to a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = DEBIAN.splitlines()
    entries = parse(DEBIAN, system=True, timezone="UTC").entries[:20]
    rules = [
        " ".join(line.split()[: 1 if line.startswith("@") else 5])
        for line in (lines[entry.number - 1] for entry in entries)
    ]
    tab = tmp_path / "tab"
    tab.write_text("".join(f"{rule} echo {n} > {pipe}\n" for n, rule in enumerate(rules)))
    schema = durable.options.get("schema")
    hosts = [
        subprocess.Popen(
            [*COMMAND, "crontab", "run", str(tab), "--json", "--node", f"host-{n}"]
            + (["--schema", schema] if schema else []),
            env={**environment(), "ROTA_URL": str(durable.target)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            host.communicate()


async def test_two_hosts_run_each_line_once(
    two_hosts: list[subprocess.Popen[str]], durable: Database, tmp_path: Path
) -> None:
    """Each line is made to fire once at the next second, on both hosts at once."""
    read = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    nodes = [json.loads(host.stdout.readline())["node"] for host in two_hosts if host.stdout]
    async with Scheduler(
        None, durable.target, queues=[], allow_unknown=True, **durable.options
    ) as client:
        lines = await client.list_recurring()
        assert len(lines) == 20
        soon = datetime.now(UTC) + timedelta(seconds=1)
        for line in lines:
            rule = Cron("* * * * * *", seconds="first")
            await client.recurring(line.id).change(
                trigger=rule, start=soon, max_runs=1, catchup="latest", misfire_grace_time=None
            )
        wrote = _numbers(read, 20)
        assert sorted(wrote) == list(range(20))
        infos = await client.list_recurring()
        assert [(one.runs, one.next_fire_at) for one in infos] == [(1, None)] * 20
        for line in lines:
            [child] = await client.recurring(line.id).children()
            task = await child.task.wait(timeout=20)
            assert (task.state, task.attempt) == ("done", 1)
            assert task.node in nodes
    for host in two_hosts:
        host.send_signal(signal.SIGTERM)
    for host in two_hosts:
        _, err = host.communicate(timeout=30)
        assert (host.returncode, err) == (0, "")
    assert _numbers(read, 0) == []
    os.close(read)


def _numbers(pipe: int, wanted: int) -> list[int]:
    """What the lines wrote: at least so many numbers, and whatever else is there."""
    text = ""
    while text.count("\n") < wanted:
        ready, _, _ = select.select([pipe], [], [], 30)
        assert ready, f"only {text.split()} ran"
        text += os.read(pipe, 4_096).decode()
    while select.select([pipe], [], [], 0)[0]:
        text += os.read(pipe, 4_096).decode()
    return [int(word) for word in text.split()]
