"""PostgreSQL for tests: a server per pytest process, a schema per test."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from rota.core.clock import Clock
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.postgres_server import PostgresServer

PATIENCE = 20.0
OpenPostgres = Callable[..., PostgresRepository]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """``ROTA_TEST_POSTGRES_URL``, or a server of our own."""
    given = os.environ.get("ROTA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with PostgresServer() as server:
        yield server.url


class Schemas:
    """Schemas of this process: emptied and given out again, since making one takes longer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._admin = psycopg.connect(url, autocommit=True)
        self._admin.execute("set client_min_messages = warning")
        self._admin.execute("set lock_timeout = '10s'")
        self._numbers = itertools.count()
        self._clean: list[tuple[str, list[str]]] = []

    def name(self) -> str:
        """A name no schema has yet."""
        return f"test_{os.getpid()}_{next(self._numbers)}"

    def drop(self, name: str) -> None:
        self._admin.execute(f'drop schema if exists "{name}" cascade')

    def take(self) -> tuple[str, list[str]]:
        """An empty schema with rota's tables, and what those are."""
        if self._clean:
            return self._clean.pop()
        name = self.name()
        repository = PostgresRepository(self._url, clock=FakeClock(), schema=name)
        repository.upgrade()
        repository.close()
        return name, self._relations(name)

    def give_back(self, name: str, relations: list[str]) -> None:
        """Empty it for the next test, or drop it if the test changed its tables."""
        if self._relations(name) != relations:
            self.drop(name)
            return
        emptied = [table for table in relations if table != "rota_schema"]
        self._admin.execute("; ".join(f'delete from "{name}"."{t}"' for t in emptied))
        self._clean.append((name, relations))

    def close(self) -> None:
        for name, _ in self._clean:
            self.drop(name)
        self._admin.close()

    def _relations(self, name: str) -> list[str]:
        rows = self._admin.execute(
            "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = %s and c.relkind in ('r', 'p')"
            " order by c.relkind desc, c.relname",
            (name,),
        )
        return [row[0] for row in rows]


@pytest.fixture(scope="session")
def postgres_schemas(postgres_url: str) -> Iterator[Schemas]:
    schemas = Schemas(postgres_url)
    yield schemas
    schemas.close()


@pytest.fixture
def empty_schema(postgres_schemas: Schemas) -> Iterator[str]:
    """The name of a schema that does not exist yet and is dropped afterwards."""
    name = postgres_schemas.name()
    yield name
    postgres_schemas.drop(name)


@pytest.fixture
def postgres_schema(postgres_schemas: Schemas) -> Iterator[str]:
    """A schema with rota's tables, empty."""
    name, relations = postgres_schemas.take()
    yield name
    postgres_schemas.give_back(name, relations)


@pytest.fixture
def open_postgres(postgres_url: str, postgres_schema: str) -> Iterator[OpenPostgres]:
    """Opens handles on this test's schema, by ``open_postgres(clock, **options)``."""
    opened: list[PostgresRepository] = []

    def open_another(clock: Clock, **options: object) -> PostgresRepository:
        repository = PostgresRepository(
            postgres_url,
            clock=clock,
            schema=postgres_schema,
            **options,  # type: ignore[arg-type]
        )
        repository.open()
        opened.append(repository)
        return repository

    yield open_another
    for repository in opened:
        repository.close()


@pytest.fixture
def stranger(postgres_url: str, postgres_schema: str) -> Iterator[psycopg.Connection]:
    """A connection that is not rota's, on this test's schema, in a transaction of its own."""
    with psycopg.connect(postgres_url, options=f"-c search_path={postgres_schema}") as connection:
        yield connection


@pytest.fixture
def await_blocked(postgres_url: str, postgres_schema: str) -> Iterator[Callable[[], None]]:
    """Returns once a statement on this test's tables waits for a lock."""
    query = (
        "select count(*) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
        " and strpos(query, %s) > 0"
    )
    with psycopg.connect(postgres_url, autocommit=True) as watcher:

        def wait() -> None:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                row = watcher.execute(query, (postgres_schema,)).fetchone()
                if row is not None and row[0]:
                    return
            pytest.fail("nothing is blocked")

        yield wait
