"""Partitions, retention, folded counts, and how dead processes are found out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Ending, Membership
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
DAY = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def repository(open_postgres: Open, clock: FakeClock) -> PostgresRepository:
    return open_postgres(clock)


@pytest.fixture
def node(repository: PostgresRepository) -> NodeHandle:
    return NodeHandle(repository)


def place_of(stranger: psycopg.Connection, table: str, task_id: str) -> str | None:
    """The partition in which this task's row of this table is."""
    row = stranger.execute(
        f"select tableoid::regclass::text from {table} where id = %s", (task_id,)
    ).fetchone()
    stranger.commit()
    return None if row is None else row[0]


def days_of(stranger: psycopg.Connection, table: str) -> list[str]:
    rows = stranger.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass", (table,)
    ).fetchall()
    stranger.commit()
    return sorted(row[0].removeprefix(f"{table}_") for row in rows)


class TestPartitions:
    @pytest.mark.parametrize(
        ("kind", "table"),
        [
            (Ending.DONE, "rota_done"),
            (Ending.FAILED, "rota_failed"),
            (Ending.RETRY, "rota_attempt"),
        ],
    )
    def test_history_lands_in_the_days_partition(
        self,
        repository: PostgresRepository,
        node: NodeHandle,
        stranger: psycopg.Connection,
        kind: Ending,
        table: str,
    ) -> None:
        repository.insert([a_task()])
        claimed = node.claim_only()
        node.end(claimed, kind)
        assert place_of(stranger, table, claimed.id) == f"{table}_p{repository.now():%Y%m%d}"

    def test_a_week_stands_ready_and_tidy_goes_on(
        self, repository: PostgresRepository, stranger: psycopg.Connection, clock: FakeClock
    ) -> None:
        today = repository.now()
        week = [f"p{today + timedelta(days=day):%Y%m%d}" for day in range(8)]
        assert days_of(stranger, "rota_done") == ["default", *week]
        clock.advance(3 * DAY)
        repository.tidy()
        more = [f"p{today + timedelta(days=day):%Y%m%d}" for day in range(8, 11)]
        assert days_of(stranger, "rota_done") == ["default", *week, *more]

    def test_the_default_catches_what_has_no_partition_and_is_emptied_in_time(
        self,
        repository: PostgresRepository,
        node: NodeHandle,
        stranger: psycopg.Connection,
        clock: FakeClock,
    ) -> None:
        clock.advance(100 * DAY)
        repository.insert([a_task()])
        claimed = node.claim_only()
        node.end(claimed)
        assert place_of(stranger, "rota_done", claimed.id) == "rota_done_default"
        repository.tidy()
        # Its day cannot get a partition any more; the days after it have theirs.
        assert f"p{repository.now():%Y%m%d}" not in days_of(stranger, "rota_done")
        assert f"p{repository.now() + timedelta(days=1):%Y%m%d}" in days_of(stranger, "rota_done")
        clock.advance(8 * DAY)
        repository.tidy()
        assert repository.get(claimed.id) is None
        bodies = stranger.execute("select count(*) from rota_body").fetchone()
        assert bodies == (0,)

    def test_a_dropped_partition_takes_its_bodies_along(
        self,
        repository: PostgresRepository,
        node: NodeHandle,
        stranger: psycopg.Connection,
        clock: FakeClock,
    ) -> None:
        waiting = a_task(queue="other", delay=20 * DAY)
        repository.insert([*some_tasks(5), waiting])
        day = f"p{repository.now():%Y%m%d}"
        for claimed in node.claim():
            node.end(claimed)
        clock.advance(9 * DAY)
        repository.tidy()
        assert day not in days_of(stranger, "rota_done")
        assert day in days_of(stranger, "rota_failed")
        ids = stranger.execute("select id::text from rota_body").fetchall()
        assert ids == [(waiting.id,)]

    def test_ddl_gives_way_to_whoever_reads_and_is_tried_again(
        self, repository: PostgresRepository, stranger: psycopg.Connection, clock: FakeClock
    ) -> None:
        clock.advance(3 * DAY)
        before = days_of(stranger, "rota_done")
        stranger.execute("lock table rota_done in access exclusive mode")
        repository._partitions.make(repository._connections)
        stranger.rollback()
        assert days_of(stranger, "rota_done") == before
        assert len(days_of(stranger, "rota_failed")) == len(before) + 3
        repository.tidy()
        assert len(days_of(stranger, "rota_done")) == len(before) + 3


def test_finished_counts_are_folded_and_add_up(
    repository: PostgresRepository,
    node: NodeHandle,
    stranger: psycopg.Connection,
    clock: FakeClock,
) -> None:
    repository.insert(some_tasks(6))
    for claimed in node.claim():
        repository.finish(node.id, [ending(claimed, Ending.DONE, ago=0.5)])
    clock.advance(600)
    repository.tidy()
    rows = stranger.execute("select sum(n), sum(seconds), count(*) from rota_tally").fetchone()
    assert rows is not None
    assert (rows[0], rows[1]) == (6, 3.0)
    assert rows[2] <= 2  # a minute may have ended in between


