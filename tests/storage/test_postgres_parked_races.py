"""Pullers of parked tasks beside others at the same rows pass over them and wait for none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota.core.ids import new_incarnation
from rota.core.task import Claimed, Ending
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import ids, some_tasks
from tests.storage.postgres_contenders import Side

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
LEASE = 60.0


@pytest.fixture
def one(open_postgres: Open) -> Side:
    return Side(open_postgres(FakeClock(), statement_timeout=60.0))


@pytest.fixture
def two(open_postgres: Open) -> Side:
    return Side(open_postgres(FakeClock(), statement_timeout=5.0))


@pytest.fixture
def parked(one: Side) -> list[str]:
    one.repository.insert(some_tasks(3))
    taken = one.claim()
    for claimed in taken:
        one.finish(claimed, Ending.PARK)
    return ids(taken)


def pull(side: Side, limit: int) -> list[Claimed]:
    return side.repository.claim_parked_until(new_incarnation(), 1, None, limit, LEASE)


def pulling(side: Side, limit: int) -> Callable[[Session], object]:
    verbs, owner = side.repository._claiming, new_incarnation()
    return lambda s: verbs.claim_parked_until(
        s, owner, 1, None, limit=limit, lease=LEASE, floor=-100, but_not=[]
    )


def test_two_pullers_share_nothing(one: Side, two: Side, parked: list[str]) -> None:
    with one.hold(pulling(one, 2)) as first:
        second = pull(two, 2)
        assert (len(first), len(second)) == (2, 1)
    assert {*ids(first), *ids(second)} == {*parked}
    assert pull(two, 2) == []


def test_a_node_that_knows_the_work_and_a_puller_share_nothing(
    one: Side, two: Side, parked: list[str]
) -> None:
    with one.hold(pulling(one, 2)) as first:
        second = two.repository.claim_parked(two.node, 1, ["demo"], 3, 0.0)
    assert sorted([*ids(first), *ids(second)]) == sorted(parked)


@pytest.mark.parametrize("verb", ["cancelling", "updating"])
def test_a_puller_passes_over_a_task_somebody_is_changing(
    one: Side, two: Side, parked: list[str], verb: str
) -> None:
    changed, *others = parked
    with one.hold(getattr(one, verb)(changed)):
        assert sorted(ids(pull(two, 9))) == sorted(others)
    later = pull(two, 9)
    assert [claimed.params for claimed in later] == (['{"n":2}'] if verb == "updating" else [])
