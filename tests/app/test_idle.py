"""What a node that has nothing to do asks of its database, and how soon it sees that it has."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from rota import Scheduler, WorkRegistry
from rota.core.glance import Glance
from rota.core.task import Ending, Membership, Stored
from rota.storage.memory import MemoryRepository
from rota.storage.sqlite import connections
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import a_definition
from rota.testing.conformance.setting import NodeHandle, a_task
from tests.app.holding import opened
from tests.app.passing import Passing, house_of
from tests.conftest import Database

PATIENCE = 20
MINUTE = 60
#: By then the start is over, and the first tidying.
SETTLED = 75
#: What a node may ask in a minute: alone, and for its share of watching over others.
ALONE, WATCHING = 30, 60
#: The documented bounds, in seconds.
POLL, DEATH, NOTICED = 5.0, 3.0, 1.0


class Asked:
    """Every statement of every connection, by its beginning."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._guard = threading.Lock()

    def note(self, statement: object) -> None:
        text = " ".join(str(statement).split())[:60].lower()
        # SQLite's look at a number in shared memory.
        if text != "pragma data_version":
            with self._guard:
                self.counts[text] += 1

    async def in_a_minute(self, passing: Passing) -> Counter[str]:
        with self._guard:
            self.counts.clear()
        await passing.by(MINUTE, step=0.05)
        return self.counts.copy()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    execute, connect = psycopg.Cursor.execute, connections.Connections._connect

    def executed(self: psycopg.Cursor[Any], query: Any, *args: Any, **how: Any) -> Any:
        found.note(query)
        return execute(self, query, *args, **how)

    def traced(self: connections.Connections) -> sqlite3.Connection:
        connection = connect(self)
        connection.set_trace_callback(found.note)
        return connection

    monkeypatch.setattr(psycopg.Cursor, "execute", executed)
    monkeypatch.setattr(connections.Connections, "_connect", traced)
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def still(
    request: pytest.FixtureRequest, make_database: Callable[..., Database], fake_clock: FakeClock
) -> Iterator[Database]:
    """The two that are asked in statements, on a clock that stands still."""
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


@pytest.fixture(params=["memory", "postgres"])
def deaf(
    request: pytest.FixtureRequest, make_database: Callable[..., Database], fake_clock: FakeClock
) -> Iterator[Database]:
    """Those whose nodes learn nothing of what nobody tells them; SQLite's see the file change."""
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def each(
    request: pytest.FixtureRequest, make_database: Callable[..., Database], fake_clock: FakeClock
) -> Iterator[Database]:
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


@pytest.fixture
def ran(works: WorkRegistry) -> asyncio.Event:
    """Set by the work ``demo``."""
    event = asyncio.Event()

    @works.register("demo")
    async def demo(n: int) -> None:
        event.set()

    return event


