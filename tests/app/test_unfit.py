"""The schema is changed under a node that works: in range it goes on, else it drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rota import BackgroundScheduler, Context, Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.core.events import Event, Unfit
from rota.core.ids import new_incarnation
from rota.core.ports import Repository
from rota.core.task import Membership
from rota.errors import SchedulerNotRunning, SchemaMismatch, SchemaTooNew, SchemaTooOld
from rota.storage.memory import MemoryRepository
from rota.storage.nodelife import NodeLife
from rota.storage.postgres import PostgresRepository
from rota.storage.schema import ledger
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from tests.conftest import Database

PATIENCE = 20.0
#: A node that looks every second.
SOON: dict[str, Any] = {"heartbeat": 1, "lease": 3}

Sql = Callable[[str], None]


@contextlib.contextmanager
def other_hand(database: Database) -> Iterator[Sql]:
    """What runs statements beside rota: somebody's upgrade."""
    assert isinstance(database.target, str)
    if database.kind == "sqlite":
        with contextlib.closing(sqlite3.connect(database.target.removeprefix("sqlite:///"))) as one:
            one.isolation_level = None
            yield lambda sql: [one.execute(part) for part in sql.split(";")] and None
        return
    path = f"-c search_path={database.options['schema']}"
    with psycopg.connect(database.target, autocommit=True, options=path) as two:
        yield lambda sql: two.execute(sql) and None  # type: ignore[arg-type, return-value]


@pytest.fixture
def sql(durable: Database) -> Iterator[Sql]:
    """On a database that other tests use afterwards: its ledger is put right again."""
    with other_hand(durable) as run:
        yield run
        run("delete from rota_schema where version > 1")


def upgraded(*, serves: int) -> str:
    """The ledger's entry of a step that the code of step ``serves`` can work with."""
    return f"insert into rota_schema values (9, 'later', {{now}}, {serves})"


def apply(run: Sql, database: Database, *, serves: int) -> None:
    now = "0" if database.kind == "sqlite" else "now()"
    run(upgraded(serves=serves).format(now=now))


class Listener:
    """What the node tells of itself."""

    def __init__(self) -> None:
        self.told: list[Unfit] = []
        self.unfit = asyncio.Event()

    def hear(self, event: Event) -> None:
        if isinstance(event, Unfit):
            self.told.append(event)
            self.unfit.set()

    async def wait(self) -> SchemaMismatch:
        await asyncio.wait_for(self.unfit.wait(), PATIENCE)
        return self.told[0].error


def holding(works: WorkRegistry) -> tuple[asyncio.Event, asyncio.Event]:
    """A work that says when it begins, and ends when it is let."""
    begun, let = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold(ctx: Context) -> str:
        begun.set()
        await let.wait()
        return "well"

    @works.register("quick")
    async def quick() -> None: ...

    return begun, let