class TestProofOfDeath:
    """A node whose session lock is gone has a last, short lease."""

    @pytest.fixture
    def witness(self, repository: PostgresRepository) -> NodeHandle:
        return NodeHandle(repository)

    @staticmethod
    def shows_death(witness: NodeHandle) -> bool:
        """Whether a glance says that there is somebody to bury, or to leave a short lease."""
        return witness.repository.glance(witness.id, ()).dead

    @staticmethod
    def left(repository: PostgresRepository, node: int) -> float:
        (found,) = [view for view in repository.nodes() if view.id == node]
        return found.lease_left

    def end(self, victim: NodeHandle, witness: NodeHandle, others: int = 0) -> None:
        """Close its connections, and wait until the server has noticed."""
        victim.repository.close()
        with witness.repository._connections.session() as session:
            for _ in range(100_000):
                held = session.rows(
                    "select 1 from pg_locks"
                    " where locktype = 'advisory' and objid::bigint = %(low)s",
                    low=victim.id & 2147483647,
                )
                if len(held) <= others:
                    return
        raise AssertionError("the server still shows the lock of a closed connection")

    def settle(self, clock: FakeClock, *nodes: NodeHandle) -> None:
        """Let the server be older than a lease, with all nodes alive."""
        clock.advance(40)
        for node in nodes:
            assert node.beat()

    def test_a_lost_lock_shortens_the_lease_and_then_buries(
        self, open_postgres: Open, clock: FakeClock, witness: NodeHandle
    ) -> None:
        victim = NodeHandle(open_postgres(clock))
        self.settle(clock, victim, witness)
        assert not self.shows_death(witness)
        assert witness.repository.bury(witness.id, trusted=True) == []
        assert self.left(witness.repository, victim.id) > 20
        self.end(victim, witness)
        assert self.shows_death(witness)
        assert witness.repository.bury(witness.id, trusted=True) == []
        assert self.left(witness.repository, victim.id) <= 2
        assert not self.shows_death(witness)  # until that is over
        left = witness.repository.glance(witness.id, ()).lease_left
        assert left is not None
        assert left <= 1.5
        clock.advance(3)
        assert self.shows_death(witness)
        assert witness.repository.bury(witness.id, trusted=False) == []
        assert witness.repository.bury(witness.id, trusted=True) == [victim.id]

    def test_a_beat_in_time_restores_the_lease(
        self, open_postgres: Open, clock: FakeClock, witness: NodeHandle
    ) -> None:
        victim = NodeHandle(open_postgres(clock))
        self.settle(clock, victim, witness)
        witness.repository.bury(witness.id, trusted=True)
        self.end(victim, witness)
        witness.repository.bury(witness.id, trusted=True)
        victim.repository.open()
        assert victim.beat()
        clock.advance(3)
        assert witness.repository.bury(witness.id, trusted=True) == []
        assert self.left(witness.repository, victim.id) > 20

    def test_a_node_behind_a_pooler_holds_no_lock_and_is_not_suspected(
        self, open_postgres: Open, clock: FakeClock, witness: NodeHandle
    ) -> None:
        pooled = NodeHandle(open_postgres(clock, poll_only=True))
        self.settle(clock, pooled, witness)
        for _ in range(3):
            assert not self.shows_death(witness)
            assert witness.repository.bury(witness.id, trusted=True) == []
        assert self.left(witness.repository, pooled.id) > 20

    def test_nothing_is_concluded_from_locks_of_another_schema(
        self,
        postgres_url: str,
        empty_schema: str,
        open_postgres: Open,
        clock: FakeClock,
        witness: NodeHandle,
    ) -> None:
        victim = NodeHandle(open_postgres(clock))
        other = PostgresRepository(postgres_url, clock=clock, schema=empty_schema)
        other.upgrade()
        other.join(Membership(victim.id, "n", "h", 1, 30.0))
        self.settle(clock, victim, witness)
        self.end(victim, witness, others=1)
        assert self.shows_death(witness)
        assert witness.repository.bury(witness.id, trusted=True) == []
        assert self.left(witness.repository, victim.id) <= 2
        other.close()

    def test_a_node_that_came_later_sees_the_missing_lock_of_an_earlier_one(
        self, open_postgres: Open, clock: FakeClock
    ) -> None:
        victim = NodeHandle(open_postgres(clock))
        self.settle(clock, victim)
        late = NodeHandle(open_postgres(clock))
        self.end(victim, late)
        assert self.shows_death(late)
        assert late.repository.bury(late.id, trusted=True) == []
        assert self.left(late.repository, victim.id) <= 2

    def test_nobody_is_buried_within_a_lease_after_the_server_started(
        self, witness: NodeHandle
    ) -> None:
        # A lease longer than the server has been up, and over because the row is made to say so.
        long = Membership(new_incarnation(), "n", "h", 1, 10.0 * DAY * 365)
        witness.repository.join(long)
        with witness.repository._connections.session() as session:
            session.rows(
                f"update {witness.repository._tables.node.fullname} "
                "set lease_until = now() - interval '1 day' where id = %(id)s",
                id=long.id,
            )
        assert not self.shows_death(witness)
        assert witness.repository.bury(witness.id, trusted=True) == []
