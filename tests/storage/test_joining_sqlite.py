"""Tasks put in and finished inside the caller's own transaction on an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rota.core.task import Change, Ending, Fence, Inserted, Stored, TaskState
from rota.errors import InvalidArgument, LeaseLost
from rota.storage.sqlite import SQLiteRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, ids, some_tasks
from tests.storage.joining_callers import (
    Caller,
    Run,
    by_asyncio,
    by_connection,
    by_session,
    take_one,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def repository(path: Path, clock: FakeClock) -> Iterator[SQLiteRepository]:
    made = SQLiteRepository(path, clock=clock, synchronous="OFF")
    made.open()
    yield made
    made.close()


@pytest.fixture(params=[by_connection, by_session, by_asyncio])
def run(request: pytest.FixtureRequest, path: Path) -> Run:
    return lambda scenario: request.param(path, scenario)


@pytest.fixture
def run_plainly(path: Path) -> Run:
    return lambda scenario: by_connection(path, scenario)


@pytest.fixture
def node(repository: SQLiteRepository) -> NodeHandle:
    return NodeHandle(repository)


# Commit and rollback, by every kind of connection


def test_what_joined_is_there_once_the_caller_commits(
    repository: SQLiteRepository, run: Run, node: NodeHandle
) -> None:
    plain = a_task(delay=30, expires_in=60, meta='{"m":1}', fire_at=repository.now())
    joining = plain._replace(id=a_task().id)
    repository.insert([plain])

    def scenario(caller: Caller) -> None:
        answers = repository.insert_in(caller.connection, [joining])
        assert answers == [Inserted(joining.id, True, Stored.SCHEDULED)]
        assert repository.get(joining.id) is None
        caller.transaction.commit()

    run(scenario)
    one, other = repository.get(plain.id), repository.get(joining.id)
    assert one is not None
    assert other is not None
    assert {**_fields(one), "id": joining.id} == _fields(other)
    assert node.claim_one(joining.id).params == plain.params


def _fields(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__slots__}


def test_what_joined_goes_with_the_callers_rollback(repository: SQLiteRepository, run: Run) -> None:
    task = a_task(unique="k", period=60.0)

    def scenario(caller: Caller) -> None:
        assert repository.insert_in(caller.connection, [task])[0].created
        caller.transaction.rollback()

    run(scenario)
    assert repository.get(task.id) is None
    assert repository.insert([task])[0].created


def test_a_savepoint_takes_back_only_its_own(repository: SQLiteRepository, run: Run) -> None:
    kept, undone, later = some_tasks(3)

    def scenario(caller: Caller) -> None:
        repository.insert_in(caller.connection, [kept])
        savepoint = caller.transaction.begin_nested()
        repository.insert_in(caller.connection, [undone])
        savepoint.rollback()
        repository.insert_in(caller.connection, [later])
        caller.transaction.commit()

    run(scenario)
    assert set(repository.states(ids([kept, undone, later]))) == {kept.id, later.id}


def test_an_outcome_counts_once_the_caller_commits(
    repository: SQLiteRepository, run: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)
    outcome = ending(claimed, Ending.DONE, payload='{"r":1}', ago=2.0)

    def scenario(caller: Caller) -> None:
        repository.finish_in(caller.connection, node.id, outcome)
        assert repository.states([claimed.id]) == {claimed.id: Stored.WORKING}
        caller.transaction.commit()

    run(scenario)
    task = repository.get(claimed.id)
    assert task is not None
    assert (task.state, task.result, task.node) == (TaskState.DONE, {"r": 1}, node.id)
    assert task.finished_at == repository.now()
    assert repository.held(node.id) == []
    assert node.finish(outcome, repeated=True) == [Stored.DONE]


def test_an_outcome_goes_with_the_callers_rollback(
    repository: SQLiteRepository, run: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)
    follow = a_task()

    def scenario(caller: Caller) -> None:
        outcome = ending(claimed, Ending.DONE, follow=follow)
        repository.finish_in(caller.connection, node.id, outcome)
        caller.transaction.rollback()

    run(scenario)
    assert repository.states([claimed.id, follow.id]) == {claimed.id: Stored.WORKING}
    assert repository.held(node.id) == [(claimed.batch, [claimed.id])]
    assert node.end(claimed, Ending.FAILED) is Stored.FAILED


def test_a_lost_lease_is_said_inside_the_transaction_which_goes_on(
    repository: SQLiteRepository, run: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)
    node.end(claimed, Ending.RETRY)
    late, follow, child, other = ending(claimed, Ending.DONE), a_task(), a_task(), a_task()
    fence = Fence(node.id, claimed.batch, claimed.id)

    def scenario(caller: Caller) -> None:
        with pytest.raises(LeaseLost):
            repository.finish_in(caller.connection, node.id, late._replace(follow=follow))
        with pytest.raises(LeaseLost):
            repository.insert_in(caller.connection, [a_task(), child._replace(fence=fence)])
        repository.insert_in(caller.connection, [other])
        caller.transaction.commit()

    run(scenario)
    assert repository.states(ids([claimed, follow, child, other])) == {
        claimed.id: Stored.SCHEDULED,
        other.id: Stored.SCHEDULED,
    }
    assert repository.counts()["scheduled"] == 2


def test_the_callers_own_rows_share_the_fate(
    repository: SQLiteRepository, run: Run, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as own:
        own.execute("create table invoice (n integer)")
    for finish in ("commit", "rollback"):
        task = a_task()

        def scenario(caller: Caller, task: Any = task, finish: str = finish) -> None:
            caller.connection.exec_driver_sql("insert into invoice values (1)")
            repository.insert_in(caller.connection, [task])
            getattr(caller.transaction, finish)()

        run(scenario)
        assert len(repository.states([task.id])) == (finish == "commit")
    with closing(sqlite3.connect(path)) as own:
        assert own.execute("select count(*) from invoice").fetchone() == (1,)


# What joins meets


def test_what_joins_meets_keys_and_ids(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    held = repository.insert([a_task(unique="k", delay=60)])[0].id
    over = take_one(repository, node, given_id=True)
    node.end(over)

    def scenario(caller: Caller) -> None:
        met = repository.insert_in(
            caller.connection,
            [
                a_task(unique="k"),
                a_task(id=held),
                a_task(id=over.id, given_id=True),
                a_task(unique="k", on_conflict="replace", params='{"n":2}', meta='{"m":2}'),
            ],
        )
        assert met == [
            Inserted(held, False, Stored.SCHEDULED, True),
            Inserted(held, False, Stored.SCHEDULED),
            Inserted(over.id, False, Stored.DONE),
            Inserted(held, False, Stored.SCHEDULED, True),
        ]
        caller.transaction.commit()

    run_plainly(scenario)
    claimed = node.claim_only()
    assert (claimed.id, claimed.params, claimed.meta) == (held, '{"n":2}', '{"m":2}')
    assert repository.states([over.id]) == {over.id: Stored.DONE}


def test_what_joins_takes_and_meets_period_keys(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle, clock: FakeClock
) -> None:
    first, second, third, fourth = (a_task(unique="k", period=60.0) for _ in range(4))

    def scenario(caller: Caller) -> None:
        answers = repository.insert_in(caller.connection, [first, second])
        assert answers == [
            Inserted(first.id, True, Stored.SCHEDULED),
            Inserted(first.id, False, Stored.SCHEDULED, True),
        ]
        caller.transaction.commit()
        node.end(node.claim_only())
        answers = repository.insert_in(caller.connection, [third])
        assert answers == [Inserted(first.id, False, Stored.DONE, True)]
        caller.transaction.commit()
        clock.advance(61)
        assert repository.insert_in(caller.connection, [fourth])[0].created
        caller.transaction.commit()

    run_plainly(scenario)
    assert repository.insert([third]) == [Inserted(fourth.id, False, Stored.SCHEDULED, True)]
    assert set(repository.states(ids([first, second, third, fourth]))) == {first.id, fourth.id}


def test_a_child_joins_under_its_parents_token(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    parent = take_one(repository, node)
    child = a_task(parent=parent.id, fence=Fence(node.id, parent.batch, parent.id))

    def scenario(caller: Caller) -> None:
        assert repository.insert_in(caller.connection, [child])[0].created
        caller.transaction.commit()

    run_plainly(scenario)
    assert repository.children(parent.id, 10) == [(child.id, "demo", Stored.SCHEDULED)]


def test_what_follows_joins_and_may_take_its_tasks_key(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    freed, other = take_one(repository, node, unique="k"), take_one(repository, node)
    follow, met = a_task(unique="k"), a_task(unique="k", on_conflict="replace", params="{}")

    def scenario(caller: Caller) -> None:
        outcome = ending(freed, Ending.DONE, follow=follow)
        repository.finish_in(caller.connection, node.id, outcome)
        outcome = ending(other, Ending.FAILED, reason="no", follow=met)
        repository.finish_in(caller.connection, node.id, outcome)
        caller.transaction.commit()

    run_plainly(scenario)
    assert repository.states(ids([freed, other, follow, met])) == {
        freed.id: Stored.DONE,
        other.id: Stored.FAILED,
        follow.id: Stored.SCHEDULED,
    }
    assert node.claim_only().params == follow.params


def test_a_lease_stays_while_others_work_under_it(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle, clock: FakeClock
) -> None:
    repository.insert(some_tasks(2))
    one, other = node.claim()
    assert one.batch == other.batch

    def scenario(caller: Caller) -> None:
        repository.finish_in(caller.connection, node.id, ending(one, Ending.DONE))
        caller.transaction.commit()

    run_plainly(scenario)
    repository.leave(node.id)
    assert [rescued.id for rescued in repository.rescue(10)] == [other.id]


def test_an_outcome_after_which_the_task_goes_on_is_refused(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)

    def scenario(caller: Caller) -> None:
        with pytest.raises(InvalidArgument, match="retry cannot be written"):
            repository.finish_in(caller.connection, node.id, ending(claimed, Ending.RETRY))

    run_plainly(scenario)
    assert node.end(claimed) is Stored.DONE


def test_a_cancelled_outcome_without_a_reason_has_that_of_who_asked(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)
    repository.cancel(claimed.id, "stop it")

    def scenario(caller: Caller) -> None:
        repository.finish_in(caller.connection, node.id, ending(claimed, Ending.CANCELLED))
        caller.transaction.commit()

    run_plainly(scenario)
    task = repository.get(claimed.id)
    assert task is not None
    assert (task.state, task.reason) == (TaskState.CANCELLED, "stop it")


def test_the_feed_tells_what_joined_and_was_committed(
    repository: SQLiteRepository, run_plainly: Run, node: NodeHandle
) -> None:
    claimed = take_one(repository, node)
    repository.feed(on=True)
    task, undone = some_tasks(2)

    def scenario(caller: Caller) -> None:
        repository.insert_in(caller.connection, [undone])
        caller.transaction.rollback()
        repository.insert_in(caller.connection, [task])
        caller.transaction.commit()
        repository.finish_in(caller.connection, node.id, ending(claimed, Ending.DONE))
        caller.transaction.commit()

    run_plainly(scenario)
    now = repository.now()
    changes, cursor = repository.updated_since(None, 10)
    assert changes == [
        Change(task.id, Stored.SCHEDULED, now),
        Change(claimed.id, Stored.DONE, now),
    ]
    assert repository.updated_since(cursor, 10) == ([], cursor)
