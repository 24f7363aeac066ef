"""What keeps a healthy node alive, and claiming, when the database falters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.glance import Glance
from rota.errors import StorageError, StorageUnavailable
from rota.storage.nodelife import NodeLife
from rota.storage.open import open_repository
from rota.storage.sqlite import SQLiteRepository
from rota.testing.clock import FakeClock
from tests.conftest import Database


@pytest.fixture
def repository(tmp_path: Path, fake_clock: FakeClock) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "rota.db", clock=fake_clock)
    made.open()
    yield made
    made.close()


@pytest.fixture
def life(repository: SQLiteRepository, fake_clock: FakeClock) -> NodeLife:
    """A node of the shortest lease, joined."""
    made = NodeLife(repository=repository, clock=fake_clock, heartbeat=1.0, lease=3.0)
    made.join()
    return made


def test_who_is_late_does_not_judge_others(life: NodeLife, fake_clock: FakeClock) -> None:
    assert life.trusted
    fake_clock.advance(1.6)  # an outage has begun: half a lease without a heartbeat
    assert life.may_start
    assert not life.trusted
    life.step()  # it is over, and the others need time to say that they live
    assert life.may_start
    assert not life.trusted
    for _ in range(4):
        fake_clock.advance(0.7)
        life.step()
        assert not life.trusted
    fake_clock.advance(0.3)
    assert life.trusted


def test_heartbeats_at_half_a_lease_are_not_late(
    repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    slow = NodeLife(repository=repository, clock=fake_clock, heartbeat=2.0, lease=4.0)
    slow.join()
    for _ in range(4):
        fake_clock.advance(2.1)
        slow.step()
        assert slow.trusted


def test_that_a_node_may_start_again_is_told_when_it_may(
    repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    told: list[bool] = []
    life = NodeLife(
        repository=repository,
        clock=fake_clock,
        heartbeat=1.0,
        lease=3.0,
        on_may_start=lambda: told.append(life.may_start),
    )
    life.join()
    assert told == [True]
    fake_clock.advance(2.0)
    life.step()
    assert told == [True]  # it might all the time
    fake_clock.advance(3.0)
    assert not life.may_start
    life.step()
    assert told == [True] * 2
    repository.leave(life.id)
    life.suspect()
    life.step()  # it is dead, and joins as another
    assert told == [True] * 3


def test_a_node_whose_session_was_ended_beats_before_its_time(
    life: NodeLife, repository: SQLiteRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []
    monkeypatch.setattr(repository, "beat", lambda node, _: beats.append(node) or True)
    life.step()
    assert beats == []
    monkeypatch.setattr(repository, "cut_off", lambda: True)
    life.step()
    assert beats == [life.id]


def test_a_beat_that_was_answered_after_a_lease_permits_nothing(
    repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    told: list[bool] = []
    life = NodeLife(
        repository=repository,
        clock=fake_clock,
        heartbeat=1.0,
        lease=3.0,
        on_may_start=lambda: told.append(life.may_start),
    )
    life.join()
    told.clear()
    beat = repository.beat

    def slow(node: int, lease: float) -> bool:
        answer = beat(node, lease)
        fake_clock.advance(2.8)
        return answer

    repository.beat = slow  # type: ignore[method-assign]
    fake_clock.advance(1.0)
    life.step()
    assert (life.may_start, told) == (False, [])
    repository.beat = beat  # type: ignore[method-assign]
    life.step()
    assert told == [True]


def test_after_trouble_the_next_beat_comes_at_once(
    life: NodeLife, repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    repository.close()
    with pytest.raises(StorageUnavailable):
        life.step()
    repository.open()
    fake_clock.advance(0.5)
    life.step()
    (view,) = repository.nodes()
    assert view.lease_left == pytest.approx(3.0)


def test_in_an_outage_the_heartbeat_never_pauses_for_long(
    life: NodeLife, repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    repository.close()
    tried = threading.Semaphore(0)
    beat = repository.beat

    def counted(node: int, lease: float) -> bool:
        tried.release()
        return beat(node, lease)

    repository.beat = counted  # type: ignore[method-assign]
    fake_clock.advance(1.0)
    life.duty.start()
    try:
        for _ in range(20):
            assert tried.acquire(timeout=20)
            fake_clock.block_until(1)
            fake_clock.advance(0.3)  # a tenth of the lease
    finally:
        life.duty.stop()
        assert life.duty.join(20)


async def test_a_chore_that_fails_does_not_stand_before_claims(
    durable: Database, works: WorkRegistry
) -> None:
    @works.register("note")
    async def note(n: int) -> int:
        return n

    assert isinstance(durable.target, str)
    repository = open_repository(durable.target, clock=durable.clock, **durable.options)
    failed = threading.Semaphore(0)
    async with Scheduler(works, repository, lease=3, heartbeat=1) as scheduler:

        def bury(node: int, *, trusted: bool) -> list[int]:
            failed.release()
            raise StorageError("permission denied; this is a test")

        def suspicious(node: int, queues: Sequence[str] | None) -> Glance:
            return glance(node, queues)._replace(dead=True)

        glance = repository.glance
        repository.bury = bury  # type: ignore[method-assign]
        repository.glance = suspicious  # type: ignore[method-assign]
        assert await asyncio.to_thread(failed.acquire, timeout=20)
        for n in range(3):
            handle = await scheduler.schedule("note", {"n": n}, delay=0.5)
            assert await handle.result(timeout=20) == n
