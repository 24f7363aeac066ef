"""Tasks scheduled and completed inside the caller's own transaction, through the public verbs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from rota import WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.errors import (
    DuplicateTask,
    TaskNotFound,
)
from tests.app.callers import (
    EVERY,
    THREADED,
    async_engine,
    calling,
    default_driver,
    sync_engine,
)
from tests.conftest import Database

#: Nobody looks by himself within a test: what starts was woken.
NO_POLL = 600.0
PATIENCE = 20


@pytest.fixture
def works() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("note")
    async def note(n: int) -> int:
        return n

    return works


@pytest.fixture
def make(make_database: Callable[[str, Clock], Database]) -> Callable[[str], Database]:
    return lambda kind: make_database(kind, SystemClock())


# Commit, rollback, savepoints


@pytest.mark.parametrize(("kind", "name"), EVERY)
async def test_it_starts_after_the_commit_and_not_before(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with (
        database.scheduler(works, poll=NO_POLL) as scheduler,
        calling(database, name) as caller,
    ):
        handle = await scheduler.schedule("note", {"n": 7}, connection=caller.given)
        many = await scheduler.schedule_many(
            [("note", {"n": n}) for n in (8, 9)], connection=caller.given
        )
        with pytest.raises(TaskNotFound):
            await handle.info()
        await scheduler.claim(["none"])  # a look at the database by this node's own threads
        with pytest.raises(TaskNotFound):
            await many[0].info()
        await caller.commit()
        if name == "raw":
            scheduler.wake()
        results = [await item.result(timeout=PATIENCE) for item in (handle, *many)]

    assert results == [7, 8, 9]
    assert handle.created


@pytest.mark.parametrize(("kind", "name"), EVERY)
async def test_what_is_rolled_back_was_never_there(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with database.scheduler(works, queues=[]) as scheduler:
        async with calling(database, name) as caller:
            gone = await scheduler.schedule(
                "note", {"n": 1}, unique="k", id=_an_id(1), connection=caller.given
            )
            await caller.rollback()
            kept = await scheduler.schedule("note", {"n": 2}, connection=caller.given)
            savepoint = await caller.savepoint()
            undone = await scheduler.schedule("note", {"n": 3}, connection=caller.given)
            await savepoint.rollback()
            await caller.commit()
        for handle in (gone, undone):
            with pytest.raises(TaskNotFound):
                await handle.info()
        assert (await kept.info()).status == "scheduled"
        assert await scheduler.counts() == {"scheduled": 1, "working": 0, "parked": 0}
        assert (await scheduler.schedule("note", {"n": 1}, unique="k")).created


@pytest.mark.parametrize(("kind", "name"), EVERY)
async def test_keys_and_ids_count_inside_the_transaction(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with database.scheduler(works, queues=[]) as scheduler:
        there = await scheduler.schedule("note", {"n": 1}, unique="k", delay=60)
        async with calling(database, name) as caller:
            given = caller.given
            with pytest.raises(DuplicateTask) as caught:
                await scheduler.schedule("note", {"n": 2}, unique="k", connection=given)
            met = await scheduler.schedule(
                "note", {"n": 3}, unique="k", on_conflict="return", connection=given
            )
            replaced = await scheduler.schedule(
                "note", {"n": 4}, unique="k", on_conflict="replace", priority=5, connection=given
            )
            first = await scheduler.schedule("note", {"n": 5}, id=_an_id(5), connection=given)
            again = await scheduler.schedule(
                "note", {"n": 5}, id=_an_id(5), on_conflict="return", connection=given
            )
            await caller.commit()
        info = await there.info()

    assert caught.value.task_id == there.id
    assert (met.id, met.created, replaced.id, replaced.created) == (
        there.id,
        False,
        there.id,
        False,
    )
    assert (first.created, again.created, again.id) == (True, False, first.id)
    assert (info.params, info.priority) == ({"n": 4}, 5)


@pytest.mark.parametrize(("kind", "name"), THREADED)
async def test_a_thread_keeps_its_connection_to_itself(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with database.scheduler(works, poll=NO_POLL) as scheduler:
        used: set[str] = set()

        def note(*_: Any) -> None:
            used.add(threading.current_thread().name)

        def in_a_thread() -> Any:
            with closing(asyncio.new_event_loop()) as loop:
                return loop.run_until_complete(scenario())

        async def scenario() -> Any:
            async with calling(database, name) as caller:
                given = caller.given
                if name != "raw":
                    engine = given.get_bind() if "session" in name else given.engine
                    event.listen(engine, "before_cursor_execute", note)
                handle = scheduler.blocking.schedule("note", {"n": 1}, connection=given)
                undone = scheduler.blocking.schedule("note", {"n": 2}, unique="u", connection=given)
                await caller.rollback()
                with pytest.raises(TaskNotFound):
                    undone.info()
                (handle,) = scheduler.blocking.schedule_many([("note", {"n": 3})], connection=given)
                await caller.commit()
                if name == "raw":
                    scheduler.blocking.wake()
                return handle.result(timeout=PATIENCE), threading.current_thread().name

        result, mine = await asyncio.to_thread(in_a_thread)

    assert result == 3
    assert used == (set() if name == "raw" else {mine})


def _an_id(n: int) -> str:
    return f"01900000-0000-7000-8000-{n:012d}"


# Sessions of other kinds


async def test_a_commit_tells_once_and_survives_whoever_listens(
    durable: Database, works: WorkRegistry
) -> None:
    """Two schedules, then transactions that have none: SQLAlchemy's events must stay whole."""
    async with durable.scheduler(works, poll=NO_POLL) as scheduler:
        with sync_engine(durable, default_driver(durable)) as engine, Session(engine) as session:
            for _ in range(3):
                handles = [
                    await scheduler.schedule("note", {"n": n}, connection=session) for n in (1, 2)
                ]
                with session.begin_nested():
                    handles.append(await scheduler.schedule("note", {"n": 3}, connection=session))
                session.commit()
                assert [await h.result(timeout=PATIENCE) for h in handles] == [1, 2, 3]
            session.execute(text("select 1"))
            session.commit()