async def test_a_node_out_of_range_drains_says_so_and_stops(
    durable: Database, works: WorkRegistry, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    begun, let = holding(works)
    scheduler = durable.scheduler(works, concurrency=1, on_event=listener.hear, **SOON)
    await scheduler.start()
    running = await scheduler.schedule("hold")
    waiting = await scheduler.schedule("quick", delay=0.5)
    await begun.wait()
    assert scheduler.unfit is None

    apply(sql, durable, serves=9)

    error = await listener.wait()
    assert isinstance(error, SchemaTooNew)
    assert (error.found, error.needed, str(scheduler.unfit)) == (9, 1, str(error))
    health = await scheduler.health()
    assert (health.ready, health.live, health.running) == (False, True, 1)
    assert f"schema: {error}" in health.troubles
    for verb in (scheduler.schedule("quick"), scheduler.info(running.id)):
        with pytest.raises(SchemaTooNew, match="install a version that knows step 9"):
            await verb
    assert scheduler.running
    let.set()
    assert scheduler._leaving is not None
    await asyncio.wait_for(asyncio.shield(scheduler._leaving), PATIENCE)
    assert not scheduler.running
    with pytest.raises(SchemaTooNew):
        await scheduler.health()
    with pytest.raises(SchemaTooNew):
        await scheduler.start()
    await scheduler.shutdown()

    sql("delete from rota_schema where version = 9")
    repository = durable.repository()
    assert repository.nodes() == []
    states = repository.states([running.id, waiting.id])
    assert {one: state.name for one, state in states.items()} == {
        running.id: "DONE",
        waiting.id: "SCHEDULED",
    }
    assert len(listener.told) == 1
    said = [one for one in caplog.records if getattr(one, "event", "") == "unfit"]
    assert [(one.levelno, one.found, one.needed) for one in said] == [(logging.ERROR, 9, 1)]  # type: ignore[attr-defined]
    async with scheduler:
        assert scheduler.unfit is None
        await scheduler.handle(waiting.id).wait(timeout=PATIENCE)


async def test_what_waits_for_a_slot_does_not_start_any_more(
    durable: Database, works: WorkRegistry, sql: Sql
) -> None:
    begun, let = holding(works)
    scheduler = durable.scheduler(
        works, concurrency=1, on_event=lambda event: isinstance(event, Unfit) and let.set(), **SOON
    )
    await scheduler.start()
    house = scheduler._house
    assert house is not None
    running = await scheduler.schedule("hold")
    await begun.wait()
    waiting = await scheduler.schedule("quick", delay=0.3)
    # Taken ahead of its time, due, and without a slot.
    while all(entry.ticking for entry in house.engine.dispatcher.holding()):
        await asyncio.sleep(0)
    apply(sql, durable, serves=9)
    house.life.suspect()
    await asyncio.wait_for(scheduler._grew_unfit.wait(), PATIENCE)
    await scheduler.shutdown()
    sql("delete from rota_schema where version = 9")
    found = [durable.repository().get(one.id) for one in (running, waiting)]
    assert [(one.status, one.attempt) for one in found if one is not None] == [
        ("done", 1),
        ("scheduled", 0),
    ]


async def test_a_node_in_range_goes_on(durable: Database, works: WorkRegistry, sql: Sql) -> None:
    listener = Listener()
    holding(works)
    async with durable.scheduler(works, on_event=listener.hear, **SOON) as scheduler:
        before = scheduler._house.life._confirmed  # type: ignore[union-attr]
        apply(sql, durable, serves=1)
        while scheduler._house.life._confirmed <= before + 1:  # type: ignore[union-attr]
            handle = await scheduler.schedule("quick")
            await handle.result(timeout=PATIENCE)
        assert (await scheduler.health()).ready
    assert listener.told == []


async def test_how_long_runs_go_on_is_for_shutdown_to_say(
    durable: Database, works: WorkRegistry, sql: Sql
) -> None:
    listener = Listener()
    begun, _ = holding(works)
    scheduler = durable.scheduler(works, on_event=listener.hear, **SOON)
    await scheduler.start()
    handle = await scheduler.schedule("hold")
    await begun.wait()
    apply(sql, durable, serves=9)
    await listener.wait()
    await scheduler.shutdown(0)
    assert isinstance(scheduler.unfit, SchemaTooNew)
    sql("delete from rota_schema where version = 9")
    task = durable.repository().get(handle.id)
    assert task is not None
    assert (task.status, task.attempt) == ("scheduled", 0)


async def test_a_client_that_only_schedules_stops_too(
    durable: Database, works: WorkRegistry, sql: Sql
) -> None:
    listener = Listener()
    async with durable.scheduler(works, queues=[], on_event=listener.hear, **SOON) as client:
        apply(sql, durable, serves=9)
        await listener.wait()
        with pytest.raises(SchemaTooNew):
            await client.schedule("quick")


def test_the_blocking_face_says_so_too(
    make_database: Callable[..., Database], works: WorkRegistry
) -> None:
    database = make_database("sqlite", SystemClock())
    heard: list[Event] = []
    works.register("quick")(lambda: None)
    with (
        BackgroundScheduler(works, database.target, on_event=heard.append, **SOON) as scheduler,
        other_hand(database) as run,
    ):
        apply(run, database, serves=9)
        leaving = scheduler._scheduler._grew_unfit
        scheduler.call(asyncio.wait_for(leaving.wait(), PATIENCE))
        scheduler.call(asyncio.wait([scheduler._scheduler._leaving]))  # type: ignore[list-item]
        with pytest.raises(SchemaTooNew):
            scheduler.schedule("quick")
        assert not scheduler.running
        assert isinstance(scheduler.unfit, SchemaTooNew)
    assert [event for event in heard if isinstance(event, Unfit)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_column_that_an_upgrade_took_away_does_not_hide_it(
    kind: str, make_database: Callable[..., Database], works: WorkRegistry, request: Any
) -> None:
    """The heartbeat's thread fails before it comes to its beat."""
    database = make_database("sqlite", SystemClock())
    if kind == "postgres":
        schema, url = (
            request.getfixturevalue("empty_schema"),
            request.getfixturevalue("postgres_url"),
        )
        database = Database(kind, url, SystemClock(), {"schema": schema})
        repository = PostgresRepository(url, clock=SystemClock(), schema=schema)
        repository.upgrade()
        repository.close()
    listener = Listener()
    # No beat comes in this test's time but the one that the failure brings about.
    options: dict[str, Any] = {"heartbeat": 3600, "lease": 7200, "on_event": listener.hear}
    begun, let = holding(works)
    async with database.scheduler(works, **options) as scheduler:
        await scheduler.schedule("hold")
        await begun.wait()
        with other_hand(database) as run:
            now = "0" if kind == "sqlite" else "now()"
            run(
                "alter table rota_setting rename column value to what;"
                + upgraded(serves=9).format(now=now)
            )
            assert isinstance(await listener.wait(), SchemaTooNew)
            run("alter table rota_setting rename column what to value")
        let.set()


class Standing(MemoryRepository):
    """Memory whose heartbeat finds the schema to be another."""

    error: SchemaMismatch

    def beat(self, node: int, lease: float) -> bool:
        assert super().beat(node, lease)
        raise self.error


@pytest.mark.parametrize(("found", "unfit"), [(1, True), (0, False)])
def test_a_schema_set_back_ends_a_node_and_one_that_is_away_does_not(
    found: int, unfit: bool, fake_clock: FakeClock
) -> None:
    repository = Standing(clock=fake_clock)
    repository.open()
    repository.error = SchemaTooOld("it is older; upgrade it", found=found, needed=2)
    told: list[SchemaMismatch] = []
    life = NodeLife(repository=repository, clock=fake_clock, on_unfit=told.append)
    life.step()
    for _ in range(2):
        fake_clock.advance(6)
        with contextlib.nullcontext() if unfit else pytest.raises(SchemaTooOld):
            life.step()
    assert told == ([repository.error] if unfit else [])
    assert life.unfit is (repository.error if unfit else None)
    assert life.may_start


class TestBeat:
    """The repository's side: the lease is extended, then the schema is told to be another."""

    @pytest.fixture
    def repository(self, durable: Database) -> Repository:
        return durable.repository()

    @pytest.fixture
    def node(self, repository: Repository) -> int:
        node = new_incarnation()
        repository.join(Membership(node, "one", "here", 1, 5.0))
        return node

    def test_a_compatible_step_is_well(
        self, durable: Database, repository: Repository, node: int, sql: Sql
    ) -> None:
        apply(sql, durable, serves=1)
        assert repository.beat(node, 30.0)
        assert repository.insert([a_task()])[0].created

    def test_a_breaking_step_is_told_and_the_lease_extended(
        self, durable: Database, repository: Repository, node: int, sql: Sql
    ) -> None:
        (before,) = repository.nodes()
        apply(sql, durable, serves=9)
        with pytest.raises(SchemaTooNew, match="knows step 9") as told:
            repository.beat(node, 300.0)
        assert (told.value.found, told.value.needed) == (9, 1)
        (after,) = repository.nodes()
        assert (before.lease, after.lease) == (5.0, 300.0)
        assert after.lease_left > 200
        repository.leave(node)
        assert not repository.beat(node, 30.0)

    def test_a_step_that_is_missing_names_the_command(self) -> None:
        steps = (*ledger.STEPS, ledger.Step(2, "more", 1, {}))
        with pytest.raises(
            SchemaTooOld, match="needs step 2; run: rota db upgrade --url x"
        ) as told:
            ledger.require(1, 1, url="x", steps=steps)
        assert (told.value.found, told.value.needed) == (1, 2)
        ledger.require(2, 1, steps=steps)


async def test_a_shutdown_while_it_leaves_by_itself_waits_until_it_has_left(
    durable: Database, works: WorkRegistry, sql: Sql
) -> None:
    scheduler = durable.scheduler(works, **SOON)
    await scheduler.start()
    node = scheduler.node
    apply(sql, durable, serves=9)
    await asyncio.wait_for(scheduler._grew_unfit.wait(), PATIENCE)
    while scheduler.running:
        await asyncio.sleep(0)
    await scheduler.shutdown()
    sql("delete from rota_schema where version = 9")
    assert node not in [one.id for one in durable.repository().nodes()]


def test_a_scheduler_that_was_never_started_is_not_unfit(works: WorkRegistry) -> None:
    scheduler = Scheduler(works)
    assert scheduler.unfit is None
    with pytest.raises(SchedulerNotRunning):
        _ = scheduler.node
