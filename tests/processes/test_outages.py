"""The database goes away for longer than a lease and comes back: no healthy node dies of it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from rota.testing import history
from rota.testing.postgres_server import PostgresServer
from tests.processes.fleet import Fleet, NodeProcess

#: Longer than the nodes' lease of 3 s.
LONGER = 3.6


@contextmanager
def server_away(server: PostgresServer) -> Iterator[None]:
    """The server crashes, and is started again at the end."""
    server.stop(mode="immediate")
    try:
        yield
    finally:
        server.start()


@contextmanager
def in_a_transaction(database: Path) -> Iterator[None]:
    """A stranger is in a write transaction."""
    connection = sqlite3.connect(database, timeout=10.0, isolation_level=None)
    try:
        connection.execute("begin immediate")
        yield
        connection.execute("rollback")
    finally:
        connection.close()


@contextmanager
def in_the_queue(database: Path) -> Iterator[None]:
    """A stranger has the writers' turn and does not pass it on."""
    turn = os.open(database.with_name(f"{database.name}-rota") / "queue.lock", os.O_RDWR)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
    finally:
        os.close(turn)


def path_of(fleet: Fleet) -> Path:
    return Path(fleet.url.removeprefix("sqlite:///"))


def two_at_work(fleet: Fleet) -> tuple[list[NodeProcess], list[int], list[str]]:
    """Two nodes, each running one task that holds."""
    first = fleet.start("first", concurrency=1)
    (one,) = first.ask("schedule", work="hold")
    first.wait("started", task=one)
    second = fleet.start("second", concurrency=1)
    (two,) = first.ask("schedule", work="hold")
    second.wait("started", task=two)
    nodes = [first, second]
    return nodes, [node.ask("node") for node in nodes], [one, two]


def all_well(
    fleet: Fleet, nodes: list[NodeProcess], incarnations: list[int], tasks: list[str]
) -> None:
    """Nobody died, nothing was cancelled or run twice, outcomes count, new tasks run."""
    nodes[1].ask("release")
    ended = fleet.wait_tasks("finished", tasks)
    assert {line["state"] for line in ended.values()} == {"done"}
    later = nodes[0].ask("schedule", work="quick", count=6)
    fleet.wait_tasks("finished", later, state="done")
    # Who is declared dead wrongly is so about a lease after the recovery.
    fleet.tells_none({"died", "cancelled", "took_back", "failed"}, 3.4)
    assert [node.ask("node") for node in nodes] == incarnations
    events = fleet.history()
    starts = [event.task for event in events if isinstance(event, history.Started)]
    assert sorted(starts) == sorted([*tasks, *later])
    assert not [event for event in events if isinstance(event, history.Refused)]
    assert history.check(events, complete=True, effects=True) == []


def test_a_crashed_server_kills_no_node(own_server: PostgresServer, server_fleet: Fleet) -> None:
    nodes, incarnations, tasks = two_at_work(server_fleet)
    with server_away(own_server):
        nodes[0].send("release")  # its outcome comes while the server is away
        server_fleet.tells_none({"died", "cancelled"}, LONGER)
    all_well(server_fleet, nodes, incarnations, tasks)


def test_a_locked_file_kills_no_node(sqlite_fleet: Fleet) -> None:
    nodes, incarnations, tasks = two_at_work(sqlite_fleet)
    with in_a_transaction(path_of(sqlite_fleet)):
        nodes[0].send("release")
        sqlite_fleet.tells_none({"died", "cancelled"}, LONGER)
    all_well(sqlite_fleet, nodes, incarnations, tasks)


@pytest.fixture
def cut_fleet(postgres_url: str, postgres_schema: str, tmp_path: Path) -> Iterator[Fleet]:
    """Nodes on the server of all tests, whose connections can be told from others'."""
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}application_name=cut"
    made = Fleet(url=url, schema=postgres_schema, directory=tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("busy", [True, False], ids=["at work", "idle"])
def test_cut_connections_kill_no_node(cut_fleet: Fleet, busy: bool) -> None:
    """The session lock goes with its connection, and the next beat would come too late."""
    more = {"lease": 9, "heartbeat": 4}
    first, second = cut_fleet.start_all(["first", "second"], **more)
    tasks = first.ask("schedule", work="hold", count=2)
    cut_fleet.wait_tasks("started", tasks)
    if not busy:
        for node in (first, second):
            node.ask("release")
        cut_fleet.wait_tasks("finished", tasks)
    incarnations = [node.ask("node") for node in (first, second)]
    with psycopg.connect(cut_fleet.url, autocommit=True, application_name="admin") as admin:
        wait_uptime(admin, 9)
        wait_beat(admin, cut_fleet.schema, incarnations[0], 8.7)
        cut = admin.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'cut'"
        ).fetchone()
    assert cut is not None
    assert cut[0] >= 4
    if not busy:
        # Idle on: nothing is claimed meanwhile that would have them notice.
        cut_fleet.tells_none({"died", "took_back"}, 3.4)
    first.ask("release")
    all_well(cut_fleet, [first, second], incarnations, tasks)


def wait_uptime(admin: psycopg.Connection, seconds: int) -> None:
    """Before a lease has passed since its start, the server's lost locks prove nothing."""
    admin.execute(
        "select pg_sleep_until(pg_postmaster_start_time() + make_interval(secs => %s))", (seconds,)
    )


def wait_beat(admin: psycopg.Connection, schema: str | None, node: int, lease_left: float) -> None:
    """Until the node has just beaten, so that its next beat is as far away as can be."""
    admin.execute("select set_config('search_path', %s, false)", (schema,))
    for _ in range(300):
        admin.execute("select pg_sleep(0.05)")
        row = admin.execute(
            "select 1 from rota_node where id = %s and lease_until > now() + %s * interval '1 s'",
            (node, lease_left),
        ).fetchone()
        if row is not None:
            return
    raise AssertionError("the node does not beat")


def test_schedule_waits_for_the_server(own_server: PostgresServer, server_fleet: Fleet) -> None:
    node = server_fleet.start("node")
    with server_away(own_server):
        calls = schedule_everything(node)
        node.tells_none({"answer"}, 1.0)
    exactly_once(server_fleet, node, calls)


def test_schedule_waits_for_the_file(sqlite_fleet: Fleet) -> None:
    node = sqlite_fleet.start("node")
    with in_the_queue(path_of(sqlite_fleet)):
        calls = schedule_everything(node)
        node.tells_none({"answer"}, 5.5)  # a statement is given up after 5 s, the caller not
    exactly_once(sqlite_fleet, node, calls)


def schedule_everything(node: NodeProcess) -> list[int]:
    """Plain, keyed and named by the caller."""
    ids = [str(uuid.uuid4()) for _ in range(3)]
    return [
        node.send("schedule", work="quick", count=20),
        node.send("schedule", work="quick", count=3, keys=["a", "b", "c"]),
        node.send("schedule", work="quick", count=3, ids=ids),
    ]


def exactly_once(fleet: Fleet, node: NodeProcess, calls: list[int]) -> None:
    tasks = [task for call in calls for task in node.answer(call)]
    assert len(set(tasks)) == 26
    node.wait_tasks("finished", tasks, state="done")
    events = fleet.history()
    starts = [event.task for event in events if isinstance(event, history.Started)]
    assert sorted(starts) == sorted(tasks)
    assert history.check(events, complete=True, effects=True) == []
