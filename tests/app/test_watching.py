"""A node whose loop or threads stand: it claims nothing, lets go of its tasks, and says so."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rota import Scheduler, TaskState, WorkRegistry
from rota.app.watching import LONGEST_TURN, NodeStalled, Watch
from rota.core.clock import SystemClock
from rota.core.duty import Duty
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from tests.conftest import Database

LEASE, STALL = 30.0, 300.0
PATIENCE = 40.0


class Bench:
    """A watch over a loop of its own and two duties, one of which may be held up."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loop = asyncio.new_event_loop()
        self.handed = self.asked = self.turned = 0
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()
        self.passes = {"claimer": threading.Event(), "finisher": threading.Event()}
        self.held: set[str] = set()
        self.duties = {name: self._duty(name) for name in self.passes}
        self.watch = Watch(
            loop=self.loop,
            turned=lambda: self.turned,
            clock=clock,
            claimer=self.duties["claimer"],
            finisher=self.duties["finisher"],
            lease=LEASE,
            stall_after=STALL,
            hand_back=self._hand_back,
        )

    def _hand_back(self) -> int:
        self.handed += 1
        return 1

    def _duty(self, name: str) -> Duty:
        def step() -> float:
            if name in self.held:
                self.inside.set()
                self.gate.wait(PATIENCE)
            self.passes[name].set()
            return 3600.0

        return Duty(name=name, step=step, clock=self.clock)

    def turn(self, by: float = 1.0, *, loop: bool = True) -> None:
        """The loop does what it has in hand, unless it stands; the watcher's next turn comes."""
        if loop:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.clock.advance(by)
        for passed in self.passes.values():
            passed.clear()
        self.watch.turn()
        for part in self.watch._parts[1:]:
            if part._asked and not part.stood and part.name not in self.held:
                self.asked += 1
                assert self.passes[part.name].wait(PATIENCE)
                # The step has ended; its pass is noted when the thread waits again.
                self.clock.block_until(len(self.duties) - len(self.held))

    def turns(self, seconds: float, *, loop: bool = True) -> None:
        for _ in range(int(seconds)):
            self.turn(loop=loop)

    def hold(self, name: str) -> None:
        """Have the duty hang in its step from now on."""
        self.gate.clear()
        self.held.add(name)
        self.duties[name].wake()
        assert self.inside.wait(PATIENCE)

    def let_go(self, name: str) -> None:
        self.held.discard(name)
        self.passes[name].clear()
        self.gate.set()
        assert self.passes[name].wait(PATIENCE)
        # The step has ended; its pass is noted when the thread waits again.
        self.clock.block_until(len(self.duties))


@pytest.fixture
def bench(fake_clock: FakeClock) -> Iterator[Bench]:
    made = Bench(fake_clock)
    for duty in made.duties.values():
        duty.start()
    fake_clock.block_until(len(made.duties))
    try:
        yield made
    finally:
        made.gate.set()
        for duty in made.duties.values():
            duty.stop()
        assert all(duty.join(PATIENCE) for duty in made.duties.values())
        made.loop.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


def test_a_loop_that_stands_stops_claims_then_hands_back_then_ends_the_heartbeat(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.turns(3)
    assert not bench.watch.standing

    bench.turns(4, loop=False)
    assert bench.watch.standing
    assert bench.handed == 0
    assert bench.watch.troubles == []

    bench.turns(LEASE, loop=False)
    assert bench.handed > 0
    assert not bench.watch.stalled
    assert bench.watch.troubles[0].startswith("the event loop has stood for ")
    assert errors(caplog) == []

    with pytest.raises(NodeStalled, match="the event loop has stood for 300 s"):
        bench.turns(STALL, loop=False)
    with pytest.raises(NodeStalled):
        bench.turn(loop=False)
    assert bench.watch.stalled
    (told,) = errors(caplog)
    assert "test_watching.py" in told, "it shows where the loop stands"

    claims = bench.passes["claimer"]
    bench.turn()
    assert (bench.watch.standing, bench.watch.stalled, bench.watch.troubles) == (False, False, [])
    assert claims.wait(PATIENCE), "the claimer is told at once"
    handed = bench.handed
    bench.turns(5)
    assert bench.handed == handed


def test_a_finisher_that_stands_ends_the_heartbeat_and_a_claimer_does_not(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.hold("claimer")
    bench.turns(STALL + 20)
    assert not bench.watch.stalled
    assert [trouble.partition(" ")[0] for trouble in bench.watch.troubles] == ["claimer"]
    bench.let_go("claimer")
    bench.turn()
    assert bench.watch.troubles == []

    bench.inside.clear()
    bench.hold("finisher")
    with pytest.raises(NodeStalled, match="finisher has stood"):
        bench.turns(STALL + 20)
    bench.let_go("finisher")
    bench.turn()
    assert not bench.watch.stalled
    assert bench.handed == 0
    assert [text.partition(" ")[0] for text in errors(caplog)] == ["claimer", "finisher"]


def test_a_loop_that_turns_by_itself_is_not_asked_and_does_not_stand(bench: Bench) -> None:
    for _ in range(20):
        bench.turned += 1
        bench.turn(loop=False)
        assert not bench.watch._loop._asked
    assert not bench.watch.standing
    bench.turns(2, loop=False)
    assert bench.watch.standing


def test_quiet_duties_do_not_stand(bench: Bench) -> None:
    for _ in range(40):
        bench.turn(10)
        assert bench.watch.troubles == []
    assert bench.asked > 2


def test_time_in_which_the_process_was_not_there_does_not_count(bench: Bench) -> None:
    bench.turns(2)
    for _ in range(3):
        bench.turn(10 * STALL, loop=False)
    assert bench.watch._loop.stood <= 3 * LONGEST_TURN
    assert bench.handed == 0
    bench.turn()
    assert not bench.watch.standing


@pytest.mark.parametrize("wrong", [0, -1, "soon", float("inf")])
def test_a_span_that_cannot_be_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match="stall_after") as refused:
        Scheduler(stall_after=wrong)
    assert refused.value.field == "stall_after"  # type: ignore[attr-defined]


async def test_what_was_handed_back_does_not_start_here_and_costs_no_attempt(
    database: Database, works: WorkRegistry
) -> None:
    go_on, started = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    @works.register("first")
    async def first() -> str:
        started.set()
        await go_on.wait()
        return "first"

    @works.register("second")
    async def second() -> str:
        ran.append("here")
        return "second"

    async with database.scheduler(works, concurrency=1, look_ahead=30, poll=0.1) as scheduler:
        house = scheduler._house
        assert house is not None
        one = await scheduler.schedule(first.bind())
        await started.wait()
        two = await scheduler.schedule(second.bind(), delay=0.3)
        await until(lambda: house.engine.dispatcher.held == 1)
        house.watch.standing = True  # else it would be claimed here again
        house.watch.turn = lambda: None  # type: ignore[method-assign]
        assert house.intake.hand_back() == 1
        assert house.intake.hand_back() == 0
        await until(lambda: house.finisher.unwritten == 0)
        assert (await two.info()).state is TaskState.SCHEDULED
        assert (await two.info()).attempt == 0

        go_on.set()
        assert await one.result(timeout=PATIENCE) == "first"
        await until(lambda: house.engine.dispatcher.held == 0)
        assert ran == []
        house.watch.standing = False
        house.sync.look()
        assert await two.result(timeout=PATIENCE) == "second"
        assert (await two.info()).attempt == 1
        assert house.finisher.refused == 0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0)