async def test_alone_with_nothing_stored(
    still: Database, works: WorkRegistry, ran: asyncio.Event, asked: Asked, fake_clock: FakeClock
) -> None:
    async with still.scheduler(works, poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        counted = await asked.in_a_minute(passing)
    assert MINUTE / 6 <= counted.total() <= ALONE, counted


async def test_alone_with_what_is_not_due(
    still: Database, works: WorkRegistry, ran: asyncio.Event, asked: Asked, fake_clock: FakeClock
) -> None:
    async with still.scheduler(works, poll=POLL) as scheduler:
        await scheduler.schedule("demo", {"n": 1}, delay=86_400, expires=2 * 86_400)
        await scheduler.pause_queue("held")
        await scheduler.schedule("demo", {"n": 2}, queue="held", unique="k")
        await scheduler.pause_work("elsewhere")
        tomorrow = fake_clock.now() + timedelta(days=1)
        house_of(scheduler).repository.put_recurring(a_definition(tomorrow))
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        counted = await asked.in_a_minute(passing)
    assert counted.total() <= ALONE, counted


async def test_each_of_several(
    still: Database, works: WorkRegistry, asked: Asked, fake_clock: FakeClock
) -> None:
    """They watch over each other, and see each other's heartbeats in the file."""
    async with (
        still.scheduler(works, poll=POLL) as first,
        still.scheduler(works, poll=POLL) as second,
        still.scheduler(works, poll=POLL) as third,
    ):
        passing = Passing(fake_clock, first, second, third)
        await passing.by(SETTLED)
        counted = await asked.in_a_minute(passing)
    assert counted.total() <= 3 * WATCHING, counted


# Nobody was told of it: it is seen in time all the same


async def test_a_deadline_is_kept(
    deaf: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()
    async with deaf.scheduler(works, poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await scheduler.pause_queue("held")
        await passing.by(SETTLED)
        late = a_task(queue="held", expires_in=10.0)
        await asyncio.to_thread(repository.insert, [late])
        await passing.by(10.0 + POLL)
        states = await asyncio.to_thread(repository.states, [late.id])
    assert states == {late.id: Stored.CANCELLED}


async def test_a_parked_task_is_taken(
    deaf: Database, works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()

    def park() -> None:
        stranger = NodeHandle(repository)
        repository.insert([a_task(queue="elsewhere")])
        stranger.end(stranger.claim_only(queue="elsewhere"), Ending.PARK)
        repository.leave(stranger.id)

    async with deaf.scheduler(works, queues=["q"], poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        await asyncio.to_thread(park)
        await passing.by(POLL)
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_what_a_node_that_left_still_held_is_taken_back(
    deaf: Database, works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()

    def leave_behind() -> None:
        stranger = NodeHandle(repository)
        repository.insert([a_task()])
        stranger.claim_only()
        repository.leave(stranger.id)

    async with deaf.scheduler(works, poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        await asyncio.to_thread(leave_behind)
        await passing.by(POLL)
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_a_definition_fires(
    deaf: Database, works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()
    async with deaf.scheduler(works, poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        due = a_definition(repository.now() + timedelta(seconds=1), work="demo")
        await asyncio.to_thread(repository.put_recurring, due)
        await passing.by(1.0 + POLL)
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_a_definition_a_glance_saw_in_time_fires_on_time(
    deaf: Database, works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()
    async with deaf.scheduler(works, poll=POLL) as scheduler:
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        house = house_of(scheduler)
        while house.firing._until < fake_clock.monotonic() + 3:
            await passing.by(0.25)
        due = a_definition(repository.now() + timedelta(seconds=1), work="demo")
        await asyncio.to_thread(repository.put_recurring, due)
        house.sync.look()
        await passing.by(1.25)
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_one_that_cannot_be_fired_is_left_to_the_polls(
    still: Database, works: WorkRegistry, asked: Asked, fake_clock: FakeClock
) -> None:
    """It is due all the time, and glances do not start a pass for it each time."""
    async with still.scheduler(works, poll=POLL) as scheduler:
        repository, passing = house_of(scheduler).repository, Passing(fake_clock, scheduler)
        bad = a_definition(fake_clock.now(), trigger='{"of":"the future"}')
        await asyncio.to_thread(repository.put_recurring, bad)
        await passing.by(SETTLED)
        counted = await asked.in_a_minute(passing)
    assert counted.total() <= WATCHING, counted


async def test_a_paused_work_is_held_back(
    deaf: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    repository = deaf.repository()
    async with deaf.scheduler(works, poll=POLL) as scheduler:
        passing, holdback = Passing(fake_clock, scheduler), house_of(scheduler).holdback
        await passing.by(SETTLED)
        await asyncio.to_thread(repository.pause_work, "demo", "")
        await passing.by(POLL)
        assert holdback.holds("demo")
        await asyncio.to_thread(repository.resume_work, "demo")
        await passing.by(POLL)
        assert not holdback.holds("demo")


async def test_behind_a_pooler_a_paused_work_is_held_back_within_a_second(
    make_database: Callable[..., Database], works: WorkRegistry, fake_clock: FakeClock
) -> None:
    """Nothing can be heard there."""
    made = make_database("postgres", fake_clock)
    made.options["poll_only"] = True
    repository = made.repository()
    async with made.scheduler(works, poll=POLL) as scheduler:
        passing, holdback = Passing(fake_clock, scheduler), house_of(scheduler).holdback
        await passing.by(SETTLED)
        await asyncio.to_thread(repository.pause_work, "demo", "")
        await passing.by(NOTICED)
        assert holdback.holds("demo")
    made.close()


async def test_a_running_task_is_stopped_within_a_second(
    deaf: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @works.register("endless")
    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    repository = deaf.repository()
    async with deaf.scheduler(works, poll=POLL) as scheduler:
        handle = await scheduler.schedule("endless")
        await asyncio.wait_for(started.wait(), PATIENCE)
        passing = Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        await asyncio.to_thread(repository.cancel, handle.id, "enough")
        await passing.by(NOTICED)
        await asyncio.wait_for(stopped.wait(), PATIENCE)


# Other nodes


async def test_a_dead_nodes_task_runs_within_seconds(
    still: Database, works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock
) -> None:
    """Much of its lease is left when its process ends: the lock it held has gone with it."""
    witness, dying = still.repository(), still.repository()

    def take() -> None:
        victim = NodeHandle(dying)
        dying.join(Membership(victim.id, "n", socket.gethostname(), 1, victim.lease))
        witness.pause_queue("default", "so that nobody else takes it")
        (task,) = witness.insert([a_task()])
        victim.claim_one(task.id)
        witness.resume_queue("default")

    def die() -> None:
        dying.close()
        # A server takes a moment to notice.
        give_up = time.monotonic() + PATIENCE
        while not witness.glance(node, ()).dead:
            assert time.monotonic() < give_up

    async with still.scheduler(works, poll=POLL) as scheduler:
        node, passing = scheduler.node, Passing(fake_clock, scheduler)
        await passing.by(SETTLED)
        await asyncio.to_thread(take)
        await passing.by(POLL)
        assert not ran.is_set()
        looked = house_of(scheduler).sync._glance_at
        while house_of(scheduler).sync._glance_at == looked:
            await passing.by(0.05, step=0.05)
        await asyncio.to_thread(die)  # just after a glance: the next one is as far as can be
        await passing.by(DEATH, step=0.05)
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_a_node_that_comes_is_watched_over_from_the_start(
    each: Database, works: WorkRegistry, fake_clock: FakeClock
) -> None:
    """It says so: one that was alone would glance too seldom. The clock stands still."""
    repository, seen = opened(each), threading.Event()
    glance = repository.glance

    def seeing(node: int, queues: Sequence[str] | None) -> Glance:
        found = glance(node, queues)
        if found.peers:
            seen.set()
        return found

    repository.glance = seeing  # type: ignore[method-assign]
    async with Scheduler(works, repository, clock=fake_clock, poll=POLL) as first:
        await Passing(fake_clock, first).by(SETTLED)
        assert not seen.is_set()
        async with each.scheduler(works, poll=POLL):
            assert await asyncio.to_thread(seen.wait, PATIENCE)


# The claimer's own doors


@pytest.mark.parametrize("door", ["gate", "room"])
async def test_what_opens_without_a_word_is_tried_again(
    works: WorkRegistry, ran: asyncio.Event, fake_clock: FakeClock, door: str
) -> None:
    repository = MemoryRepository(clock=fake_clock)
    async with Scheduler(works, repository, clock=fake_clock, poll=POLL) as scheduler:
        sync, passing = house_of(scheduler).sync, Passing(fake_clock, scheduler)
        gate, room = sync._gate, sync._intake.room
        if door == "gate":
            sync._gate = lambda: False
        else:
            sync._intake.room = lambda: (0, 0, None)  # type: ignore[method-assign]
            house_of(scheduler).intake.fit = lambda _: False  # type: ignore[method-assign]
        await scheduler.schedule("demo", {"n": 1})
        await passing.by(SETTLED)
        assert not ran.is_set()
        sync._gate, sync._intake.room = gate, room  # type: ignore[method-assign]
        await passing.by(0.5)
        await asyncio.wait_for(ran.wait(), PATIENCE)
