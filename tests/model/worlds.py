"""The three repositories as the machines see them: two handles, one clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rota.core.ports import Repository
from rota.storage.memory import MemoryRepository
from rota.storage.sqlite import SQLiteRepository
from rota.testing.clock import FakeClock


@dataclass(frozen=True, kw_only=True)
class World:
    """Two nodes' handles on one database."""

    clock: FakeClock
    handles: tuple[Repository, Repository]


MakeWorld = Callable[[], World]


def memory_worlds(kind: type[MemoryRepository] = MemoryRepository) -> MakeWorld:
    """A new one each time."""

    def make() -> World:
        clock = FakeClock()
        repository = kind(clock=clock)
        return World(clock=clock, handles=(repository, repository))

    return make


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    clock = FakeClock()
    first, second = (
        SQLiteRepository(tmp_path / "rota.db", clock=clock, synchronous="OFF") for _ in range(2)
    )
    for one in (first, second):
        one.open()
    yield World(clock=clock, handles=(first, second))
    for one in (first, second):
        one.close()


@pytest.fixture
def postgres_world(open_postgres: Callable[..., Repository]) -> World:
    clock = FakeClock()
    return World(clock=clock, handles=(open_postgres(clock), open_postgres(clock)))