async def test_a_commit_after_the_scheduler_is_gone_is_not_disturbed(
    durable: Database, works: WorkRegistry
) -> None:
    with sync_engine(durable, default_driver(durable)) as engine:
        scheduler = durable.scheduler(works, queues=[])
        await scheduler.start()
        with Session(engine) as session, engine.connect() as conn:
            handle = await scheduler.schedule("note", {"n": 1}, connection=session)
            if durable.kind == "postgres":
                await scheduler.schedule("note", {"n": 1}, connection=conn)
            stopping = asyncio.create_task(scheduler.shutdown())
            if durable.kind == "postgres":
                await stopping
            session.commit()
            conn.commit()
            await stopping
    async with durable.scheduler(works) as other:
        assert await other.handle(handle.id).result(timeout=PATIENCE) == 1


async def test_a_session_within_an_outer_transaction_waits_for_that(
    durable: Database, works: WorkRegistry
) -> None:
    async with durable.scheduler(works, poll=NO_POLL) as scheduler:
        with sync_engine(durable, default_driver(durable)) as engine, engine.connect() as conn:
            outer = conn.begin()
            with Session(conn, join_transaction_mode="create_savepoint") as session:
                handle = await scheduler.schedule("note", {"n": 1}, connection=session)
                session.commit()
            with pytest.raises(TaskNotFound):
                await handle.info()
            outer.commit()
            assert await handle.result(timeout=PATIENCE) == 1


async def test_scoped_sessions_are_those_of_their_thread_or_task(
    durable: Database, works: WorkRegistry
) -> None:
    driver = default_driver(durable)
    async with durable.scheduler(works, poll=NO_POLL) as scheduler:
        with sync_engine(durable, driver) as engine:
            scoped = scoped_session(sessionmaker(engine))

            def in_a_thread() -> Any:
                handle = scheduler.blocking.schedule("note", {"n": 1}, connection=scoped)
                scoped.commit()
                scoped.remove()
                return handle.result(timeout=PATIENCE)

            assert await asyncio.to_thread(in_a_thread) == 1
            handle = await scheduler.schedule("note", {"n": 2}, connection=scoped)
            scoped.commit()
            assert await handle.result(timeout=PATIENCE) == 2
            scoped.remove()
        name = "aiosqlite" if durable.kind == "sqlite" else "asyncpg"
        async with async_engine(durable, name) as async_:
            scoped_too = async_scoped_session(
                async_sessionmaker(async_), scopefunc=asyncio.current_task
            )
            handle = await scheduler.schedule("note", {"n": 3}, connection=scoped_too)
            await scoped_too.commit()
            await scoped_too.remove()
            assert await handle.result(timeout=PATIENCE) == 3


# Strangers


@pytest.mark.parametrize("name", ["psycopg session", "psycopg2 connection", "asyncpg session"])
async def test_a_strangers_open_transaction_holds_up_only_its_own_caller(
    make: Callable[[str], Database],
    works: WorkRegistry,
    stranger: psycopg.Connection,
    await_blocked: Callable[[], None],
    name: str,
) -> None:
    database = make("postgres")
    async with database.scheduler(works, queues=[]) as scheduler, calling(database, name) as caller:
        await scheduler.schedule("note", {"n": 1}, unique="k", connection=stranger)
        held_up = asyncio.create_task(
            scheduler.schedule(
                "note", {"n": 2}, unique="k", on_conflict="return", connection=caller.given
            )
        )
        await asyncio.to_thread(await_blocked)
        assert (await scheduler.schedule("note", {"n": 3}, unique="other")).created
        async with calling(database, name) as another:
            await scheduler.schedule("note", {"n": 4}, unique="o", connection=another.given)
            await another.commit()
        assert not held_up.done()
        stranger.rollback()
        assert (await asyncio.wait_for(held_up, PATIENCE)).created
        await caller.commit()
        assert (await scheduler.counts())["scheduled"] == 3


@pytest.mark.parametrize("name", ["psycopg session", "psycopg2 connection", "raw"])
async def test_a_cancelled_caller_gets_its_connection_back(
    make: Callable[[str], Database],
    works: WorkRegistry,
    stranger: psycopg.Connection,
    await_blocked: Callable[[], None],
    name: str,
) -> None:
    database = make("postgres")
    async with database.scheduler(works, queues=[]) as scheduler, calling(database, name) as caller:
        await scheduler.schedule("note", {"n": 1}, unique="k", connection=stranger)
        held_up = asyncio.create_task(
            scheduler.schedule("note", {"n": 2}, unique="k", connection=caller.given)
        )
        await asyncio.to_thread(await_blocked)
        held_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(held_up, PATIENCE)
        await caller.rollback()
        handle = await scheduler.schedule("note", {"n": 3}, connection=caller.given)
        await caller.commit()
        assert (await handle.info()).params == {"n": 3}
