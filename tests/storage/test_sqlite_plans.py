"""Every statement a repository runs goes through an index, never through a table that grows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from rota.core.ids import new_id
from rota.core.recurring import Fire
from rota.core.task import Ending, Fence, Want
from rota.storage.sqlite import (
    SQLiteRepository,
    agenda,
    claiming,
    connections,
    ending,
    finishing,
    keeping,
)
from rota.storage.verbs import looking
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import HOUR, a_definition, a_tick
from rota.testing.conformance.setting import NodeHandle, a_task, ids, some_tasks
from rota.testing.conformance.setting import ending as outcome_of
from tests.storage.joining_callers import immediate, take_one

GROWING = {
    "rota_task",
    "rota_body",
    "rota_done",
    "rota_failed",
    "rota_attempt",
    "rota_unique",
    "rota_report",
    "rota_change",
    "rota_recurring",
    "rota_decision",
    "rota_child",
}
ALIAS = re.compile(r"\b(rota_\w+)(?: as)? ([a-z])\b")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Fills with all that is executed, parameters still as they were written."""
    seen: set[str] = set()
    plain = connections.Connections._connect

    def traced(self: connections.Connections) -> sqlite3.Connection:
        connection = plain(self)
        connection.set_trace_callback(seen.add)
        return connection

    monkeypatch.setattr(connections.Connections, "_connect", traced)
    return seen


@pytest.fixture
def repository(tmp_path: Path, statements: set[str]) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(tmp_path / "a.db", clock=FakeClock(), synchronous="OFF")
    made.open()
    statements.clear()
    yield made
    made.close()


