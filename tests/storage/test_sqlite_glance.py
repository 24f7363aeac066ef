"""A glance at a SQLite file: read anew only when something was written, and never too late."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from rota.core.ids import new_incarnation
from rota.core.task import Membership
from rota.errors import StorageUnavailable
from rota.storage.sqlite import SQLiteRepository, connections
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import LEASE, NodeHandle, a_task

PATIENCE = 20.0
VERSION = "pragma data_version"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with all that is executed, but for the look at the file's version."""
    seen: list[str] = []
    plain = connections.Connections._connect

    def note(statement: str) -> None:
        if statement != VERSION:
            seen.append(" ".join(statement.split())[:24])

    def traced(self: connections.Connections) -> sqlite3.Connection:
        connection = plain(self)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(connections.Connections, "_connect", traced)
    return seen


@pytest.fixture
def open_file(
    tmp_path: Path, fake_clock: FakeClock, statements: list[str]
) -> Iterator[Callable[[], SQLiteRepository]]:
    """Handles on one file; each is another connection, as another process would have."""
    opened: list[SQLiteRepository] = []

    def open_another() -> SQLiteRepository:
        made = SQLiteRepository(tmp_path / "rota.db", clock=fake_clock, statement_timeout=PATIENCE)
        made.open()
        opened.append(made)
        return made

    yield open_another
    for repository in opened:
        repository.close()


@pytest.fixture
def node(open_file: Callable[[], SQLiteRepository], statements: list[str]) -> NodeHandle:
    """A node that has looked once."""
    made = NodeHandle(open_file())
    made.repository.glance(made.id, None)
    statements.clear()
    return made


def reads(statements: list[str]) -> int:
    """How many glances asked the file, since the last time this was asked."""
    found = statements.count("select (select json_grou")
    statements.clear()
    return found


def test_while_nothing_is_written_it_asks_nothing(
    node: NodeHandle, statements: list[str], fake_clock: FakeClock
) -> None:
    for queues in (None, (), None):
        fake_clock.advance(1.0)
        node.repository.glance(node.id, queues)
    assert statements == []


def test_its_own_heartbeat_is_one_statement_and_no_reason_to_ask(
    node: NodeHandle, statements: list[str]
) -> None:
    assert node.beat()
    node.repository.glance(node.id, None)
    assert statements == ["update rota_node set lea"]


def test_what_is_written_here_or_elsewhere_is_a_reason(
    node: NodeHandle, open_file: Callable[[], SQLiteRepository], statements: list[str]
) -> None:
    elsewhere = open_file()
    reads(statements)
    for repository in (node.repository, elsewhere):
        repository.insert([a_task(queue=str(id(repository)))])
        lanes = node.repository.glance(node.id, None).lanes
        assert str(id(repository)) in {lane.queue for lane in lanes}
        assert reads(statements) == 1
        node.repository.glance(node.id, None)
        assert reads(statements) == 0


def test_other_lanes_than_the_last_ones_are_a_reason(
    node: NodeHandle, statements: list[str]
) -> None:
    node.repository.insert([a_task(queue="a")])
    for queues, found, asked in (
        (["a"], ["a"], 1),
        ((), [], 0),
        (["a"], ["a"], 0),
        (["b"], [], 1),
        (None, ["a"], 1),
    ):
        statements.clear()
        lanes = node.repository.glance(node.id, queues).lanes
        assert [lane.queue for lane in lanes] == found
        assert reads(statements) == asked


def test_time_alone_is_no_reason(
    node: NodeHandle, statements: list[str], fake_clock: FakeClock
) -> None:
    repository = node.repository
    repository.insert([a_task(queue="q", delay=30.0, expires_in=60.0)])
    assert not repository.glance(node.id, None).overdue
    reads(statements)
    fake_clock.advance(90)
    glance = repository.glance(node.id, None)
    assert glance.overdue
    assert [round(lane.due_in) for lane in glance.lanes] == [-60]
    assert reads(statements) == 0


