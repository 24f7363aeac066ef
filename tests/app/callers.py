"""Callers with a transaction of their own on a scheduler's database, of every kind there is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.conftest import Database

SYNC = {
    "sqlite": ["pysqlite connection", "pysqlite session"],
    "postgres": [
        "psycopg connection",
        "psycopg session",
        "psycopg2 connection",
        "psycopg2 session",
        "raw",
    ],
}
ASYNC = {
    "sqlite": ["aiosqlite connection", "aiosqlite session"],
    "postgres": [
        "asyncpg connection",
        "asyncpg session",
        "async-psycopg connection",
        "async-psycopg session",
    ],
}
EVERY = [(kind, name) for kinds in (SYNC, ASYNC) for kind in kinds for name in kinds[kind]]
THREADED = [(kind, name) for kind in SYNC for name in SYNC[kind]]
_DRIVERS = {
    "pysqlite": "sqlite",
    "aiosqlite": "sqlite+aiosqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "asyncpg": "postgresql+asyncpg",
    "async-psycopg": "postgresql+psycopg_async",
}


class Caller:
    """A connection or session; what it answers is awaited if it is asynchronous."""

    def __init__(self, given: Any) -> None:
        self.given = given

    async def execute(self, statement: str) -> list[Any]:
        raw = isinstance(self.given, psycopg.Connection)
        result = await self._do("execute", statement if raw else text(statement))
        if raw:
            return result.fetchall() if result.description else []
        return list(result.all()) if result.returns_rows else []

    async def commit(self) -> None:
        await self._do("commit")

    async def rollback(self) -> None:
        await self._do("rollback")

    async def savepoint(self) -> Savepoint:
        if isinstance(self.given, psycopg.Connection):
            self.given.execute("savepoint s")
            return Savepoint(lambda: self.given.execute("rollback to s"))
        begun = await self._do("begin_nested")
        return Savepoint(begun.rollback)

    async def _do(self, verb: str, *arguments: Any) -> Any:
        answer = getattr(self.given, verb)(*arguments)
        return await answer if inspect.isawaitable(answer) else answer


class Savepoint:
    def __init__(self, undo: Any) -> None:
        self._undo = undo

    async def rollback(self) -> None:
        answer = self._undo()
        if inspect.isawaitable(answer):
            await answer


@asynccontextmanager
async def calling(database: Database, name: str) -> AsyncIterator[Caller]:
    """A caller of this kind, its transaction begun; it is rolled back unless committed."""
    driver, _, kind = name.partition(" ")
    if name == "raw":
        with psycopg.connect(str(database.target)) as raw:
            yield Caller(raw)
            raw.rollback()
    elif driver in {"aiosqlite", "asyncpg", "async-psycopg"}:
        async with async_engine(database, driver) as engine:
            opened = engine.connect() if kind == "connection" else AsyncSession(engine)
            async with opened as given:
                yield Caller(given)
    else:
        with (
            sync_engine(database, driver) as engine,
            engine.connect() if kind == "connection" else Session(engine) as given,
        ):
            yield Caller(given)


@contextmanager
def sync_engine(database: Database, driver: str) -> Iterator[Engine]:
    engine = create_engine(_url(database, driver))
    if database.kind == "sqlite":
        begin_immediate(engine)
    try:
        yield engine
    finally:
        engine.dispose()


@asynccontextmanager
async def async_engine(database: Database, driver: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(_url(database, driver))
    if database.kind == "sqlite":
        begin_immediate(engine.sync_engine)
    try:
        yield engine
    finally:
        await engine.dispose()


def begin_immediate(engine: Engine) -> None:
    """SQLAlchemy's recipe for SQLite, as the error message tells it."""

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _: object) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def default_driver(database: Database) -> str:
    return "pysqlite" if database.kind == "sqlite" else "psycopg"


def table(database: Database, name: str) -> str:
    """A table of the caller's own, beside rota's."""
    return f'"{database.options["schema"]}".{name}' if database.kind == "postgres" else name


def _url(database: Database, driver: str) -> URL:
    return make_url(str(database.target)).set(drivername=_DRIVERS[driver])
