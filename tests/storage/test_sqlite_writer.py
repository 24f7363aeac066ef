"""One writer for many callers: shared commits, heartbeats first, failures that stay alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from rota.core.clock import SystemClock
from rota.core.task import Membership, Stored
from rota.errors import DataRefused, StorageUnavailable
from rota.storage.sqlite import SQLiteRepository
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.signals import OFTENEST, SELDOMEST, SELDOMEST_ALONE
from rota.storage.sqlite.writer import Writer
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task, some_tasks

PATIENCE = 20.0


class Held:
    """The writer, held inside an act until told to go on."""

    def __init__(self, writer: Writer, pool: ThreadPoolExecutor) -> None:
        self.writer = writer
        self._pool = pool
        self._inside, self._go = threading.Event(), threading.Event()
        self._holding = pool.submit(writer.write, lambda _: self._hold())
        assert self._inside.wait(PATIENCE)

    def _hold(self) -> None:
        self._inside.set()
        assert self._go.wait(PATIENCE)

    def hand_in(self, call: Callable[[], object]) -> Future[object]:
        """Make the call in a thread; returns once the writer has it in its queue."""
        before = self._queued()
        future = self._pool.submit(call)
        with self.writer._waiting:
            assert self.writer._waiting.wait_for(lambda: self._queued() > before, PATIENCE)
        return future

    def release(self) -> None:
        self._go.set()
        self._holding.result(PATIENCE)

    def _queued(self) -> int:
        return len(self.writer._urgent) + len(self.writer._rest)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteRepository]:
    # The hold counts as part of the group: on a busy machine it would use up the group's time.
    monkeypatch.setattr("rota.storage.sqlite.writer._GROUP_SECONDS", PATIENCE)
    made = SQLiteRepository(tmp_path / "a.db", clock=SystemClock(), statement_timeout=PATIENCE)
    made.open()
    yield made
    made.close()


@pytest.fixture
def hold(repository: SQLiteRepository) -> Iterator[Callable[[], Held]]:
    with ThreadPoolExecutor(40) as pool:
        yield lambda: Held(repository._writer, pool)


def test_many_callers_share_one_commit(
    repository: SQLiteRepository, hold: Callable[[], Held]
) -> None:
    tasks = some_tasks(20)
    held = hold()
    commits = repository._writer.commits
    futures = [held.hand_in(lambda task=task: repository.insert([task])) for task in tasks]
    held.release()
    answers = [future.result(PATIENCE) for future in futures]
    assert all(answer[0].created for answer in answers)  # type: ignore[index]
    assert repository._writer.commits == commits + 1
    assert len(repository.states([task.id for task in tasks])) == 20


def test_a_heartbeat_overtakes_what_was_handed_in_before_it(
    repository: SQLiteRepository, hold: Callable[[], Held]
) -> None:
    repository.join(Membership(1, "n", "h", 1, 30.0))
    held = hold()
    seen: list[int] = []

    def look() -> None:
        row = raw(repository._writer._connection).execute("select lease_seconds from rota_node")  # type: ignore[arg-type]
        seen.append(row.fetchone()[0])

    futures = [held.hand_in(lambda: repository._writer.write(lambda _: look())) for _ in range(3)]
    beat = held.hand_in(lambda: repository.beat(1, 77.0))
    held.release()
    assert beat.result(PATIENCE) is True
    for future in futures:
        future.result(PATIENCE)
    assert seen == [77.0] * 3


def test_an_act_that_fails_takes_only_its_own_writes_back(
    repository: SQLiteRepository, hold: Callable[[], Held]
) -> None:
    before, bad, after = some_tasks(2), [a_task(), a_task(params='"\ud800"')], some_tasks(2)
    held = hold()
    commits = repository._writer.commits
    first, failing, last = (
        held.hand_in(lambda tasks=tasks: repository.insert(tasks)) for tasks in (before, bad, after)
    )
    held.release()
    with pytest.raises(DataRefused):
        failing.result(PATIENCE)
    assert len(first.result(PATIENCE)) == len(last.result(PATIENCE)) == 2  # type: ignore[arg-type]
    assert repository._writer.commits == commits + 1
    found = repository.states([task.id for task in (*before, *bad, *after)])
    assert found == {task.id: Stored.SCHEDULED for task in (*before, *after)}


def test_what_its_caller_gave_up_never_runs(tmp_path: Path) -> None:
    hasty = SQLiteRepository(tmp_path / "a.db", clock=SystemClock(), statement_timeout=0.1)
    hasty.open()
    inside, go = threading.Event(), threading.Event()

    def block(_: object) -> None:
        inside.set()
        assert go.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(hasty._writer.write, block)
        assert inside.wait(PATIENCE)
        given_up, kept = a_task(), a_task()
        with pytest.raises(StorageUnavailable, match="nothing was written"):
            hasty.insert([given_up])
        with pytest.raises(StorageUnavailable, match="may still be written"):
            blocking.result(PATIENCE)
        go.set()
    hasty._writer._timeout = PATIENCE
    hasty.insert([kept])
    assert hasty.states([given_up.id, kept.id]) == {kept.id: Stored.SCHEDULED}
    hasty.close()


def test_a_full_disk_refuses_and_then_goes_on(repository: SQLiteRepository) -> None:
    fits, large = a_task(), some_tasks(50, params='"' + "x" * 4000 + '"')
    repository.insert([fits])

    def make_room(pages: int) -> None:
        repository._writer.write(lambda conn: raw(conn).execute(f"pragma max_page_count = {pages}"))

    make_room(40)
    with pytest.raises(StorageUnavailable, match="no room left"):
        repository.insert(large)
    assert repository.states([task.id for task in (fits, *large)]) == {fits.id: Stored.SCHEDULED}
    make_room(1_000_000)
    assert all(answer.created for answer in repository.insert(large))


def test_a_database_locked_by_a_stranger_is_unavailable_until_it_lets_go(tmp_path: Path) -> None:
    repository = SQLiteRepository(tmp_path / "a.db", clock=SystemClock(), statement_timeout=0.3)
    repository.open()
    stranger = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    stranger.execute("begin immediate")
    task = a_task()
    with pytest.raises(StorageUnavailable):
        repository.insert([task])
    assert repository.states([task.id]) == {}
    stranger.execute("rollback")
    stranger.close()
    repository._writer._timeout = PATIENCE
    assert repository.insert([task], repeated=True)[0].state is Stored.SCHEDULED
    repository.close()


def test_a_closed_repository_says_so_and_can_be_opened_again(repository: SQLiteRepository) -> None:
    task = a_task()
    repository.insert([task])
    assert repository.get(task.id) is not None
    repository.close()
    with pytest.raises(StorageUnavailable, match="closed; open it again"):
        repository.insert([a_task()])
    with pytest.raises(StorageUnavailable, match="closed; open it again"):
        repository.get(task.id)
    repository.open()
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}
    assert repository.insert([a_task()])[0].created


def test_readers_of_threads_that_ended_are_closed(repository: SQLiteRepository) -> None:
    for _ in range(5):
        thread = threading.Thread(target=repository.counts)
        thread.start()
        thread.join(PATIENCE)
    assert len(repository._connections._readers or []) == 1


def test_own_commits_wake_nobody_here_but_other_handles(
    repository: SQLiteRepository, tmp_path: Path
) -> None:
    other = SQLiteRepository(tmp_path / "a.db", clock=SystemClock())
    other.open()
    mine, theirs = repository.signals(1), other.signals(2)
    repository.insert([a_task()])
    assert mine.wait(0.0) is None
    assert theirs.wait(PATIENCE) is not None
    assert theirs.wait(0.0) is None
    other.close()


def test_nodes_that_share_a_repository_object_wake_each_other(repository: SQLiteRepository) -> None:
    first, second = repository.signals(1), repository.signals(2)
    first.announce(tasks=["x"])
    assert first.wait(0.0) is None
    assert second.wait(0.0) is not None
    second.close()
    first.announce(tasks=["x"])
    assert second.wait(0.0) is None


def test_a_file_that_has_been_quiet_is_looked_at_less_often(
    repository: SQLiteRepository, fake_clock: FakeClock
) -> None:
    repository._clock = fake_clock
    ear = repository.signals(1)
    pauses: list[float] = []

    class Alarm(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            ear.interrupt()
            return True

    ear._woken = Alarm()
    for quiet in (0.0, 1.0, 3600.0):
        ear._quiet_since = time.monotonic() - quiet
        assert ear.wait(PATIENCE) is None
    ear.hear()
    assert ear.wait(PATIENCE) is not None
    assert ear.wait(PATIENCE) is None
    at_first, later, in_the_end, again = pauses
    assert at_first == again == OFTENEST
    assert OFTENEST < later < in_the_end == SELDOMEST

    ear._quiet_since = time.monotonic() - 3600.0
    for node in (1, 2):
        repository.join(Membership(node, "n", "h", 1, 30.0))
        repository.glance(1, None)
        assert ear.wait(PATIENCE) is None
    assert pauses[-2:] == [SELDOMEST_ALONE, SELDOMEST]

    for gone in (1, 2):
        repository.leave(gone)
    repository.join(Membership(3, "n", "h", 1, 30.0))  # buried, it goes on as another
    repository.glance(3, None)
    assert ear.wait(PATIENCE) is None
    assert pauses[-1] == SELDOMEST_ALONE


def test_an_id_that_is_taken_is_answered_even_if_nobody_expected_it(
    repository: SQLiteRepository,
) -> None:
    taken, fresh = a_task(), a_task()
    repository.insert([taken])
    answers = repository.insert([fresh, taken])
    assert [answer.created for answer in answers] == [True, False]
    assert repository.counts()["scheduled"] == 2
