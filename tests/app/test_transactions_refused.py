"""What cannot take part in a caller's transaction is refused, and told what can."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from rota import Scheduler, TaskSpec, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.errors import InvalidArgument, StorageUnavailable
from tests.app.callers import default_driver, sync_engine
from tests.conftest import Database


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


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    opened: list[Any] = []

    def open_(name: str) -> Any:
        if name == "sqlite3":
            opened.append(sqlite3.connect(tmp_path / "s.db"))
        elif name == "engine":
            return create_engine("sqlite://")
        elif name == "sessionmaker":
            return sessionmaker()
        else:
            return object()
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.mark.parametrize("name", ["sqlite3", "engine", "sessionmaker", "object"])
async def test_what_is_no_connection_is_told_what_is(
    durable: Database, works: WorkRegistry, strange: Callable[[str], Any], name: str
) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        with pytest.raises(InvalidArgument, match="AsyncSession, or a psycopg") as caught:
            await scheduler.schedule("note", {"n": 1}, connection=strange(name))
        assert caught.value.field == "connection"
        with pytest.raises(InvalidArgument, match="AsyncSession, or a psycopg"):
            await asyncio.to_thread(
                scheduler.blocking.schedule, "note", {"n": 1}, connection=strange(name)
            )


async def test_psycopgs_asynchronous_connection_is_told_the_way(
    make: Callable[[str], Database], works: WorkRegistry
) -> None:
    database = make("postgres")
    async with (
        database.scheduler(works, queues=[]) as scheduler,
        await psycopg.AsyncConnection.connect(str(database.target)) as given,
    ):
        with pytest.raises(InvalidArgument, match="through SQLAlchemy only"):
            await scheduler.schedule("note", {"n": 1}, connection=given)


async def test_memory_has_no_transactions_to_join(works: WorkRegistry) -> None:
    async with Scheduler(works) as scheduler:
        with Session(create_engine("sqlite://")) as session, pytest.raises(InvalidArgument) as told:
            await scheduler.schedule("note", {"n": 1}, connection=session)
        assert "memory" in str(told.value)
        assert (await scheduler.counts())["scheduled"] == 0


async def test_soon_cannot_wait_for_a_transaction(durable: Database, works: WorkRegistry) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        with (
            sync_engine(durable, default_driver(durable)) as engine,
            Session(engine) as session,
            pytest.raises(InvalidArgument, match="use schedule"),
        ):
            await scheduler.schedule_soon("note", {"n": 1}, connection=session)


async def test_sqlite_tells_how_to_begin(
    make: Callable[[str], Database], works: WorkRegistry, tmp_path: Path
) -> None:
    database = make("sqlite")
    async with database.scheduler(works, queues=[]) as scheduler:
        engine = create_engine(str(database.target))
        with Session(engine) as session, pytest.raises(InvalidArgument, match="BEGIN IMMEDIATE"):
            await scheduler.schedule("note", {"n": 1}, connection=session)
        engine.dispose()
        other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
        with Session(other) as session, pytest.raises(InvalidArgument, match="are in"):
            await scheduler.schedule("note", {"n": 1}, connection=session)
        other.dispose()


async def test_another_database_is_refused(
    make: Callable[[str], Database], works: WorkRegistry, tmp_path: Path
) -> None:
    database = make("postgres")
    async with database.scheduler(works, queues=[]) as scheduler:
        with (
            Session(create_engine("sqlite://")) as session,
            pytest.raises(InvalidArgument, match="sqlite, but the tasks are in postgresql"),
        ):
            await scheduler.schedule("note", {"n": 1}, connection=session)


async def test_a_sqlite_session_that_was_overtaken_is_told_so(
    make: Callable[[str], Database], works: WorkRegistry
) -> None:
    database = make("sqlite")
    async with database.scheduler(works, queues=[]) as scheduler:
        with sync_engine(database, "pysqlite") as holding, holding.connect() as writer:
            await scheduler.schedule("note", {"n": 1}, connection=writer)
            engine = create_engine(str(database.target), connect_args={"timeout": 0.0})
            with engine.connect() as late:
                late.exec_driver_sql("BEGIN")
                with pytest.raises(StorageUnavailable, match="roll back and try again"):
                    await scheduler.schedule("note", {"n": 2}, connection=late)
            engine.dispose()
            writer.rollback()


async def test_connections_of_one_call_must_be_one(durable: Database, works: WorkRegistry) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        with (
            sync_engine(durable, default_driver(durable)) as engine,
            Session(engine) as session,
            pytest.raises(InvalidArgument, match="differs between the tasks"),
        ):
            await scheduler.schedule_many(
                [TaskSpec("note", {"n": 1}, {"connection": session}), ("note", {"n": 2})]
            )
