"""Fixtures for all: the three databases, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.ports import Repository
from rota.storage.memory import MemoryRepository
from rota.storage.open import open_repository
from rota.testing.clock import FakeClock
from tests.postgres_fixtures import *  # noqa: F403 - fixtures are found by name

BACKENDS = ("memory", "sqlite", "postgres")


@dataclass
class Database:
    """One database of a test; every scheduler made from it shares it."""

    kind: str
    target: str | Repository
    clock: Clock
    options: dict[str, Any] = field(default_factory=dict)
    opened: list[Repository] = field(default_factory=list)

    def scheduler(self, works: WorkRegistry, **options: Any) -> Scheduler:
        return Scheduler(
            works, self.target, **{"clock": self.clock, "poll": 1.0, **self.options, **options}
        )

    def repository(self) -> Repository:
        """Another handle on the same database, opened."""
        if not isinstance(self.target, str):
            return self.target
        repository = open_repository(self.target, clock=self.clock, **self.options)
        repository.open()
        self.opened.append(repository)
        return repository

    def close(self) -> None:
        """Close the handles the test has opened."""
        for repository in self.opened:
            repository.close()


@pytest.fixture
def works() -> WorkRegistry:
    return WorkRegistry()


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[str, Clock], Database]:
    def make(kind: str, clock: Clock) -> Database:
        if kind == "memory":
            return Database(kind, MemoryRepository(clock=clock), clock)
        if kind == "sqlite":
            return Database(kind, f"sqlite:///{tmp_path / 'rota.db'}", clock)
        url = request.getfixturevalue("postgres_url")
        schema = request.getfixturevalue("postgres_schema")
        return Database(kind, url, clock, {"schema": schema})

    return make


@pytest.fixture(params=BACKENDS)
def database(
    request: pytest.FixtureRequest, make_database: Callable[[str, Clock], Database]
) -> Iterator[Database]:
    """Each of the three, on the machine's clock."""
    made = make_database(request.param, SystemClock())
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def durable(
    request: pytest.FixtureRequest, make_database: Callable[[str, Clock], Database]
) -> Iterator[Database]:
    """The two that survive, on the machine's clock."""
    made = make_database(request.param, SystemClock())
    yield made
    made.close()
