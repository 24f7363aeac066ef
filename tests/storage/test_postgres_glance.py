"""A glance at PostgreSQL is one statement that stops at the first row of whatever it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle
from tests.storage.explaining import BIG, Plan, Record, recorder

pytestmark = pytest.mark.postgres

ROWS = 5_000
#: So many rows of one table it may look at, of all there are.
FEW = 20
_WAITING = """insert into rota_task (id, queue, work, priority, state, run_at, expires_at)
  select gen_random_uuid(), 'q' || n %% 3, 'w' || n %% 5, n %% 2, n / 6 %% 2 * 2,
    now() + n * interval '1 ms', now() - interval '1 min' + n * interval '1 s'
  from generate_series(1, %s) n"""
_LEASES = """insert into rota_lease (node, batch, ids, deadline)
  select %s, n, '{}', null from generate_series(1, %s) n"""
_DEFINITIONS = """insert into rota_recurring
    (id, work, params, trigger, options, queue, priority, rules, next_fire_at, due_at, paused)
  select 'r' || n, 'w', '{}', '{}', '{}', 'q', 0, '{}', now(), now() + n * interval '1 s',
    n %% 2 = 0
  from generate_series(1, %s) n"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository(
    open_postgres: Callable[..., PostgresRepository], clock: FakeClock
) -> PostgresRepository:
    return open_postgres(clock, statement_timeout=60.0)


@pytest.fixture
def node(repository: PostgresRepository) -> NodeHandle:
    return NodeHandle(repository)


@pytest.fixture
def record(repository: PostgresRepository, monkeypatch: pytest.MonkeyPatch) -> Record:
    return recorder(repository, monkeypatch)


def fill(stranger: psycopg.Connection, node: int, rows: int) -> None:
    stranger.execute(_WAITING, (rows,))
    for holder in (node, 1, 2):
        stranger.execute(_LEASES, (holder, rows))
    stranger.execute(_DEFINITIONS, (rows,))


def parts(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from parts(child)


@pytest.mark.parametrize("statistics", ["none", "of empty tables", "of few rows", "true"])
def test_it_looks_at_few_rows_however_many_there_are(
    repository: PostgresRepository,
    node: NodeHandle,
    record: Record,
    stranger: psycopg.Connection,
    statistics: str,
) -> None:
    if statistics == "of few rows":
        fill(stranger, node.id, 3)
    if statistics in {"of empty tables", "of few rows"}:
        stranger.execute("analyze")
        for table in ("rota_task", "rota_lease", "rota_recurring"):
            stranger.execute(f"delete from {table}")
    fill(stranger, node.id, ROWS)
    if statistics == "true":
        stranger.execute("analyze")
    stranger.commit()
    plans = record(lambda: repository.glance(node.id, None))
    assert len(plans) == 2  # one statement, explained twice
    scans = [
        part
        for plan in plans
        for part in parts(plan)
        if part.get("Relation Name") in BIG | {"rota_lease"} and "Scan" in part["Node Type"]
    ]
    assert {scan["Relation Name"] for scan in scans} == {
        "rota_task",
        "rota_lease",
        "rota_recurring",
    }
    for scan in scans:
        looked_at = scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)
        assert scan["Node Type"] in {"Index Scan", "Index Only Scan"}, scan
        assert looked_at * scan["Actual Loops"] <= FEW, scan
    glance = repository.glance(node.id, None)
    assert (glance.orphans, glance.mine, glance.overdue, glance.parked) == (True,) * 4
    assert len(glance.lanes) == 6


def test_the_locks_are_read_only_for_another_node_that_holds_one(
    repository: PostgresRepository, node: NodeHandle, record: Record, clock: FakeClock
) -> None:
    """Reading them stops the server's lock manager for a moment."""

    def reads() -> list[int]:
        return [
            part["Actual Loops"]
            for plan in record(lambda: repository.glance(node.id, ()))
            for part in parts(plan)
            if part.get("Function Name") == "pg_lock_status"
        ]

    alone = reads()
    assert alone
    assert set(alone) == {0}
    other = NodeHandle(repository)
    clock.advance(40)  # the server is older than a lease: only then is anything concluded
    assert node.beat()
    assert other.beat()
    assert max(reads()) == 1
