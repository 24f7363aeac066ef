"""Callers with a transaction of their own on an SQLite file, of every kind that may join."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from rota.core.task import Claimed
from rota.storage.sqlite import SQLiteRepository
from rota.testing.conformance.setting import NodeHandle, a_task


class Transaction(Protocol):
    """What a connection and a session have alike."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def begin_nested(self) -> Any: ...


class Caller(NamedTuple):
    """A caller with its own transaction."""

    connect: Callable[[], Connection]
    transaction: Transaction

    @property
    def connection(self) -> Connection:
        """Asked for anew each time: only then does a session begin its savepoint on it."""
        return self.connect()


Scenario = Callable[[Caller], None]
Run = Callable[[Scenario], None]


def begin_with(engine: Engine, statement: str) -> Engine:
    """SQLAlchemy's recipe for SQLite's transactions, as the error message tells it."""

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _: object) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql(statement)

    return engine


def immediate(engine: Engine) -> Engine:
    """An engine whose transactions may write from their beginning."""
    return begin_with(engine, "BEGIN IMMEDIATE")


def deferred(path: Path) -> Engine:
    """An engine whose transactions ask to write only when they do, and wait for nobody."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.0})
    return begin_with(engine, "BEGIN")


def by_connection(path: Path, scenario: Scenario) -> None:
    engine = immediate(create_engine(f"sqlite:///{path}"))
    with engine.connect() as conn:
        scenario(Caller(lambda: conn, conn))
    engine.dispose()


def by_session(path: Path, scenario: Scenario) -> None:
    engine = immediate(create_engine(f"sqlite:///{path}"))
    with Session(engine) as session:
        scenario(Caller(session.connection, session))
    engine.dispose()


def by_asyncio(path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        immediate(engine.sync_engine)
        async with engine.connect() as conn:
            await conn.run_sync(lambda plain: scenario(Caller(lambda: plain, plain)))
        await engine.dispose()

    asyncio.run(main())


def by_deferred(path: Path, scenario: Scenario) -> None:
    engine = deferred(path)
    with engine.connect() as conn:
        scenario(Caller(lambda: conn, conn))
    engine.dispose()


def by_deferred_asyncio(path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        target = f"sqlite+aiosqlite:///{path}"
        engine = create_async_engine(target, connect_args={"timeout": 0.0})
        begin_with(engine.sync_engine, "BEGIN")
        async with engine.connect() as conn:
            await conn.run_sync(lambda plain: scenario(Caller(lambda: plain, plain)))
        await engine.dispose()

    asyncio.run(main())


def take_one(repository: SQLiteRepository, node: NodeHandle, **fields: Any) -> Claimed:
    return node.claim_one(repository.insert([a_task(**fields)])[0].id)
