"""Hot statements look rows up by index, whatever the statistics say and however full the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending, Fence, Membership, Want
from rota.storage.postgres import PostgresRepository, tidying
from rota.testing.clock import FakeClock
from rota.testing.conformance.recurring import HOUR, a_tick
from rota.testing.conformance.setting import a_task, ending, some_tasks
from tests.storage.explaining import BATCH, Record, assert_by_index, recorder, scans, touched

pytestmark = pytest.mark.postgres

ROWS = 20_000
LEASE = 30.0


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
def record(repository: PostgresRepository, monkeypatch: pytest.MonkeyPatch) -> Record:
    return recorder(repository, monkeypatch)


def take(repository: PostgresRepository, node: int, batch: int = 1) -> list[Claimed]:
    taken = repository.claim(node, batch, [Want("q0", 0, BATCH)], 1.0)
    assert len(taken) == BATCH
    return taken


@pytest.fixture
def definitions(stranger: psycopg.Connection) -> datetime:
    """20,000, of which 200 were due at the moment returned, each with a child that has ended."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    stranger.execute(
        "insert into rota_recurring (id, work, params, trigger, options, queue, priority, rules,"
        " next_fire_at, due_at)"
        " select to_char(n, 'fm00000'), 'demo', '{}', '{}', '{}', 'default', 0, '{}', due, due"
        " from (select n, case when n %% 100 = 0 then %s::timestamptz"
        "   else now() + interval '1 day' end as due from generate_series(1, %s) n) o",
        (at, ROWS),
    )
    stranger.execute(
        "insert into rota_child select to_char(n, 'fm00000'), gen_random_uuid()"
        " from generate_series(1, %s) n",
        (ROWS,),
    )
    stranger.execute(
        "insert into rota_decision (recurring, fire_at, decision, task, decided_at)"
        " select recurring, '2025-01-01', 'fired', task, now() - n * interval '1 minute'"
        " from (select *, row_number() over () as n from rota_child) c"
    )
    stranger.commit()
    return at


