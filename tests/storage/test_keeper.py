"""History past its retention is handed to the archive first: at least once, and nothing is lost."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rota.core.archiving import Archive, ArchivedTask
from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.core.task import Ending, TaskState
from rota.errors import StorageUnavailable
from rota.storage import archiving, keeper
from rota.storage.chores import TIDY, Chores
from rota.storage.keeper import Keeper
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks
from tests.conftest import BACKENDS, Database

DAY = 86_400


class Shelf:
    """An archive in memory, which may refuse."""

    def __init__(self, *, refuses: Callable[[Sequence[ArchivedTask]], bool] = lambda _: False):
        self.batches: list[list[str]] = []
        self.kept: dict[str, ArchivedTask] = {}
        self.asked = 0
        self.refuses = refuses

    def __call__(self, batch: Sequence[ArchivedTask]) -> None:
        self.asked += 1
        if self.refuses(batch):
            raise OSError("the shelf is full")
        self.batches.append([one.task.id for one in batch])
        self.kept |= {one.task.id: one for one in batch}


@pytest.fixture(params=BACKENDS)
def repository(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Iterator[Repository]:
    made = make_database(request.param, fake_clock)
    yield made.repository()
    made.close()


@pytest.fixture
def node(repository: Repository) -> NodeHandle:
    return NodeHandle(repository)


def end(node: NodeHandle, count: int, kind: Ending = Ending.DONE, **task: Any) -> list[str]:
    """Have so many tasks ended, by id."""
    node.repository.insert(some_tasks(count, **task))
    ended: list[str] = []
    while claimed := node.claim(500):
        node.finish(*(ending(one, kind) for one in claimed))
        ended += [one.id for one in claimed]
    return sorted(ended)


def made(repository: Repository, archive: Archive | None, clock: Clock) -> Keeper:
    """The keeper of a node that has said so at its start."""
    if archive is not None:
        repository.keep(archive=True)
    return Keeper(repository=repository, clock=clock, archive=archive)


def test_all_that_is_past_its_time_is_handed_over_and_then_gone(
    repository: Repository, node: NodeHandle, fake_clock: FakeClock
) -> None:
    repository.insert(some_tasks(1))
    node.end(node.claim_only(), Ending.RETRY)
    (retried,) = end(node, 0)
    done, failed = end(node, 500), end(node, 30, Ending.FAILED)
    shelf = Shelf()
    keeping = made(repository, shelf, fake_clock)
    fake_clock.advance(10 * DAY)
    young = end(node, 5)
    keeping.turn(archive=True)
    assert set(shelf.kept) == {retried, *done}
    fake_clock.advance(25 * DAY)
    keeping.turn(archive=True)
    assert set(shelf.kept) == {retried, *done, *failed, *young}
    assert repository.states([retried, *done, *failed, *young]) == {}
    assert set(Counter(one for batch in shelf.batches for one in batch).values()) == {1}
    assert max(map(len, shelf.batches)) <= archiving.MOST
    task, attempts = shelf.kept[retried]
    assert (task.state, task.params) == (TaskState.DONE, {"n": 1})
    assert [one.outcome for one in attempts] == ["retry", "done"]
    assert repository.bodies(done) == {}


def test_a_node_without_the_archive_drops_nothing(
    repository: Repository, node: NodeHandle, fake_clock: FakeClock
) -> None:
    shelf = Shelf()
    archives = made(repository, shelf, fake_clock)
    done = end(node, 3)
    fake_clock.advance(10 * DAY)
    made(repository, None, fake_clock).turn(archive=False)
    archives.turn(archive=False)
    assert repository.states(done).keys() == set(done)
    archives.turn(archive=True)
    assert set(shelf.kept) == set(done)


def test_what_the_archive_did_not_take_stays_and_comes_again(
    repository: Repository,
    node: NodeHandle,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = end(node, 100)
    refused: list[set[str]] = []

    def second(batch: Sequence[ArchivedTask]) -> bool:
        if len(refused) == 0 and shelf.batches:
            refused.append({one.task.id for one in batch})
            return True
        return False

    shelf = Shelf(refuses=second)
    keeping = made(repository, shelf, fake_clock)
    fake_clock.advance(10 * DAY)
    caplog.set_level(logging.INFO, "rota.history")
    keeping.turn(archive=True)
    assert repository.states(done).keys() == refused[0]
    assert set(shelf.kept) == set(done) - refused[0]
    keeping.turn(archive=True)
    assert set(shelf.kept) == set(done)
    assert repository.states(done) == {}
    warned = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert ["the shelf is full" in one.getMessage() for one in warned] == [True]
    assert "goes on after 1 failures" in caplog.text


def test_an_archive_that_is_away_is_not_asked_for_everything_and_told_of_once(
    repository: Repository,
    node: NodeHandle,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = end(node, 700)
    shelf = Shelf(refuses=lambda _: True)
    keeping = made(repository, shelf, fake_clock)
    fake_clock.advance(10 * DAY)
    for _ in range(3):
        keeping.turn(archive=True)
    assert shelf.asked == 3 * keeper.TRIES
    assert repository.states(done).keys() == set(done)
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    shelf.refuses = lambda _: False
    keeping.turn(archive=True)
    assert set(shelf.kept) == set(done)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_whatever_the_archive_raises_the_turn_goes_on(
    repository: Repository, node: NodeHandle, fake_clock: FakeClock, error: BaseException
) -> None:
    def rude(batch: Sequence[ArchivedTask]) -> None:
        raise error

    done = end(node, 1)
    keeping = made(repository, rude, fake_clock)
    fake_clock.advance(10 * DAY)
    keeping.turn(archive=True)
    assert repository.states(done).keys() == set(done)


def test_a_task_that_runs_again_while_the_archive_has_it_stays(
    repository: Repository, node: NodeHandle, fake_clock: FakeClock
) -> None:
    first, second = end(node, 2, Ending.FAILED)
    shelf = Shelf()

    def slow(batch: Sequence[ArchivedTask]) -> None:
        shelf(batch)
        if len(shelf.batches) == 1:
            repository.retry_many([first])
            node.end(node.claim_only())

    keeping = made(repository, slow, fake_clock)
    fake_clock.advance(40 * DAY)
    keeping.turn(archive=True)
    assert set(shelf.kept) == {first, second}
    assert repository.states([second]) == {}
    again = repository.get(first)
    assert again is not None
    assert again.state is TaskState.DONE
    fake_clock.advance(40 * DAY)
    keeping.turn(archive=True)
    assert shelf.kept[first].task == again


def test_a_turn_that_is_ended_leaves_the_rest_to_another_node(
    repository: Repository, node: NodeHandle, fake_clock: FakeClock
) -> None:
    done = end(node, 100)
    first, second = Shelf(), Shelf()
    one, other = (made(repository, shelf, fake_clock) for shelf in (first, second))
    fake_clock.advance(10 * DAY)
    one.turn(archive=True, going=lambda: not first.batches)
    assert 0 < len(first.kept) < 100
    assert repository.states(done).keys() == set(done) - set(first.kept)
    other.turn(archive=True)
    assert set(first.kept) | set(second.kept) == set(done)
    assert not set(first.kept) & set(second.kept)
    assert repository.states(done) == {}


def test_batches_of_heavy_tasks_are_small(
    repository: Repository,
    node: NodeHandle,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archiving, "BYTES", 1_000)
    end(node, 60, params='{"text": "' + 200 * "x" + '"}')
    shelf = Shelf()
    keeping = made(repository, shelf, fake_clock)
    fake_clock.advance(10 * DAY)
    keeping.turn(archive=True)
    assert len(shelf.kept) == 60
    # Below five they would weigh less, so they grow again.
    assert [len(batch) for batch in shelf.batches][:5] == [20, 10, 5, 2, 4]


def test_history_that_waits_for_an_archive_nobody_has_is_told_of_once(
    repository: Repository,
    node: NodeHandle,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repository.keep(archive=True)
    keeping = made(repository, None, fake_clock)
    end(node, 1)
    fake_clock.advance(7.5 * DAY)
    keeping.turn(archive=False)
    assert caplog.records == []
    fake_clock.advance(2 * DAY)
    for _ in range(2):
        keeping.turn(archive=False)
    assert ["wait for the archive" in one.getMessage() for one in caplog.records] == [True]


class _Alone:
    """A living node and nothing held, as far as the chores ask."""

    id = 4711
    trusted = True

    def knows(self, batch: int) -> bool:
        return True


class _Turns(Keeper):
    """Says which turns would begin."""

    def __init__(self, clock: Clock, repository: Repository, archive: Archive | None) -> None:
        super().__init__(repository=repository, clock=clock, archive=archive)
        self.begun: list[bool] = []

    def begin(self, *, archive: bool) -> None:
        self.begun.append(archive)


def test_of_several_nodes_one_at_a_time_archives_and_one_tidies() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    alone: Any = _Alone()
    shelf = Shelf()
    keepers = [_Turns(clock, repository, archive) for archive in (None, None, shelf, shelf, None)]
    chores = [
        Chores(
            repository=repository,
            life=alone,
            holdings=alone,
            clock=clock,
            on_rescued=lambda _: 0,
            keeper=one,
        )
        for one in keepers
    ]
    for one in chores:
        one.tidy()
    # Nodes without an archive, however many, are not in the way of those that have one.
    assert [one.begun for one in keepers] == [[False], [], [True], [], []]
    clock.advance(TIDY / 2)
    for one in reversed(chores):
        one.tidy()
    assert [one.begun for one in keepers] == [[False], [], [True], [True], [False]]


def test_what_was_left_over_is_done_sooner() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    alone: Any = _Alone()
    one = _Turns(clock, repository, None)
    chores = Chores(
        repository=repository,
        life=alone,
        holdings=alone,
        clock=clock,
        on_rescued=lambda _: 0,
        keeper=one,
    )
    assert chores.tidy() == TIDY
    one.behind = True
    assert chores.tidy() == TIDY / 3


def test_while_a_turn_is_on_no_other_begins() -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    node = NodeHandle(repository)
    end(node, 1)
    begun, go_on = threading.Event(), threading.Event()
    asked = []

    def slow(batch: Sequence[ArchivedTask]) -> None:
        asked.append(batch)
        begun.set()
        go_on.wait(30)

    keeping = made(repository, slow, clock)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    assert begun.wait(30)
    keeping.begin(archive=True)
    keeping.stop()
    go_on.set()
    keeping.join(30)
    assert len(asked) == 1
    assert "rota-keeper" not in {thread.name for thread in threading.enumerate()}
    end(node, 1)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    keeping.join(30)
    assert len(asked) == 2


def test_an_archive_that_does_not_answer_at_shutdown_is_left_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    end(NodeHandle(repository), 3)
    begun, go_on = threading.Event(), threading.Event()

    def stuck(batch: Sequence[ArchivedTask]) -> None:
        begun.set()
        go_on.wait(30)

    keeping = made(repository, stuck, clock)
    clock.advance(10 * DAY)
    keeping.begin(archive=True)
    assert begun.wait(30)
    keeping.stop()
    keeping.join(0)
    assert "has not answered for 3 tasks at shutdown" in caplog.text
    go_on.set()
    keeping.join(30)


def test_a_turn_goes_on_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = MemoryRepository(clock=clock)
    old = end(NodeHandle(repository), 1)
    keeping = made(repository, None, clock)
    clock.advance(10 * DAY)
    tidy, asked = repository.tidy, []

    def away_at_first() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise StorageUnavailable("away")
        return tidy()

    monkeypatch.setattr(repository, "tidy", away_at_first)
    keeping.begin(archive=False)
    clock.block_until(1)
    clock.advance(1)
    keeping.join(30)
    assert repository.states(old) == {}
    assert not keeping.behind