async def test_a_heartbeat_that_hangs_in_its_statement_is_cut_from_the_loop(
    postgres_url: str, postgres_schema: str, works: WorkRegistry
) -> None:
    @works.register("quick")
    async def quick() -> str:
        return "well"

    repository = PostgresRepository(
        postgres_url, clock=SystemClock(), schema=postgres_schema, statement_timeout=600.0
    )
    async with Scheduler(works, repository, heartbeat=1, lease=3) as scheduler:
        house = scheduler._house
        assert house is not None
        with psycopg.connect(postgres_url) as stranger:
            stranger.execute(f'select 1 from "{postgres_schema}".rota_node for update')
            house.life.suspect()

            def hanging() -> Any:
                """The heartbeat's session, once the server says that it waits for us."""
                (session,) = (
                    one
                    for one in repository._connections._sessions
                    if one.thread.name == "rota-heartbeat"
                )
                with psycopg.connect(postgres_url, autocommit=True) as looker:
                    blockers = "select pg_blocking_pids(%s)"
                    while looker.execute(blockers, (session.raw.info.backend_pid,)).fetchone() != (
                        [stranger.info.backend_pid],
                    ):
                        house.life.suspect()
                return session

            session = await asyncio.to_thread(hanging)
            session.busy_since -= 10_000
            await until(lambda: house.life.duty.error is not None)
        await until(lambda: house.life.duty.error is None and house.life.may_start)
        assert await (await scheduler.schedule(quick.bind())).result(timeout=PATIENCE) == "well"


NODE = """
import asyncio, json, sys
from rota import Scheduler, WorkRegistry
config = json.loads(sys.argv[1])
works = WorkRegistry()

@works.register("block")
async def block() -> str:
    while scheduler._house.engine.dispatcher.held == 0:
        await asyncio.sleep(0)
    print("blocked", flush=True)
    sys.stdin.readline()  # on the loop's own thread
    return "here"

@works.register("quick")
async def quick() -> str:
    return "here"

async def main():
    global scheduler
    async with Scheduler(works, config["url"], concurrency=1, look_ahead=30, lease=3, heartbeat=1,
                         stall_after=6, schema=config["schema"]) as scheduler:
        for name, delay in ("block", 0), ("quick", 1):
            print((await scheduler.schedule(name, delay=delay)).id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_blocked_loops_tasks_run_on_another_node(durable: Database, tmp_path: Path) -> None:
    works = WorkRegistry()

    @works.register("block")
    async def block() -> str:
        return "elsewhere"

    @works.register("quick")
    async def quick() -> str:
        return "elsewhere"

    async with durable.scheduler(works, queues=[]):
        pass  # so that there is a file
    config = json.dumps({"url": durable.target, "schema": durable.options.get("schema")})
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(
            [sys.executable, "-c", NODE, config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert node.stdout is not None
    try:
        told = [await asyncio.to_thread(node.stdout.readline) for _ in range(3)]
        blocked, waiting = (line.strip() for line in told if line != "blocked\n")
        async with durable.scheduler(works, lease=3, heartbeat=1) as other:
            assert await other.handle(waiting).result(timeout=PATIENCE) == "elsewhere"
            # It still beats: what runs there is its own, until it has stood for stall_after.
            assert (await other.info(blocked)).state is TaskState.WORKING
            assert await other.handle(blocked).result(timeout=PATIENCE) == "elsewhere"
            assert (await other.info(waiting)).attempt == 1
    finally:
        node.kill()
        node.communicate()
    said = (tmp_path / "node.log").read_text()
    assert "the event loop has stood for" in said
    assert "in block" in said, "it shows where"