def plan(path: Path, statement: str, parameters: object = ()) -> list[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(f"explain query plan {statement}", parameters).fetchall()  # type: ignore[arg-type]
    connection.close()
    return [row[3] for row in rows]


def scans(path: Path, statement: str) -> list[str]:
    """The plan's lines that walk through a growing table."""
    aliases = {alias: table for table, alias in ALIAS.findall(statement)}
    lines = [line.split() for line in plan(path, statement)]
    return [
        " ".join(line)
        for line in lines
        if line[0] == "SCAN" and aliases.get(line[1], line[1]) in GROWING
    ]


def live(repository: SQLiteRepository, clock: FakeClock) -> None:
    """A whole life, in which every verb runs at least once."""
    repository.feed(on=True)
    repository.insert(some_tasks(50))
    keyed = [a_task(unique="k", expires_in=500), a_task(given_id=True)]
    for _ in range(2):
        repository.insert(keyed)
    repository.insert([a_task(unique="k", on_conflict="replace", expires_in=500)])
    repository.insert(keyed, repeated=True)
    first, second = NodeHandle(repository), NodeHandle(repository)
    repository.agenda(None)
    repository.agenda(["default", "other"])
    taken = first.claim_wants([Want("default", 0, 20, 5)], look_ahead=60)
    repository.cancel(taken[0].id, "stop")
    repository.cancels(first.id)
    finishes = [
        ending_of._replace(params='{"n":2}', end_recurring=True)
        for ending_of in (
            outcome_of(claimed, kind)
            for claimed, kind in zip(taken, list(Ending) * 2, strict=False)
        )
    ]
    first.finish(*finishes)
    first.finish(*finishes, repeated=True)
    first.claim_parked("demo", limit=1)
    repository.claim_parked_until(6, 1, ["default"], 1, 60)
    repository.strangers(["x"], 5)
    waiting = repository.insert([a_task(delay=900)])[0].id
    repository.update(waiting, {"at": repository.now() + timedelta(hours=1), "queue": "q"}, 1)
    repository.cancel(waiting, "no")
    second.claim_one(repository.insert([a_task(delay=900)])[0].id)
    second.claim(2)
    repository.held(second.id)
    repository.drop_lease(second.id, repository.held(second.id)[0][0])
    for task_id in (waiting, taken[2].id, taken[9].id):
        repository.get(task_id)
        repository.attempts(task_id)
    repository.states(ids(taken))
    repository.find_key("k")
    pull_and_spawn(repository)
    join(repository, second)
    repository.nodes()
    recur(repository)
    clock.advance(1000)
    first.beat()
    repository.bury(first.id, trusted=True)
    repository.rescue(100)
    repository.expire(100)
    repository.take_chore("tidy", 60)
    clock.advance(40 * 86_400)
    repository.tidy()
    repository.pause_queue("default", "x")
    repository.paused_queues()
    repository.resume_queue("default")


def pull_and_spawn(repository: SQLiteRepository) -> None:
    """The verbs about leases without a node, children, reports, and the feed."""
    repository.insert(some_tasks(3, queue="pulled"))
    (pulled, *_) = repository.claim_until(5, 1, [Want("pulled", 0, 2)], 60)
    repository.extend(5, 1, 90)
    repository.still_mine(5, [pulled.id])
    for n in (2, 1):
        repository.report(5, pulled.id, pulled.batch, n, "1")
    repository.reported(pulled.id)
    child = a_task(parent=pulled.id, fence=Fence(5, pulled.batch, pulled.id))
    repository.insert([child, child._replace(id=new_id(), unique="p", period=600.0)])
    repository.insert([a_task(unique="p", period=600.0)])
    repository.find_key("p")
    repository.children(pulled.id, 1, after=child.id)
    repository.count_children(pulled.id)
    repository.bodies([pulled.id, child.id])
    follow = a_task(unique="f", period=1.0)
    repository.finish(5, [outcome_of(pulled, Ending.DONE, follow=follow)], [1])
    repository.cancel(new_id(), "never", tombstone=True)
    repository.updated_since(repository.updated_since(None, 2)[1], 2)


def recur(repository: SQLiteRepository) -> None:
    """The verbs about definitions and their ticks."""
    at = repository.now()
    for priority in (0, 1):
        repository.put_recurring(a_definition(at, priority=priority))
    repository.get_recurring("nightly")
    for after in (None, "n"):
        repository.list_recurring(10, after)
    ticks = [a_tick(at + n * HOUR, overlap="queue", max_instances=2) for n in range(3)]
    repository.fire(ticks)
    repository.look_again(["nightly"])
    repository.due_recurring(60, 10)
    repository.due_recurring(60, 10, but=["other"])
    repository.outstanding("nightly")
    for before in (None, at + HOUR):
        repository.decisions("nightly", 10, before)
        repository.children_of("nightly", 10, before)
    repository.pause_recurring("nightly")
    missed = Fire("nightly", at, at, at, "missed")
    repository.resume_recurring("nightly", at + 2 * HOUR, at + 3 * HOUR, missed)
    repository.remove_recurring("nightly")


def join(repository: SQLiteRepository, node: NodeHandle) -> None:
    """The verbs in a caller's transaction, on a connection whose statements are seen."""
    taken = take_one(repository, node)
    fence = Fence(node.id, taken.batch, taken.id)
    keyed = [a_task(unique="j", given_id=True, fence=fence), a_task(unique="j", fence=fence)]
    replacing = a_task(unique="j", on_conflict="replace")
    engine = immediate(create_engine("sqlite://", creator=repository._connections._connect))
    with engine.begin() as conn:
        repository.insert_in(conn, [*keyed, replacing, a_task(unique="q", period=1.0)])
        repository.insert_in(conn, [a_task(unique="q", period=1.0)])
        outcome = outcome_of(taken, Ending.DONE, end_recurring=True)
        repository.finish_in(conn, node.id, outcome)
    engine.dispose()


def test_no_verb_scans_a_table_that_grows(
    repository: SQLiteRepository, statements: set[str], tmp_path: Path
) -> None:
    live(repository, repository._clock)  # type: ignore[arg-type]
    explained = {
        statement: scans(tmp_path / "a.db", statement)
        for statement in sorted(statements)
        if statement.lstrip().lower().startswith(("select", "with", "update", "delete"))
    }
    assert len(explained) > 110
    assert {statement: found for statement, found in explained.items() if found} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "select id from rota_task where work = 'x'",
        "update rota_task set losses = 0 where cancel_reason = 'x'",
        "select b.id from rota_lease l join rota_body b on b.params = l.ids",
    ],
)
def test_this_guard_sees_a_scan(
    repository: SQLiteRepository, tmp_path: Path, statement: str
) -> None:
    assert len(scans(tmp_path / "a.db", statement)) == 1


def test_counting_stops_at_its_limit(
    repository: SQLiteRepository, statements: set[str], tmp_path: Path
) -> None:
    repository.counts()
    counted = [one for one in statements if "count(" in one and "rota_lease" not in one]
    assert len(counted) == 2
    for statement in counted:
        assert f"LIMIT {looking.COUNT_LIMIT + 1}" in statement
        assert all("INDEX" in line for line in scans(tmp_path / "a.db", statement))


def free_periods(repository: SQLiteRepository) -> object:
    with repository._desk.reading() as conn:
        return keeping.free_periods(connections.raw(conn), "k", 0, 5)


def test_what_is_due_is_read_in_its_order_and_no_further(
    repository: SQLiteRepository, statements: set[str], tmp_path: Path
) -> None:
    repository.put_recurring(a_definition(repository.now()))
    statements.clear()
    repository.due_recurring(0, 5)
    looks = [one for one in statements if "rota_recurring" in one]
    assert len(looks) == 2
    for look in looks:
        (line,) = plan(tmp_path / "a.db", look)
        assert line.startswith("SEARCH rota_recurring USING"), line
        assert "INDEX rota_recurring_due" in line, line


