"""The memory repository against the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ports import Repository
from rota.storage.memory import MemoryRepository
from rota.testing import FakeClock
from rota.testing.conformance import RepositoryContract


class TestMemoryRepository(RepositoryContract):
    @pytest.fixture
    def open_repository(self, clock: FakeClock) -> Callable[[], Repository]:
        repository = MemoryRepository(clock=clock)
        return lambda: repository


def test_it_is_a_repository() -> None:
    assert isinstance(MemoryRepository(clock=FakeClock()), Repository)