@pytest.mark.usefixtures("statistics")
def test_recurring(repository: PostgresRepository, definitions: datetime, record: Record) -> None:
    """In one test, since what it stands on takes longer than its statements."""
    for but in ([], ["00100"]):
        assert_by_index(record(partial(repository.due_recurring, 0, BATCH, but=but)))
        assert len(repository.due_recurring(0, ROWS, but=but)[0]) == ROWS // 100 - len(but)
    due = repository.due_recurring(0, BATCH)[0]
    rules = ["skip", "queue", "allow", "skip"] * (BATCH // 4)
    ticks = [
        a_tick(definitions, recurring=one.id, overlap=overlap)
        for one, overlap in zip(due, rules, strict=True)
    ]
    ticks.append(a_tick(definitions, recurring="20000", child={"unique": "k"}))
    assert_by_index(record(lambda: repository.fire(ticks)))
    assert len(repository.decisions("20000", 5)) == 2
    repository.fire([a_tick(definitions + n * HOUR, recurring="00100") for n in range(1, BATCH)])
    for before in (None, definitions + 50 * HOUR):
        assert_by_index(record(partial(repository.children_of, "00100", 10, before)))
        assert_by_index(record(partial(repository.decisions, "00100", 10, before)))
    assert_by_index(record(lambda: repository.outstanding("00100", 50)))
    assert_by_index(record(lambda: repository.list_recurring(BATCH, after="00500")))
    assert_by_index(record(lambda: repository.look_again(["00100", "00200"])))
    plans = record(lambda: tidied(repository))
    for scan in (scan for plan in plans for scan in scans(plan)):
        assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
        assert touched(scan) <= 2 * tidying.CHUNK, json.dumps(scan)
    assert repository.outstanding("00100", 200) == BATCH


def tidied(repository: PostgresRepository) -> None:
    """The chores about recurring tasks, which are all in pages of one size."""
    with repository._connections.session() as session:
        repository._tidying.tidy_recurring(session)


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

    @pytest.mark.parametrize("queues", [None, ["q0", "q1"]])
    def test_pulled_claim_of_parked_tasks(
        self, repository: PostgresRepository, node: int, record: Record, queues: list[str] | None
    ) -> None:
        finishes = [ending(claimed, Ending.PARK) for claimed in take(repository, node)]
        repository.finish(node, finishes, [1])
        found: list[list[Claimed]] = []

        def pull() -> None:
            owner = new_incarnation()
            found.append(repository.claim_parked_until(owner, 1, queues, BATCH // 2, LEASE))

        # Some, the rest, then none: what is not parked costs it nothing.
        for _ in range(3):
            assert_by_index(record(pull))
        assert [len(taken) for taken in found] == [BATCH // 2, BATCH // 2, 0]

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

    def test_fenced_insert(self, repository: PostgresRepository, node: int, record: Record) -> None:
        fences = [Fence(node, claimed.batch, claimed.id) for claimed in take(repository, node)]
        tasks = [a_task(queue="other", fence=fence) for fence in fences]
        assert_by_index(record(lambda: repository.insert(tasks)))

    def test_insert_with_period_keys(self, repository: PostgresRepository, record: Record) -> None:
        for start in range(0, 4000, 1000):
            keys = [f"k{start + number}" for number in range(1000)]
            repository.insert([a_task(unique=key, period=60.0) for key in keys])
        again = [a_task(unique=f"k{number}", period=60.0) for number in range(BATCH)]
        again += [a_task(unique="new", period=60.0), a_task(unique="k0", on_conflict="replace")]
        assert_by_index(record(lambda: repository.insert(again)))

    def test_finish_with_follow_ups(
        self, repository: PostgresRepository, node: int, record: Record
    ) -> None:
        finishes = [
            ending(claimed, Ending.DONE, follow=a_task(queue="other", unique=claimed.id))
            for claimed in take(repository, node)
        ]
        assert_by_index(record(lambda: repository.finish(node, finishes, [1])))

    @pytest.mark.parametrize("how", [{"lazy": True}, {"alone": ["demo"]}])
    def test_claim_of_another_kind(
        self, repository: PostgresRepository, node: int, record: Record, how: dict[str, Any]
    ) -> None:
        wants = [Want("q0", 0, BATCH, 10), Want("q1", 2, 10)]
        assert_by_index(record(lambda: repository.claim(node, 1, wants, 60.0, **how)))

    def test_pulled_claim_and_its_extension(
        self, repository: PostgresRepository, record: Record
    ) -> None:
        wants, owner = [Want("q0", 0, BATCH), Want("q1", 2, 10)], new_incarnation()
        assert_by_index(record(lambda: repository.claim_until(owner, 1, wants, LEASE)))
        (plan, kept) = record(lambda: repository.extend(owner, 1, LEASE))
        assert all("Seq Scan" not in json.dumps(one) for one in (plan, kept))

    def test_report(self, repository: PostgresRepository, node: int, record: Record) -> None:
        for n, claimed in enumerate(take(repository, node)):
            repository.report(node, claimed.id, 1, n, "{}")
        assert_by_index(record(lambda: repository.report(node, claimed.id, 1, 1000, "{}")))

    def test_whose_tasks_and_their_bodies(
        self, repository: PostgresRepository, node: int, record: Record
    ) -> None:
        mine = [claimed.id for claimed in take(repository, node)]
        assert_by_index(record(lambda: repository.still_mine(node, mine)))
        assert_by_index(record(lambda: repository.bodies(mine)))

    def test_children(self, repository: PostgresRepository, record: Record) -> None:
        parent = a_task().id
        family = some_tasks(BATCH, queue="other", parent=parent)
        repository.insert(family)
        assert_by_index(record(lambda: repository.children(parent, 10)))
        assert_by_index(record(lambda: repository.children(parent, 10, family[50].id)))
        assert_by_index(record(lambda: repository.count_children(parent)))

    def test_change_feed(self, repository: PostgresRepository, record: Record) -> None:
        repository.feed(on=True)
        for _ in range(3):
            repository.insert(some_tasks(2000, queue="other"))
        _, cursor = repository.updated_since(None, 3000)
        for where in (None, cursor):
            assert_by_index(record(lambda since=where: repository.updated_since(since, BATCH)))
