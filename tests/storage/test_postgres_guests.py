"""Tasks put in and finished within a transaction of the caller's own, through every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session as OrmSession

from rota.core.task import Ending, Fence, Finish, NewTask, Stored
from rota.errors import DataRefused, InvalidArgument, LeaseLost, StorageError
from rota.storage.postgres import PostgresRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending, some_tasks

pytestmark = pytest.mark.postgres

Open = Callable[..., PostgresRepository]
#: What a caller does within a transaction, given the connection that rota is to use.
Act = Callable[[Any], Any]


@pytest.fixture
def repository(open_postgres: Open) -> PostgresRepository:
    return open_postgres(FakeClock())


@pytest.fixture
def node(repository: PostgresRepository) -> NodeHandle:
    return NodeHandle(repository)


class Caller:
    """Runs acts in transactions of its own, the way an application with this driver would."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self._url = kind, url

    def commit(self, act: Act) -> Any:
        return self._run(act, "commit")

    def roll_back(self, act: Act) -> Any:
        return self._run(act, "roll back")

    def roll_back_to_savepoint(self, act: Act) -> Any:
        """Commit a transaction in which the act was undone."""
        return self._run(act, "savepoint")

    def _run(self, act: Act, end: str) -> Any:
        kind, _, driver = self.kind.partition(" ")
        if kind == "raw":
            return self._raw(act, end)
        url = make_url(self._url).set(drivername=f"postgresql+{driver}")
        if driver == "asyncpg":
            # It knows neither of libpq's ways to name a directory and a port.
            place = {"host": url.query["host"], "port": int(str(url.query["port"]))}
            options = {"connect_args": place} if "host" in url.query else {}
            bare = url.set(query={}) if options else url
            engine = create_async_engine(bare, poolclass=NullPool, **options)
            return asyncio.run(self._asynchronous(engine, act, end))
        if kind.startswith("async"):
            engine = create_async_engine(url, poolclass=NullPool)
            return asyncio.run(self._asynchronous(engine, act, end))
        return self._plain(create_engine(url, poolclass=NullPool), act, end)

    def _raw(self, act: Act, end: str) -> Any:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            if end == "savepoint":
                with connection.transaction(force_rollback=True):
                    return act(connection)
            answer = act(connection)
            (connection.commit if end == "commit" else connection.rollback)()
            return answer

    def _plain(self, engine: sqlalchemy.Engine, act: Act, end: str) -> Any:
        if self.kind.startswith("session"):
            with OrmSession(engine) as session:
                return self._within(session, lambda: act(session.connection()), end)
        with engine.connect() as connection:
            return self._within(connection, lambda: act(connection), end)

    def _within(self, outer: Any, act: Callable[[], Any], end: str) -> Any:
        if end == "savepoint":
            savepoint = outer.begin_nested()
            answer = act()
            savepoint.rollback()
            outer.commit()
            return answer
        answer = act()
        (outer.commit if end == "commit" else outer.rollback)()
        return answer

    async def _asynchronous(self, engine: AsyncEngine, act: Act, end: str) -> Any:
        opened: Any = AsyncSession(engine) if "session" in self.kind else engine.connect()
        async with opened as outer:
            savepoint = await outer.begin_nested() if end == "savepoint" else None
            connection = await outer.connection() if "session" in self.kind else outer
            answer = await connection.run_sync(act)
            if savepoint is not None:
                await savepoint.rollback()
            await (outer.rollback() if end == "roll back" else outer.commit())
        return answer


@pytest.fixture(
    params=[
        "raw psycopg",
        "connection psycopg",
        "connection psycopg2",
        "session psycopg",
        "session psycopg2",
        "async psycopg",
        "async asyncpg",
        "async-session psycopg",
        "async-session asyncpg",
    ]
)
def caller(request: pytest.FixtureRequest, postgres_url: str) -> Caller:
    return Caller(request.param, postgres_url)


def insertion(repository: PostgresRepository, *tasks: NewTask) -> Act:
    return lambda connection: repository.insert_in(connection, tasks)


def finish(repository: PostgresRepository, node: int, outcome: Finish) -> Act:
    return lambda connection: repository.finish_in(connection, node, outcome)


