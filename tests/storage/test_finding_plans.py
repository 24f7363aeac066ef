"""Looking at many tasks goes along indexes, a bounded way, in both databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from rota.core.clock import Clock
from rota.core.finding import LOOK, TaskFilter
from rota.core.ids import new_id
from rota.core.task import Ending
from rota.storage.postgres import PostgresRepository
from rota.storage.sqlite import SQLiteRepository, connections
from rota.storage.verbs import finding
from rota.testing.clock import FakeClock
from rota.testing.conformance.finding import the_sample
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks
from tests.conftest import Database

PARENT = new_id()
ROWS = 2_000
#: What a look that an index leads may touch; it finds a handful among thousands.
FAIR = 400
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)

#: Filters that an index leads to.
LED: list[dict[str, Any]] = [
    {"state": "parked"},
    {"state": "working"},
    {"state": "parked", "work": "rare"},
    {"state": "scheduled", "queue": "rare"},
    {"parent": PARENT},
    {"parent": PARENT, "state": ["scheduled", "done"]},
    {"recurring": "nightly"},
    {"unique": "k"},
]
#: Filters for which the rows are walked through in the order of ids, so many at a time.
WALKED: list[dict[str, Any]] = [
    {"state": "failed", "finished_after": NOW - HOUR, "finished_before": NOW + HOUR},
    {},
    {"state": "done"},
    {"state": "failed"},
    {"state": "cancelled"},
    {"queue": "rare"},
    {"queue": "rare", "state": "done"},
    {"work": "rare"},
    {"work": "rare", "state": ["failed", "done"]},
    {"meta": {"tenant": 7}},
    {"finished_after": NOW - HOUR},
    {"created_after": NOW - HOUR, "due_before": NOW},
    {"state": "retrying"},
]


def fill(repository: PostgresRepository | SQLiteRepository) -> None:
    """Thousands of tasks in each table, and a few of each rare kind."""
    node = NodeHandle(repository)
    the_sample(repository, node)
    rare = [
        a_task(queue="rare", work="rare", parent=PARENT, recurring="nightly", delay=900.0)
        for _ in range(3)
    ]
    repository.insert(rare)
    for kind in (Ending.DONE, Ending.FAILED, None):
        for _ in range(ROWS // 2000):
            repository.insert(some_tasks(2000, queue="many"))
            if kind is not None:
                taken = node.claim(2000, queue="many")
                node.finish(*(ending(claimed, kind) for claimed in taken))
    repository.insert([a_task(work="rare", queue="park")])
    (claimed,) = node.claim(queue="park")
    node.end(claimed, Ending.PARK)


@pytest.mark.postgres
class TestPostgres:
    @pytest.fixture
    def repository(self, open_postgres: Callable[..., PostgresRepository]) -> PostgresRepository:
        repository = open_postgres(FakeClock(), statement_timeout=60.0)
        fill(repository)
        return repository

    def test_no_look_scans_a_table_and_those_that_are_led_touch_little(
        self, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        # One filled database for all: filling it takes longer than asking.
        self._look_at_all(repository)
        stranger.execute("analyze")
        stranger.commit()
        self._look_at_all(repository)
        self._change_many(repository)

    def _look_at_all(self, repository: PostgresRepository) -> None:
        for given in LED + WALKED:
            plans = plans_of(repository, lambda where=given: look(repository, where))
            touched = [scan for plan in plans for scan in scans(plan)]
            assert touched or given.get("unique"), given
            if given in LED:
                assert sum(map(rows_of, touched)) <= FAIR, (given, json.dumps(plans))
            else:
                assert max(map(rows_of, touched)) <= LOOK + FAIR, (given, json.dumps(plans))
        long_ago = {"state": "done", "finished_before": NOW - 30 * 24 * HOUR}
        (walk, *_) = plans_of(repository, lambda: look(repository, long_ago))
        assert {scan["Relation Name"] for scan in scans(walk)} <= {"rota_done_default"}
        # A whole day is not looked at for the midnight that begins it.
        midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        (walk, *_) = plans_of(
            repository, lambda: look(repository, {"state": "done", "finished_before": midnight})
        )
        assert {scan["Relation Name"] for scan in scans(walk)} <= {"rota_done_default"}
        for act in (
            lambda: repository.counts_by("queue", None),
            lambda: repository.counts_by("work", NOW),
            lambda: repository.failures(None, 10),
            lambda: repository.failures(NOW - HOUR, 10),
            repository.node_infos,
            lambda: repository.running(None, 10),
            lambda: repository.attempts_of([new_id() for _ in range(200)]),
        ):
            plans_of(repository, act)

    def _change_many(self, repository: PostgresRepository) -> None:
        waiting = repository.matching(TaskFilter(queue="many", state="scheduled"), 50).ids
        failed = repository.matching(TaskFilter(state="failed"), 50).ids
        done = repository.matching(TaskFilter(state="done"), 50).ids
        for act in (
            lambda: repository.reschedule_many(waiting, {"delay": 5.0}),
            lambda: repository.cancel_many(waiting, "enough"),
            lambda: repository.retry_many(failed),
            lambda: repository.delete_many(done, NOW + HOUR),
        ):
            for plan in plans_of(repository, act):
                for scan in scans(plan):
                    assert rows_of(scan) <= FAIR, json.dumps(scan)


BIG = ("rota_task", "rota_body", "rota_done", "rota_failed", "rota_attempt")


def look(repository: PostgresRepository | SQLiteRepository, given: dict[str, Any]) -> None:
    where = TaskFilter(**given)
    repository.find(where, 10)
    repository.find(where, 10, new_id(), newest_first=False)
    repository.matching(where, 10)


def plans_of(repository: PostgresRepository, act: Callable[[], object]) -> list[dict[str, Any]]:
    """The plans, with what was touched, of all statements; what they change is rolled back."""
    plans: list[dict[str, Any]] = []

    def explained(conn: Any, cursor: Any, sql: str, params: Any, *_: object) -> None:
        raw = conn.connection.driver_connection
        idle = raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        raw.execute("begin" if idle else "savepoint before")
        found = raw.execute(f"explain (analyze, format json) {sql}", params).fetchone()
        plans.append(found[0][0]["Plan"])
        raw.execute("rollback" if idle else "rollback to before")

    engine = repository._connections._engine
    event.listen(engine, "before_cursor_execute", explained)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", explained)
    assert plans
    for plan in plans:
        for scan in scans(plan):
            assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
    return plans


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every scan of a big table that was run, partitions among them."""
    relation = plan.get("Relation Name", "")
    if relation.startswith(BIG) and "Scan" in plan["Node Type"] and plan["Actual Loops"]:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def rows_of(scan: dict[str, Any]) -> float:
    filtered = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    return float((scan["Actual Rows"] + filtered) * scan["Actual Loops"])


