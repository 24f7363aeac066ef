"""Which connections may carry tasks into their transaction on an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from rota.core.task import Ending, Inserted, Stored
from rota.errors import DataRefused, InvalidArgument, SchemaTooOld, StorageUnavailable
from rota.storage.sqlite import SQLiteRepository
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import NodeHandle, a_task, ending
from tests.storage.joining_callers import (
    Caller,
    Scenario,
    by_asyncio,
    by_connection,
    by_deferred,
    by_deferred_asyncio,
    deferred,
    immediate,
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


@pytest.fixture
def node(repository: SQLiteRepository) -> NodeHandle:
    return NodeHandle(repository)


@pytest.mark.parametrize("url", ["sqlite", "sqlite+aiosqlite"])
def test_a_connection_outside_a_transaction_is_told_the_recipe(
    repository: SQLiteRepository, path: Path, node: NodeHandle, url: str
) -> None:
    claimed = take_one(repository, node)

    def scenario(conn: Connection) -> None:
        for act in (
            lambda: repository.insert_in(conn, [a_task()]),
            lambda: repository.finish_in(conn, node.id, ending(claimed, Ending.DONE)),
        ):
            with pytest.raises(InvalidArgument, match="BEGIN IMMEDIATE") as refused:
                act()
            assert refused.value.field == "connection"

    async def main() -> None:
        engine = create_async_engine(f"{url}:///{path}")
        async with engine.connect() as conn:
            await conn.run_sync(scenario)
        await engine.dispose()

    if url == "sqlite":
        engine = create_engine(f"{url}:///{path}")
        with engine.connect() as conn:
            scenario(conn)
        engine.dispose()
    else:
        asyncio.run(main())
    assert repository.states([claimed.id]) == {claimed.id: Stored.WORKING}


def test_a_transaction_that_wrote_before_needs_no_recipe(
    repository: SQLiteRepository, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as own:
        own.execute("create table invoice (n integer)")
    engine = create_engine(f"sqlite:///{path}")
    task = a_task()
    with engine.begin() as conn:
        conn.exec_driver_sql("insert into invoice values (1)")
        repository.insert_in(conn, [task])
    engine.dispose()
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}


@pytest.mark.parametrize("run", [by_deferred, by_deferred_asyncio])
def test_a_transaction_that_another_write_overtook_is_told_the_recipe(
    repository: SQLiteRepository, path: Path, run: Callable[[Path, Scenario], None]
) -> None:
    def scenario(caller: Caller) -> None:
        caller.connection.exec_driver_sql("select count(*) from rota_task").all()
        repository.insert([a_task()])
        with pytest.raises(StorageUnavailable, match=r"wrote since yours began.*BEGIN IMMEDIATE"):
            repository.insert_in(caller.connection, [a_task()])

    run(path, scenario)
    assert repository.counts()["scheduled"] == 1


@pytest.mark.parametrize("run", [by_deferred, by_deferred_asyncio])
def test_a_transaction_that_cannot_write_is_told_the_recipe(
    repository: SQLiteRepository, path: Path, run: Callable[[Path, Scenario], None]
) -> None:
    def scenario(caller: Caller) -> None:
        with pytest.raises(StorageUnavailable, match=r"another transaction writes.*try again"):
            repository.insert_in(caller.connection, [a_task()])

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        run(path, scenario)
        other.execute("rollback")
    assert repository.counts()["scheduled"] == 0


@pytest.mark.parametrize("run", [by_connection, by_asyncio])
def test_what_sqlite_cannot_store_is_refused_as_data(
    repository: SQLiteRepository, path: Path, run: Callable[[Path, Scenario], None]
) -> None:
    def scenario(caller: Caller) -> None:
        with pytest.raises(DataRefused):
            repository.insert_in(caller.connection, [a_task(params="\ud800")])
        with pytest.raises(DataRefused):
            repository.insert_in(caller.connection, [a_task(priority=2**70)])

    run(path, scenario)


def test_a_file_without_rotas_tables_is_told_to_upgrade(
    repository: SQLiteRepository, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as own:
        own.execute("drop table rota_chore")
    engine = immediate(create_engine(f"sqlite:///{path}"))
    with engine.connect() as conn, pytest.raises(SchemaTooOld, match="rota db upgrade"):
        repository.insert_in(conn, [a_task()])
    engine.dispose()


def test_of_two_transactions_that_want_one_key_the_second_waits_and_meets_it(
    repository: SQLiteRepository, path: Path
) -> None:
    entered, answers = threading.Event(), list[Inserted]()
    first, second = a_task(unique="k"), a_task(unique="k")

    def come_second() -> None:
        engine = immediate(create_engine(f"sqlite:///{path}"))
        assert entered.wait(30)
        with engine.begin() as conn:
            answers.extend(repository.insert_in(conn, [second]))
        engine.dispose()

    thread = threading.Thread(target=come_second)
    thread.start()
    engine = immediate(create_engine(f"sqlite:///{path}"))
    with engine.begin() as conn:
        repository.insert_in(conn, [first])
        entered.set()
    engine.dispose()
    thread.join(30)
    assert answers == [Inserted(first.id, False, Stored.SCHEDULED, True)]


def test_from_the_first_look_on_nobody_else_writes(
    repository: SQLiteRepository, path: Path
) -> None:
    engine = deferred(path)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with engine.connect() as conn:
            repository.insert_in(conn, [])
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("begin immediate")
        other.execute("begin immediate")
        other.execute("rollback")
    engine.dispose()


@pytest.mark.parametrize("elsewhere", ["other.db", ""])
def test_a_connection_to_another_file_is_refused(
    repository: SQLiteRepository, tmp_path: Path, path: Path, elsewhere: str
) -> None:
    target = tmp_path / elsewhere if elsewhere else ""
    engine = immediate(create_engine(f"sqlite:///{target}"))
    with engine.connect() as conn, pytest.raises(InvalidArgument) as refused:
        repository.insert_in(conn, [a_task()])
    engine.dispose()
    assert str(path) in str(refused.value)
    assert (elsewhere or "a database in memory") in str(refused.value)


def test_the_same_file_by_another_name_will_do(
    repository: SQLiteRepository, tmp_path: Path, path: Path
) -> None:
    (tmp_path / "other.db").symlink_to(path)
    task = a_task()
    engine = immediate(create_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    with engine.begin() as conn:
        repository.insert_in(conn, [task])
    engine.dispose()
    assert repository.states([task.id]) == {task.id: Stored.SCHEDULED}


def test_a_connection_to_another_kind_of_database_is_refused(
    repository: SQLiteRepository, postgres_url: str
) -> None:
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as conn, pytest.raises(InvalidArgument) as refused:
        repository.insert_in(conn, [a_task()])
    engine.dispose()
    assert "goes to postgresql, but the tasks are in sqlite" in str(refused.value)
    assert refused.value.field == "connection"


def test_what_is_no_connection_of_sqlalchemy_is_refused(
    repository: SQLiteRepository, path: Path
) -> None:
    with (
        closing(sqlite3.connect(path)) as plain,
        pytest.raises(InvalidArgument, match=r"sqlite3's Connection.*session\.connection"),
    ):
        repository.insert_in(plain, [a_task()])