class TestInserting:
    def test_what_is_committed_is_there(
        self, repository: PostgresRepository, caller: Caller
    ) -> None:
        task = a_task(meta='{"a":[1,"ü"]}', delay=60.0, expires_in=60.0, parent=a_task().id)
        (answer,) = caller.commit(insertion(repository, task))
        assert (answer.id, answer.created) == (task.id, True)
        found = repository.get(task.id)
        assert found is not None
        assert (found.params, found.meta, found.parent) == ({"n": 1}, {"a": [1, "ü"]}, task.parent)
        assert found.expires_at is not None
        assert (found.expires_at - found.run_at).total_seconds() == 60.0

    def test_what_is_rolled_back_never_was(
        self, repository: PostgresRepository, caller: Caller
    ) -> None:
        task = a_task(unique="k")
        later = a_task(unique="p", period=60.0)
        answers = caller.roll_back(insertion(repository, task, later))
        assert all(answer.created for answer in answers)
        assert repository.states([task.id, later.id]) == {}
        assert all(one.created for one in repository.insert([task, later]))

    def test_what_a_savepoint_undoes_never_was(
        self, repository: PostgresRepository, caller: Caller
    ) -> None:
        task = a_task()
        assert caller.roll_back_to_savepoint(insertion(repository, task))[0].created
        assert repository.states([task.id]) == {}

    def test_keys_and_ids_are_met_as_ever(
        self, repository: PostgresRepository, caller: Caller
    ) -> None:
        by_key, by_period, ended = a_task(unique="k"), a_task(unique="p", period=60.0), a_task()
        repository.insert([by_key, by_period, ended])
        repository.cancel(ended.id, "no")
        again = [
            a_task(unique="k", on_conflict="replace", params='{"n":2}'),
            a_task(unique="p", period=60.0),
            ended._replace(given_id=True),
            a_task(),
        ]
        answers = caller.commit(insertion(repository, *again))
        assert [(a.id, a.created, a.state, a.by_key) for a in answers] == [
            (by_key.id, False, Stored.SCHEDULED, True),
            (by_period.id, False, Stored.SCHEDULED, True),
            (ended.id, False, Stored.CANCELLED, False),
            (again[3].id, True, Stored.SCHEDULED, False),
        ]
        found = repository.get(by_key.id)
        assert found is not None
        assert found.params == {"n": 2}

    def test_a_fence_holds_here_too(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller
    ) -> None:
        repository.insert([a_task()])
        claimed = node.claim_only()
        fence = Fence(node.id, claimed.batch, claimed.id)
        child, late = a_task(queue="other", fence=fence), a_task(queue="other", fence=fence)
        assert caller.commit(insertion(repository, child))[0].created
        node.end(claimed)
        with pytest.raises(LeaseLost):
            caller.commit(insertion(repository, late))
        assert repository.states([late.id]) == {}

    def test_the_change_feed_tells_of_it(
        self, repository: PostgresRepository, caller: Caller, stranger: psycopg.Connection
    ) -> None:
        repository.feed(on=True)
        task = a_task()
        caller.commit(insertion(repository, task))
        rows = stranger.execute("select id::text, state from rota_change").fetchall()
        assert rows == [(task.id, Stored.SCHEDULED)]

    def test_data_the_database_refuses_is_said_to_be_so(
        self, repository: PostgresRepository, caller: Caller
    ) -> None:
        with pytest.raises(DataRefused):
            caller.commit(insertion(repository, a_task(queue="o"), a_task(meta="{")))


class TestFinishing:
    @pytest.mark.parametrize("kind", [Ending.DONE, Ending.FAILED, Ending.CANCELLED])
    def test_what_is_committed_has_ended(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller, kind: Ending
    ) -> None:
        repository.insert([a_task()])
        claimed, follow = node.claim_only(), a_task(queue="other")
        outcome = ending(claimed, kind, payload='{"x":1}', reason="so", ago=2.0, follow=follow)
        caller.commit(finish(repository, node.id, outcome))
        assert repository.states([claimed.id, follow.id]) == {
            claimed.id: Stored(int(kind)),
            follow.id: Stored.SCHEDULED,
        }
        assert repository.held(node.id) == []
        found = repository.get(claimed.id)
        assert found is not None
        assert found.started_at is not None
        assert found.finished_at is not None
        assert (found.finished_at - found.started_at).total_seconds() == 2.0
        assert (found.reason, found.node, found.batch) == ("so", node.id, claimed.batch)

    @pytest.mark.parametrize("how", ["roll_back", "roll_back_to_savepoint"])
    def test_what_is_undone_leaves_the_task_at_work(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller, how: str
    ) -> None:
        repository.insert([a_task()])
        claimed, follow = node.claim_only(), a_task(queue="other")
        outcome = ending(claimed, Ending.DONE, follow=follow)
        getattr(caller, how)(finish(repository, node.id, outcome))
        assert repository.states([claimed.id, follow.id]) == {claimed.id: Stored.WORKING}
        assert repository.held(node.id) == [(claimed.batch, [claimed.id])]
        assert node.end(claimed) is Stored.DONE

    def test_a_token_that_is_no_more_is_refused_and_the_transaction_goes_on(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller
    ) -> None:
        repository.insert([a_task()])
        claimed, other = node.claim_only(), a_task(queue="other")
        node.end(claimed, Ending.RETRY)

        def act(connection: Any) -> Any:
            with pytest.raises(LeaseLost):
                repository.finish_in(connection, node.id, ending(claimed, Ending.DONE))
            return repository.insert_in(connection, [other])

        assert caller.commit(act)[0].created
        assert repository.states([claimed.id, other.id]) == {
            claimed.id: Stored.SCHEDULED,
            other.id: Stored.SCHEDULED,
        }

    def test_an_outcome_after_which_the_task_goes_on_is_refused(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller
    ) -> None:
        repository.insert([a_task()])
        claimed = node.claim_only()
        with pytest.raises(InvalidArgument) as refused:
            caller.commit(finish(repository, node.id, ending(claimed, Ending.RETRY)))
        assert refused.value.field == "finish"

    def test_a_lease_with_others_in_it_stays(
        self, repository: PostgresRepository, node: NodeHandle, caller: Caller
    ) -> None:
        repository.insert(some_tasks(2))
        first, second = node.claim()
        caller.commit(finish(repository, node.id, ending(first, Ending.DONE)))
        assert [batch for batch, _ in repository.held(node.id)] == [second.batch]


