"""Many tasks in the caller's own transaction: all of them are in it, or none is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rota import TaskSpec, WorkRegistry
from rota.app.requests import TaskOptions
from rota.core.clock import Clock, SystemClock
from rota.core.task import NewTask
from rota.errors import DataRefused, DuplicateTask
from rota.storage.transactions import run_in
from rota.testing.conformance.setting import a_task
from tests.app.callers import Caller, calling, table
from tests.conftest import Database

#: Each driver once, as a connection or as a session.
CALLERS = [
    ("sqlite", "pysqlite connection"),
    ("sqlite", "aiosqlite session"),
    ("postgres", "raw"),
    ("postgres", "psycopg session"),
    ("postgres", "psycopg2 connection"),
    ("postgres", "asyncpg connection"),
    ("postgres", "async-psycopg session"),
]


@pytest.fixture
def works() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("note")
    async def note(n: int) -> int:
        return n

    return works


@pytest.fixture
def make(make_database: Callable[[str, Clock], Database]) -> Callable[[str], Database]:
    return lambda kind: make_database(kind, SystemClock())


async def _write_own(caller: Caller, database: Database, value: str) -> None:
    own = table(database, "own")
    await caller.execute(f"create table if not exists {own} (value text)")
    await caller.execute(f"insert into {own} values ('{value}')")


async def _own(caller: Caller, database: Database) -> list[str]:
    rows = await caller.execute(f"select value from {table(database, 'own')} order by value")
    return [row[0] for row in rows]


@pytest.mark.parametrize(("kind", "name"), CALLERS)
async def test_a_duplicate_keeps_all_of_the_list_out_and_the_rest_of_the_transaction_in(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with database.scheduler(works, queues=[]) as scheduler:
        there = await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        async with calling(database, name) as caller:
            await _write_own(caller, database, "before")
            with pytest.raises(DuplicateTask) as caught:
                await scheduler.schedule_many(
                    [
                        ("note", {"n": 1}),
                        TaskSpec("note", {"n": 2}, {"unique": "free"}),
                        TaskSpec("note", {"n": 3}, {"unique": "k"}),
                    ],
                    connection=caller.given,
                )
            replaced = TaskOptions(unique="k", on_conflict="replace", priority=9)
            same = TaskOptions(id="01900000-0000-7000-8000-000000000001")
            with pytest.raises(DuplicateTask):
                await scheduler.schedule_many(
                    [TaskSpec("note", {"n": 4}, one) for one in (replaced, same, same)],
                    connection=caller.given,
                )
            await _write_own(caller, database, "between")
            kept = await scheduler.schedule_many(
                [("note", {"n": 5}), TaskSpec("note", {"n": 6}, {"unique": "free"})],
                connection=caller.given,
            )
            await caller.commit()
            assert await _own(caller, database) == ["before", "between"]
        assert caught.value.task_id == there.id
        assert [handle.created for handle in kept] == [True, True]
        assert await scheduler.counts() == {"scheduled": 3, "working": 0, "parked": 0}
        info = await there.info()
        assert (info.params, info.priority, info.version) == ({"n": 0}, 0, 1)


@pytest.mark.parametrize(("kind", "name"), CALLERS)
async def test_a_value_that_is_refused_keeps_all_of_the_list_out(
    make: Callable[[str], Database], works: WorkRegistry, kind: str, name: str
) -> None:
    database = make(kind)
    async with database.scheduler(works, queues=[]) as scheduler:
        repository = database.repository()

        async def insert(caller: Caller, *tasks: NewTask) -> None:
            await run_in(
                caller.given, lambda plain: repository.insert_in(plain, tasks, together=True)
            )

        async with calling(database, name) as caller:
            await _write_own(caller, database, "before")
            for bad in (a_task(priority=2**70), a_task(params="\ud800")):
                with pytest.raises(DataRefused):
                    await insert(caller, a_task(), a_task(unique="free"), bad)
            await insert(caller, a_task(unique="free"), a_task())
            await caller.commit()
            assert await _own(caller, database) == ["before"]
        assert await scheduler.counts() == {"scheduled": 2, "working": 0, "parked": 0}
    database.close()
