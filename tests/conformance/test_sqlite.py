"""The SQLite repository keeps every promise of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.storage.sqlite import SQLiteRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance import RepositoryContract
from rota.testing.conformance.setting import OpenRepository


class TestSQLite(RepositoryContract):
    @pytest.fixture
    def open_repository(self, tmp_path: Path, clock: FakeClock) -> Iterator[OpenRepository]:
        opened: list[SQLiteRepository] = []

        def open_another() -> SQLiteRepository:
            repository = SQLiteRepository(tmp_path / "rota.db", clock=clock, synchronous="OFF")
            repository.open()
            opened.append(repository)
            return repository

        yield open_another
        for repository in opened:
            repository.close()
