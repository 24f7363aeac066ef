"""What the contract cannot see of the memory repository: it stays small and keeps its order."""

from __future__ import annotations

import pytest

from rota.core.ports import Repository
from rota.core.retention import Retention
from rota.core.task import Ending
from rota.storage.memory import MemoryRepository
from rota.storage.memory.lanes import Lane
from rota.testing import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks


def take(lane: Lane, *, ready: int = 10, ahead: int = 0, now: int = 0, since: int = 0) -> list[str]:
    return lane.take(ready=ready, ahead=ahead, now=now, until=now + 100, since=since)


def test_of_one_moment_the_smaller_id_comes_first() -> None:
    lane = Lane()
    for name in ("c", "a", "b"):
        lane.put(name, 5)
    assert take(lane, now=5) == ["a", "b", "c"]
    assert len(lane) == 0


def test_a_moved_task_is_found_at_its_new_place_only() -> None:
    lane = Lane()
    lane.put("a", 5)
    lane.put("b", 6)
    lane.put("a", 7)
    lane.put("a", 5)
    lane.put("a", 8)
    assert lane.first(0) == 6
    assert take(lane, now=10) == ["b", "a"]
    assert take(lane, now=10) == []


def test_what_a_cursor_passes_over_is_still_there() -> None:
    lane = Lane()
    for n in range(5):
        lane.put(str(n), n)
    assert take(lane, now=10, since=3) == ["3", "4"]
    assert lane.first(10) == 0
    assert take(lane, now=10) == ["0", "1", "2"]


def test_discarded_entries_do_not_pile_up() -> None:
    lane = Lane()
    lane.put("kept", 10_000)
    for n in range(5000):
        lane.put(f"gone-{n}", n)
        lane.discard(f"gone-{n}")
    assert len(lane._due) + len(lane._later) <= 200
    assert take(lane, now=20_000) == ["kept"]


def test_moved_entries_do_not_pile_up() -> None:
    lane = Lane()
    for n in range(5000):
        lane.put("a", n)
    assert len(lane._due) + len(lane._later) <= 200


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository(clock: FakeClock) -> Repository:
    made = MemoryRepository(clock=clock)
    made.keep(Retention(done=86_400, failed=2 * 86_400))
    return made


def test_nothing_remains_of_tasks_past_their_retention(
    repository: MemoryRepository, clock: FakeClock
) -> None:
    node = NodeHandle(repository)
    repository.insert([a_task(unique=f"k{n}", queue=f"q{n}", expires_in=60) for n in range(9)])
    for n in range(9):
        claimed = node.claim_only(queue=f"q{n}")
        repository.cancel(claimed.id, "no")
        kinds = (Ending.DONE, Ending.FAILED, Ending.PARK)
        node.finish(ending(claimed, kinds[n % 3]))
    clock.advance(3 * 86_400)
    repository.expire(100)
    repository.tidy()
    book = repository._book
    rest = [book.rows, book.lanes, book.parked, book.keys, book.expiring, book.attempts]
    assert not any(map(len, rest))
    assert not any(map(len, book.ended.values()))
    assert not any(map(len, book.leases.values()))
    assert not any(map(len, book.asked.values()))
    assert book.working == 0


def test_retention_is_settable(repository: MemoryRepository, clock: FakeClock) -> None:
    node = NodeHandle(repository)
    repository.insert(some_tasks(2))
    done, failed = node.claim()
    node.finish(ending(done, Ending.DONE), ending(failed, Ending.FAILED))
    clock.advance(1.5 * 86_400)
    repository.tidy()
    assert repository.get(done.id) is None
    assert repository.get(failed.id) is not None