class TestTheCallersConnection:
    def test_its_rows_and_settings_stay_its_own(
        self, repository: PostgresRepository, postgres_url: str
    ) -> None:
        with psycopg.connect(postgres_url, row_factory=dict_row) as connection:
            connection.execute("set timezone = 'Asia/Tokyo'")
            task = a_task(delay=60.0)
            repository.insert_in(connection, [task])
            row: Any = connection.execute("select current_setting('timezone') as zone").fetchone()
            assert row == {"zone": "Asia/Tokyo"}
        found = repository.get(task.id)
        assert found is not None
        assert (found.run_at - repository.now()).total_seconds() < 60.0

    @contextmanager
    def autocommit(self, kind: str, url: str) -> Iterator[Any]:
        if kind == "raw":
            with psycopg.connect(url, autocommit=True) as connection:
                yield connection
            return
        there = make_url(url).set(drivername=f"postgresql+{kind}")
        engine = create_engine(there, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            yield conn

    @pytest.mark.parametrize("kind", ["raw", "psycopg", "psycopg2"])
    def test_one_that_commits_each_statement_is_refused(
        self, repository: PostgresRepository, postgres_url: str, kind: str
    ) -> None:
        task = a_task()
        with (
            self.autocommit(kind, postgres_url) as connection,
            pytest.raises(InvalidArgument, match="autocommit") as refused,
        ):
            repository.insert_in(connection, [task])
        assert refused.value.field == "connection"
        assert repository.states([task.id]) == {}

    def test_autocommit_within_a_transaction_block_is_welcome(
        self, repository: PostgresRepository, postgres_url: str
    ) -> None:
        task = a_task()
        with (
            psycopg.connect(postgres_url, autocommit=True) as connection,
            connection.transaction(force_rollback=True),
        ):
            assert repository.insert_in(connection, [task])[0].created
        assert repository.states([task.id]) == {}

    def test_another_dialect_is_refused(self, repository: PostgresRepository) -> None:
        with (
            create_engine("sqlite://").connect() as conn,
            pytest.raises(InvalidArgument, match="sqlite"),
        ):
            repository.insert_in(conn, [a_task()])

    @pytest.mark.parametrize("given", [None, "connection", 7])
    def test_what_is_no_connection_is_refused(
        self, repository: PostgresRepository, given: object
    ) -> None:
        with pytest.raises(InvalidArgument) as refused:
            repository.insert_in(given, [a_task()])
        assert refused.value.field == "connection"

    @pytest.mark.parametrize("kind", ["raw psycopg", "connection psycopg", "async asyncpg"])
    def test_another_database_is_refused(
        self, repository: PostgresRepository, postgres_url: str, kind: str
    ) -> None:
        elsewhere = make_url(postgres_url).set(database="template1")
        stray = Caller(kind, elsewhere.render_as_string(hide_password=False))
        with pytest.raises(InvalidArgument, match="template1"):
            stray.commit(insertion(repository, a_task()))

    def test_another_schema_of_the_search_path_is_refused(
        self, postgres_url: str, postgres_schema: str, open_postgres: Open
    ) -> None:
        # Without a schema of its own the repository is where its URL's search path leads.
        at_home = make_url(postgres_url).update_query_dict(
            {"options": f"-c search_path={postgres_schema}"}
        )
        repository = PostgresRepository(at_home, clock=FakeClock())
        repository.open()
        try:
            with psycopg.connect(postgres_url) as lost:
                with pytest.raises(InvalidArgument, match="not found"):
                    repository.insert_in(lost, [a_task()])
                lost.execute(f"set search_path = {postgres_schema}")
                assert repository.insert_in(lost, [a_task()])[0].created
        finally:
            repository.close()

    def test_a_transaction_that_has_failed_is_said_to_be_so(
        self, repository: PostgresRepository, stranger: psycopg.Connection
    ) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            stranger.execute("select 1/0")
        with pytest.raises(StorageError, match="roll it back"):
            repository.insert_in(stranger, [a_task()])
