"""History past its retention is handed to the archive first: at least once, and nothing is lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from rota.core.archiving import ArchivedTask
from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.core.task import Ending, TaskState
from rota.storage import archiving, keeper
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks
from tests.app.audits import by_hand
from tests.conftest import BACKENDS, Database
from tests.storage.shelf import DAY, Shelf, end, made


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


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("table", "column"),
    [("rota_body", "params"), ("rota_done", "payload"), ("rota_attempt", "error")],
)
def test_a_task_that_cannot_be_read_stays_and_is_in_nobodys_way(
    kind: str,
    table: str,
    column: str,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = make_database(kind, fake_clock)
    repository = database.repository()
    node = NodeHandle(repository)
    repository.insert(some_tasks(30))
    node.finish(*(ending(one, Ending.RETRY) for one in node.claim(30)))
    done = end(node, 0)
    first, last = done[7], done[-1]
    by_hand(database, f"update {table} set {column} = '{{' where id in ('{first}', '{last}')")
    shelf = Shelf()
    keeping = made(repository, shelf, fake_clock)
    fake_clock.advance(10 * DAY)
    for _ in range(2):
        keeping.turn(archive=True)
    assert set(shelf.kept) == set(done) - {first, last}
    assert repository.states(done).keys() == {first, last}
    assert sorted(one.task_id for one in caplog.records) == [first, last]
    assert f"task {first} is damaged: stored JSON" in caplog.text
    database.close()