def test_sqlite_searches_or_walks_along_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    plain = connections.Connections._connect

    def traced(self: connections.Connections) -> sqlite3.Connection:
        connection = plain(self)
        connection.set_trace_callback(seen.add)
        return connection

    monkeypatch.setattr(connections.Connections, "_connect", traced)
    repository = SQLiteRepository(tmp_path / "a.db", clock=FakeClock(), synchronous="OFF")
    repository.open()
    try:
        the_sample(repository, NodeHandle(repository))
        for given in LED + WALKED:
            seen.clear()
            look(repository, given)
            assert seen
            for statement in seen:
                lines = plan_of(tmp_path / "a.db", statement)
                bad = [line for line in lines if walks(line)]
                # Where nothing leads, the walk is along the primary key, as the order wants it.
                assert not bad or given in WALKED, (given, statement, lines)
                assert not any("SCAN rota_body" in line for line in bad), (given, statement, lines)
    finally:
        repository.close()


def plan_of(path: Path, statement: str) -> list[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(f"explain query plan {statement}").fetchall()
    connection.close()
    return [row[3] for row in rows]


def walks(line: str) -> bool:
    # A partial index holds only what is meant.
    part = "rota_task_parked" in line or "rota_task_ready" in line
    return line.startswith("SCAN rota_") and line.split()[1].startswith(BIG) and not part


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("newest_first", [True, False])
def test_a_large_family_is_found_piece_by_piece(
    kind: str,
    newest_first: bool,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "KIN", 4)
    database = make_database(kind, fake_clock)
    repository = database.repository()
    node = NodeHandle(repository)
    kin = some_tasks(30, recurring="nightly", parent=PARENT)
    repository.insert([*kin, *some_tasks(5)])
    failures = []
    for number, claimed in enumerate(node.claim(35)):
        if number % 3 == 1:
            node.end(claimed)
        elif number % 3:
            node.end(claimed, Ending.FAILED)
            failures.append(claimed.id)
    expected = sorted((one.id for one in kin), reverse=newest_first)
    for given in ({"recurring": "nightly"}, {"parent": PARENT}):
        found: list[str] = []
        after: str | None = None
        while True:
            page = repository.find(TaskFilter(**given), 3, after, newest_first=newest_first)
            assert len(page) <= 3
            found += [task.id for task in page]
            after = page.next
            if after is None:
                break
        assert found == expected
    failed = TaskFilter(recurring="nightly", state="failed")
    matched, after = [], None
    while True:
        some = repository.matching(failed, 100, after)
        matched += some.ids
        after = some.next
        if after is None:
            break
    assert matched == sorted({one.id for one in kin}.intersection(failures), reverse=True)
    database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_look_ends_where_the_first_of_the_tables_ends_it(
    kind: str,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "LOOK", 5)
    database = make_database(kind, fake_clock)
    repository = database.repository()
    node = NodeHandle(repository)
    rare = a_task(work="rare")
    repository.insert([rare, *some_tasks(2)])
    for claimed in node.claim(3):
        node.end(claimed)
    repository.insert(some_tasks(20))
    where, looks, found, after = TaskFilter(work="rare"), 0, list[str](), None
    while looks < 10:
        looks += 1
        page = repository.find(where, 10, after)
        found += [task.id for task in page]
        after = page.next
        if after is None:
            break
    assert found == [rare.id]
    assert looks == 5  # 20 waiting ones, five at a time, and what is behind them
    database.close()
