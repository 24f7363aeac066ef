"""Hot statements look rows up by index, whatever the statistics say and however full the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending, Membership, Want
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ending, some_tasks

pytestmark = pytest.mark.postgres

ROWS = 20_000
BATCH = 100
#: A statement about a batch may look at its rows a few times over, not at the table.
FAIR = BATCH * 8
LEASE = 30.0
Plan = dict[str, Any]
Record = Callable[[Callable[[], object]], list[Plan]]


@pytest.fixture
def repository(open_postgres: Callable[..., PostgresRepository]) -> PostgresRepository:
    """Holds 20,000 scheduled tasks; the planner still believes the tables to be empty."""
    repository = open_postgres(FakeClock(), statement_timeout=60.0)
    for start in range(0, ROWS, 2000):
        queue = f"q{start // 10_000}"
        repository.insert(some_tasks(2000, queue=queue, priority=start // 2000 % 3))
    return repository


@pytest.fixture
def node(repository: PostgresRepository) -> int:
    node = new_incarnation()
    repository.join(Membership(node, "n", "h", 1, LEASE))
    return node


@pytest.fixture(params=["fresh", "analyzed"])
def statistics(request: pytest.FixtureRequest, stranger: psycopg.Connection) -> None:
    """The statements' plans with statistics and without."""
    if request.param == "analyzed":
        stranger.execute("analyze")
    stranger.commit()


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Runs something and returns the plans, executed and rolled back, of its statements."""
    plain = Session.rows

    def recorded(act: Callable[[], object]) -> list[Plan]:
        plans: list[Plan] = []

        def explained(session: Session, sql: str, **params: object) -> list[tuple[Any, ...]]:
            idle = session.raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            session.raw.execute("begin" if idle else "savepoint before")
            (found,) = plain(session, f"explain (analyze, format json) {sql}", **params)
            session.raw.execute("rollback" if idle else "rollback to before")
            plans.append(found[0][0]["Plan"])
            return plain(session, sql, **params)

        with monkeypatch.context() as patch:
            patch.setattr(Session, "rows", explained)
            act()
        return plans

    return recorded


def scans(plan: Plan) -> Iterator[Plan]:
    """Every scan of one of the two big tables, below this node."""
    if plan.get("Relation Name") in {"rota_task", "rota_body"} and "Scan" in plan["Node Type"]:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def touched(scan: Plan) -> float:
    """How many rows it looked at, those it threw away included."""
    filtered = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    return float((scan["Actual Rows"] + filtered) * scan["Actual Loops"])


def assert_by_index(plans: list[Plan]) -> None:
    found = [scan for plan in plans for scan in scans(plan)]
    assert found, "no statement touched the tasks"
    for scan in found:
        assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
        assert touched(scan) <= FAIR, json.dumps(scan)


def take(repository: PostgresRepository, node: int, batch: int = 1) -> list[Claimed]:
    taken = repository.claim(node, batch, [Want("q0", 0, BATCH)], 1.0)
    assert len(taken) == BATCH
    return taken


@pytest.mark.usefixtures("statistics")
class TestPlans:
    def test_claim(self, repository: PostgresRepository, node: int, record: Record) -> None:
        wants = [Want("q0", 0, BATCH, 10), Want("q1", 1, 0, 10), Want("q1", 2, 10)]
        assert_by_index(record(lambda: repository.claim(node, 1, wants, 60.0)))

    def test_claim_of_one(self, repository: PostgresRepository, node: int, record: Record) -> None:
        (task,) = some_tasks(1, queue="q9")
        repository.insert([task])
        assert_by_index(record(lambda: repository.claim_one(node, 1, task.id)))

    @pytest.mark.parametrize("queues", [None, ["q0", "q1", "q2"]])
    def test_agenda(
        self, repository: PostgresRepository, record: Record, queues: list[str] | None
    ) -> None:
        assert_by_index(record(lambda: repository.agenda(queues)))
        assert len(repository.agenda(queues)) == 6

    @pytest.mark.parametrize("kind", list(Ending))
    def test_finish(
        self, repository: PostgresRepository, node: int, record: Record, kind: Ending
    ) -> None:
        finishes = [ending(claimed, kind, params='{"n":2}') for claimed in take(repository, node)]
        assert_by_index(record(lambda: repository.finish(node, finishes, [1])))

    def test_repeated_finish(
        self, repository: PostgresRepository, node: int, record: Record
    ) -> None:
        finishes = [ending(claimed, Ending.DONE) for claimed in take(repository, node)]
        repository.finish(node, finishes, [1])
        assert_by_index(record(lambda: repository.finish(node, finishes, [1], repeated=True)))

    def test_claim_of_parked_tasks(
        self, repository: PostgresRepository, node: int, record: Record
    ) -> None:
        finishes = [ending(claimed, Ending.PARK) for claimed in take(repository, node)]
        repository.finish(node, finishes, [1])
        works = ["demo", "other", "third"]
        plans = record(lambda: repository.claim_parked(node, 2, works, BATCH, 1.0))
        assert_by_index(plans)
        assert all("Sort" not in str(scan) for plan in plans for scan in scans(plan))

    def test_rescue(self, repository: PostgresRepository, node: int, record: Record) -> None:
        take(repository, node)
        repository.leave(node)
        assert_by_index(record(lambda: repository.rescue(10)))

    def test_dropping_a_lease(
        self, repository: PostgresRepository, node: int, record: Record
    ) -> None:
        take(repository, node)
        assert_by_index(record(lambda: repository.drop_lease(node, 1)))

    def test_expire(self, repository: PostgresRepository, record: Record) -> None:
        repository.insert(some_tasks(50, expires_in=-1.0))
        assert_by_index(record(lambda: repository.expire(BATCH)))

    def test_keyed_insert(self, repository: PostgresRepository, record: Record) -> None:
        first = some_tasks(1, unique="k")
        repository.insert(first)
        again = [*some_tasks(1, unique="k", on_conflict="replace"), *some_tasks(1, given_id=True)]
        assert_by_index(record(lambda: repository.insert(again)))
