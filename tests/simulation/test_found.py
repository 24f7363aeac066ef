"""What the simulation has found, each as a test of its own that needs no luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rota.core.holdings import Holdings
from rota.core.task import Claimed
from rota.errors import NodeDead
from rota.storage.memory import MemoryRepository
from rota.storage.nodelife import NodeLife
from rota.storage.sync import Sync
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from rota.testing.manual import ManualKeeper


class SlowAnswer(MemoryRepository):
    """A lot happens between a claim's commit and its answer."""

    meanwhile: Callable[[], object]

    def claim(self, *args: Any, **how: Any) -> list[Claimed]:
        claimed = super().claim(*args, **how)
        self.meanwhile()
        return claimed


class Taken:
    """An intake that notes what it is given."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def room(self) -> tuple[int, int, dict[str, int] | None]:
        return 10, 10, None

    def take(self, node: int, claimed: Sequence[Claimed], received: float) -> None:
        self.ids += [item.id for item in claimed]

    def works(self) -> Sequence[str]:
        return ()


def test_a_claim_answered_after_its_incarnation_died_starts_nothing(fake_clock: FakeClock) -> None:
    """Seed 4455: a task that others had run and cancelled meanwhile was started once more."""
    repository = SlowAnswer(clock=fake_clock)
    life = NodeLife(repository=repository, clock=fake_clock, name="slow", lease=3.0, heartbeat=1.0)
    holdings, intake = Holdings(), Taken()
    sync = Sync(
        repository=repository,
        life=life,
        holdings=holdings,
        intake=intake,
        clock=fake_clock,
        keeper=ManualKeeper(repository=repository, clock=fake_clock),
    )
    life.join()
    task = a_task()
    repository.insert([task])
    dead = life.id

    def others_take_over() -> None:
        fake_clock.advance(4.0)
        assert repository.bury(1, trusted=True) == [dead]
        assert [item.id for item in repository.rescue(10)] == [task.id]
        life.step()  # its heartbeat notices, and joins as another

    repository.meanwhile = others_take_over
    with pytest.raises(NodeDead):
        sync.step()
    assert life.id != dead
    assert intake.ids == []
    assert len(holdings) == 0
    repository.meanwhile = lambda: None
    sync.look()
    sync.step()
    assert intake.ids == [task.id]
