"""Chores are done when a glance shows the need, and no oftener after an error."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rota.core.glance import Glance
from rota.core.task import Membership
from rota.errors import StorageError
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from tests.app.audits import Alone, lone_chores


def test_a_chore_that_failed_has_its_time_before_a_glance_brings_it_back() -> None:
    clock, tried = FakeClock(), list[str]()
    repository = MemoryRepository(clock=clock)
    chores = lone_chores(repository, clock, Alone(1))

    def expire(limit: int) -> list[str]:
        tried.append("expire")
        raise StorageError("permission denied; this is a test")

    repository.expire = expire  # type: ignore[method-assign]
    for _ in range(4):
        chores.see(Glance(overdue=True))
        with suppress(StorageError):
            chores.step()
        clock.advance(0.3)
    assert tried == ["expire"]
    clock.advance(0.3)
    with pytest.raises(StorageError):
        chores.step()


def test_who_is_declared_dead_is_named(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    repository.join(Membership(7, "web-3", "host-a", 4711, 30.0))
    clock.advance(60)
    repository.join(Membership(1, "web-4", "host-b", 12, 3600.0))
    chores = lone_chores(repository, clock, Alone(1))
    chores.bury()
    assert caplog.messages == ["node web-3 (7) on host-a is dead; its tasks are taken back"]