@pytest.mark.parametrize(
    ("look", "table"),
    [
        (lambda repository: repository.children("p", 2, after="c"), "rota_body"),
        (lambda repository: repository.updated_since("5", 2), "rota_change"),
        (lambda repository: repository.list_recurring(2, after="c"), "rota_recurring"),
        (free_periods, "rota_unique"),
    ],
)
def test_what_is_read_page_by_page_begins_where_the_last_one_ended(
    repository: SQLiteRepository,
    statements: set[str],
    tmp_path: Path,
    look: Callable[[SQLiteRepository], object],
    table: str,
) -> None:
    look(repository)
    (page,) = (one for one in statements if "limit" in one.lower())
    lines = plan(tmp_path / "a.db", page)
    assert any(line.startswith(f"SEARCH {table}") and ">?)" in line for line in lines), lines
    assert not any("TEMP B-TREE" in line for line in lines), lines


LANE = ("default", 0, 0, 1, 10)
NAMES = ("node", "batches", "now", "rows", "nul", "state", "by", "minute", "outcome")
LEAVING = dict.fromkeys(NAMES, 0) | {"batches": "[]", "rows": "{}", "nul": ""}


#: What ANALYZE might have noted at another time: the rows of a table, and of each key's prefix.
STATISTICS = {"none": None, "when it was empty": "1 1 1 1 1", "when all were alike": "9999999 " * 5}


def pretend(path: Path, statistic: str | None) -> None:
    """Let the planner believe this of every table and index."""
    if statistic is None:
        return
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("analyze")
        connection.execute("delete from sqlite_stat1")
        connection.execute(
            "insert into sqlite_stat1 select tbl_name, name, ? from sqlite_schema"
            " where type in ('table', 'index') and tbl_name like 'rota%'",
            (statistic,),
        )


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    ("statement", "parameters", "index"),
    [
        (
            claiming.READY,
            LANE,
            "rota_task_ready (queue=? AND priority=? AND run_at>? AND run_at<?)",
        ),
        (
            claiming.READY_LAZY,
            LANE,
            "rota_task_ready (queue=? AND priority=? AND run_at>? AND run_at<?)",
        ),
        (
            claiming.PARKED,
            {"work": "demo", "until": 1, "node": 1, "limit": 1},
            "rota_task_parked (work=?)",
        ),
        (
            claiming.PARKED_KIND,
            {"work": "demo", "priority": 0, "now": 1, "queues": "[]", "limit": 1},
            "rota_task_parked (work=? AND priority=? AND run_at<?)",
        ),
        (agenda.PARKED_KINDS, (0,), "rota_task_parked (work>?)"),
        (agenda.EVERY_LANE, (), "rota_task_ready (queue>?)"),
        (agenda.NAMED_LANES, {"queues": "[]"}, "rota_task_ready (queue=? AND priority<?)"),
        (claiming.TAKE, (1, 1, "[]"), "PRIMARY KEY (id=?)"),
        (claiming.TEXTS, ("x",), "PRIMARY KEY (id=?)"),
        (ending.HELD, ("[]", 1), "PRIMARY KEY (id=?)"),
        (ending.BATCHES, ("[]", 1), "PRIMARY KEY (id=?)"),
        (ending.HISTORY.format(insert="insert", table="rota_done"), LEAVING, "PRIMARY KEY (id=?)"),
        (ending.TALLY, LEAVING, "PRIMARY KEY (id=?)"),
        (ending.REMOVE, LEAVING, "PRIMARY KEY (id=?)"),
        (ending.ATTEMPTS, LEAVING, "PRIMARY KEY (id=?)"),
        (ending.TO_WAITING, LEAVING, "PRIMARY KEY (id=?)"),
        (ending.TO_PARKED, LEAVING, "PRIMARY KEY (id=?)"),
        (finishing.NEW_VERSION, ("{}",), "PRIMARY KEY (id=?)"),
        (finishing.NEW_PARAMS, ("{}", ""), "PRIMARY KEY (id=?)"),
        (keeping.EXPIRED, (1, 1), "rota_task_expires (expires_at>? AND expires_at<?)"),
    ],
)
def test_hot_statements_use_their_index(
    repository: SQLiteRepository,
    tmp_path: Path,
    statement: str,
    parameters: object,
    index: str,
    statistic: str,
) -> None:
    pretend(tmp_path / "a.db", STATISTICS[statistic])
    lines = plan(tmp_path / "a.db", statement, parameters)
    assert any(line.startswith("SEARCH") and index in line for line in lines), lines
    assert not any(line.startswith("SCAN t") for line in lines), lines


@pytest.mark.parametrize(
    "statement", [claiming.READY, claiming.READY_LAZY, claiming.PARKED, keeping.EXPIRED]
)
def test_hot_statements_sort_no_backlog(
    repository: SQLiteRepository, tmp_path: Path, statement: str
) -> None:
    parameters: object = LANE
    if statement is claiming.PARKED:
        parameters = {"work": "demo", "until": 1, "node": 1, "limit": 1}
    elif statement is keeping.EXPIRED:
        parameters = (1, 1)
    lines = plan(tmp_path / "a.db", statement, parameters)
    assert not any("TEMP B-TREE" in line for line in lines), lines