def test_a_lease_that_seems_over_is_asked_for_again(
    node: NodeHandle, statements: list[str], fake_clock: FakeClock
) -> None:
    neighbour = NodeHandle(node.repository)
    node.repository.glance(node.id, None)
    fake_clock.advance(LEASE * 0.9)
    assert neighbour.beat()  # which counts as no change
    fake_clock.advance(LEASE * 0.9)
    reads(statements)
    assert not node.repository.glance(node.id, None).dead
    assert reads(statements) == 1
    assert not node.repository.glance(node.id, None).dead
    assert reads(statements) == 0


def test_while_the_writer_is_busy_nothing_is_taken_for_known(
    node: NodeHandle, open_file: Callable[[], SQLiteRepository], statements: list[str]
) -> None:
    """Waiting for the lock it cannot tell what was written meanwhile."""
    assert isinstance(node.repository, SQLiteRepository)
    elsewhere, inside, go = open_file(), threading.Event(), threading.Event()
    desk = node.repository._desk

    def hold(_: Connection) -> None:
        inside.set()
        assert go.wait(PATIENCE)

    holding = threading.Thread(target=desk.write, args=(hold,))
    holding.start()
    try:
        assert inside.wait(PATIENCE)
        reads(statements)
        for _ in range(2):
            node.repository.glance(node.id, None)
        assert reads(statements) == 2
    finally:
        go.set()
        holding.join(PATIENCE)
    elsewhere.pause_work("w", "")
    assert node.repository.glance(node.id, None).paused_works == {"w"}


def test_a_process_that_is_gone_is_seen_without_a_word_or_a_statement(
    node: NodeHandle, open_file: Callable[[], SQLiteRepository], statements: list[str]
) -> None:
    gone = NodeHandle(open_file(), lease=3600.0)
    assert not node.repository.glance(node.id, None).dead
    gone.repository.close()  # as a kill does, it leaves the lock's file behind, free
    reads(statements)
    assert node.repository.glance(node.id, None).dead
    assert reads(statements) == 0
    assert node.repository.bury(node.id, trusted=False) == [gone.id]
    assert not node.repository.glance(node.id, None).dead


def test_another_hosts_free_lock_shows_nothing(
    node: NodeHandle, open_file: Callable[[], SQLiteRepository]
) -> None:
    stranger = open_file()
    stranger.join(Membership(new_incarnation(), "n", "another.example", 1, 3600.0))
    stranger.close()
    assert not node.repository.glance(node.id, None).dead


def test_nothing_is_kept_of_nodes_that_look_no_more(
    open_file: Callable[[], SQLiteRepository],
) -> None:
    repository = open_file()
    for _ in range(20):
        incarnation = NodeHandle(repository)
        repository.glance(incarnation.id, None)
        repository.leave(incarnation.id)
    assert len(repository._seen) <= 1


def test_two_nodes_of_one_process_each_know_what_they_saw(
    node: NodeHandle, statements: list[str]
) -> None:
    other = NodeHandle(node.repository)
    reads(statements)
    for _ in range(3):
        assert node.repository.glance(node.id, None).peers
        assert node.repository.glance(other.id, None).peers
    assert reads(statements) == 2


# The lone heartbeat


def test_a_heartbeat_that_fails_says_so_and_the_next_one_goes_through(
    node: NodeHandle, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "rota.db", isolation_level=None)) as stranger:
        stranger.execute("alter table rota_node rename to away")
        with pytest.raises(Exception, match="run: rota db upgrade"):
            node.beat()
        stranger.execute("alter table away rename to rota_node")
    assert node.beat()


def test_a_heartbeat_waits_for_a_strangers_lock_as_long_as_any_write(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    repository = SQLiteRepository(tmp_path / "rota.db", clock=fake_clock, statement_timeout=0.2)
    repository.open()
    try:
        node = NodeHandle(repository)
        with closing(sqlite3.connect(tmp_path / "rota.db", isolation_level=None)) as stranger:
            stranger.execute("begin immediate")
            with pytest.raises(StorageUnavailable):
                node.beat()
            stranger.execute("rollback")
        assert node.beat()
        assert repository.insert([a_task()])[0].created
    finally:
        repository.close()
