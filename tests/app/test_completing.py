"""``ctx.complete``: the user's own rows and the task's end commit together, or not at all."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rota import BlockingContext, Context, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.errors import InvalidArgument, LeaseLost, TaskFailed
from tests.app.callers import (
    EVERY,
    SYNC,
    calling,
    default_driver,
    sync_engine,
    table,
)
from tests.app.completing import works_of
from tests.conftest import Database

PATIENCE = 30
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(make_database: Callable[[str, Clock], Database]) -> Callable[[str], Database]:
    return lambda kind: make_database(kind, SystemClock())


def with_effects(database: Database) -> str:
    """A table of the user's own; its name."""
    name = table(database, "effects")
    database.repository().close()
    with sync_engine(database, default_driver(database)) as engine, engine.begin() as conn:
        conn.execute(text(f"drop table if exists {name}"))
        conn.execute(text(f"create table {name} (task text, n integer)"))
    return name


def effects(database: Database, name: str) -> list[tuple[str, int]]:
    with sync_engine(database, default_driver(database)) as engine, engine.begin() as conn:
        found = [tuple(row) for row in conn.execute(text(f"select task, n from {name} order by n"))]
        conn.execute(text(f"drop table {name}"))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("kind", "name"), EVERY)
async def test_effects_and_completion_commit_together(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    own = with_effects(database)

    @works.register("pay", transactional=True, max_attempts=3)
    async def pay(ctx: Context, n: int) -> Any:
        async with calling(database, name) as caller:
            await caller.execute(f"insert into {own} (task, n) values ('{ctx.task_id}', {n})")
            await ctx.complete(connection=caller.given, result={"n": n})
            if n == 2 and ctx.attempt == 1:
                await caller.rollback()
                raise ValueError("rolled back: this counts")
            await caller.commit()
        if n == 3:
            raise ValueError("after the commit: this does not")
        return "not this"

    async with database.scheduler(works) as scheduler:
        handles = [await scheduler.schedule("pay", {"n": n}, backoff=_at_once()) for n in (1, 2, 3)]
        results = [await handle.result(timeout=PATIENCE) for handle in handles]
        attempts = [(await handle.info()).attempt for handle in handles]

    assert results == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert attempts == [1, 2, 1]
    assert effects(database, own) == [(handle.id, n) for n, handle in enumerate(handles, 1)]


def _at_once() -> Any:
    from rota import Backoff

    return Backoff(first=0, factor=1, max=0)


@pytest.mark.parametrize(("kind", "name"), [(kind, n) for kind in SYNC for n in SYNC[kind]])
async def test_a_thread_completes_by_its_own_connection(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    own = with_effects(database)

    @works.register("pay", transactional=True)
    def pay(ctx: BlockingContext, n: int) -> Any:
        async def scenario() -> None:
            async with calling(database, name) as caller:
                await caller.execute(f"insert into {own} (task, n) values ('{ctx.task_id}', {n})")
                ctx.complete(connection=caller.given, result=threading.current_thread().name)
                await caller.commit()

        asyncio.run(scenario())

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule("pay", {"n": 1})
        assert (await handle.result(timeout=PATIENCE)).startswith("rota-work")
    assert effects(database, own) == [(handle.id, 1)]


async def test_only_transactional_works_complete(durable: Database, works: WorkRegistry) -> None:
    told: list[Exception] = []

    @works.register("plain")
    async def plain(ctx: Context) -> str:
        with sync_engine(durable, default_driver(durable)) as engine, Session(engine) as session:
            try:
                await ctx.complete(connection=session)
            except InvalidArgument as error:
                told.append(error)
        return "its own result"

    @works.register("wrong", transactional=True)
    async def wrong(ctx: Context) -> str:
        try:
            await ctx.complete(connection="a string")
        except InvalidArgument as error:
            told.append(error)
        return "its own result"

    async with durable.scheduler(works) as scheduler:
        for work in ("plain", "wrong"):
            handle = await scheduler.schedule(work)
            assert await handle.result(timeout=PATIENCE) == "its own result"

    assert "transactional=True" in str(told[0])
    assert "builtins.str" in str(told[1])


async def test_memory_cannot_complete_in_a_transaction(works: WorkRegistry) -> None:
    from sqlalchemy import create_engine

    from rota import Scheduler

    @works.register("pay", transactional=True)
    async def pay(ctx: Context) -> None:
        with Session(create_engine("sqlite://")) as session:
            await ctx.complete(connection=session)

    async with Scheduler(works) as scheduler:
        handle = await scheduler.schedule("pay")
        with pytest.raises(TaskFailed, match="memory"):
            await handle.result(timeout=PATIENCE)


async def test_completing_twice_is_refused_and_the_first_counts(
    durable: Database, works: WorkRegistry
) -> None:
    refused: list[Exception] = []

    @works.register("pay", transactional=True, max_attempts=2)
    async def pay(ctx: Context) -> str:
        with sync_engine(durable, default_driver(durable)) as engine:
            for result in ("first", "second"):
                with Session(engine) as session:
                    try:
                        await ctx.complete(connection=session, result=result)
                        session.commit()
                    except LeaseLost as error:
                        refused.append(error)
        return "not this"

    async with durable.scheduler(works) as scheduler:
        handle = await scheduler.schedule("pay")
        assert await handle.result(timeout=PATIENCE) == "first"
        assert (await handle.info()).attempt == 1
    assert len(refused) == 1


async def test_after_a_rescue_the_transaction_raises_and_the_other_run_counts(
    durable: Database, works: WorkRegistry
) -> None:
    own = with_effects(durable)
    started, taken_back = asyncio.Event(), asyncio.Event()
    lost: list[Exception] = []

    @works.register("pay", transactional=True)
    async def pay(ctx: Context) -> str:
        first = not started.is_set()
        started.set()
        if first:
            await _through_a_cancel(taken_back)
        with sync_engine(durable, default_driver(durable)) as engine, Session(engine) as session:
            session.execute(text(f"insert into {own} values ('{ctx.task_id}', {int(first)})"))
            try:
                await ctx.complete(connection=session, result="first" if first else "second")
            except LeaseLost as error:
                lost.append(error)
                raise
            session.commit()
        return "not this"

    async with durable.scheduler(works) as scheduler:
        handle = await scheduler.schedule("pay")
        await asyncio.wait_for(started.wait(), PATIENCE)
        other = durable.repository()
        node = scheduler.node
        other.leave(node)
        # By this one or by the node itself, whose glance may be quicker.
        async with asyncio.timeout(PATIENCE):
            while other.still_mine(node, [handle.id]):
                await asyncio.to_thread(other.rescue, 100)
        other.close()
        taken_back.set()
        assert await handle.result(timeout=PATIENCE) == "second"
    assert len(lost) == 1
    assert effects(durable, own) == [(handle.id, 0)]


async def _through_a_cancel(event: asyncio.Event) -> None:
    """Wait for it even if the run is told to stop meanwhile: a zombie does not listen."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE  # else a test that failed would never end
    while not event.is_set() and loop.time() < until:
        try:
            await asyncio.wait_for(event.wait(), PATIENCE)
        except asyncio.CancelledError:
            continue


async def test_a_completion_under_way_is_not_rescued(
    make: Callable[[str], Database], works: WorkRegistry
) -> None:
    """The completing transaction holds its rows: a rescue passes them by."""
    database = make("postgres")
    completed, rescued_by_now = asyncio.Event(), asyncio.Event()

    @works.register("pay", transactional=True)
    async def pay(ctx: Context) -> str:
        async with calling(database, "asyncpg session") as caller:
            await ctx.complete(connection=caller.given, result="mine")
            completed.set()
            await _through_a_cancel(rescued_by_now)
            await caller.commit()
        return "not this"

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule("pay")
        await asyncio.wait_for(completed.wait(), PATIENCE)
        other = database.repository()
        other.leave(scheduler.node)
        assert await asyncio.to_thread(other.rescue, 100) == []
        rescued_by_now.set()
        assert await handle.result(timeout=PATIENCE) == "mine"
        assert other.rescue(100) == []
        other.close()
        assert [item.outcome for item in await handle.history()] == ["done"]


@pytest.mark.parametrize("die", ["before", "after"])
async def test_effects_are_exactly_once_when_the_process_is_killed(
    durable: Database, die: str
) -> None:
    own = with_effects(durable)
    with sync_engine(durable, default_driver(durable)) as engine:
        url = engine.url.render_as_string(hide_password=False)
    config = {
        "url": durable.target,
        "engine_url": url,
        "schema": durable.options.get("schema"),
        "table": own,
        "die": die,
    }
    async with durable.scheduler(works_of(url, own, "never"), queues=[]) as client:
        handle = await client.schedule("pay", {"n": 1})
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.app.completing", json.dumps(config), cwd=ROOT
    )
    try:
        assert await asyncio.wait_for(dying.wait(), PATIENCE) == -9
    finally:
        if dying.returncode is None:
            dying.kill()
    works = works_of(url, own, "never")
    async with durable.scheduler(works, lease=3, heartbeat=1) as scheduler:
        assert await scheduler.handle(handle.id).result(timeout=PATIENCE) == "paid"
        outcomes = [item.outcome for item in await scheduler.history(handle.id)]
    assert outcomes == (["lost", "done"] if die == "before" else ["done"])
    assert effects(durable, own) == [(handle.id, 1)]
