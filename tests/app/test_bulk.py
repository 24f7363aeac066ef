"""Many tasks at once: all or none, few statements, and scheduling that does not wait."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from rota import TaskSpec, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.request import ScheduleRequest
from rota.errors import DuplicateTask, InvalidArgument, InvalidParams, Rejected
from rota.middleware.bulk import TURN
from tests.app.callers import calling, default_driver
from tests.conftest import Database

PATIENCE = 20
NO_POLL = 600.0
NOTHING = {"scheduled": 0, "working": 0, "parked": 0}


@pytest.fixture
def works() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("note")
    async def note(n: int) -> int:
        return n

    return works


def notes(*numbers: int) -> list[tuple[str, dict[str, int]]]:
    return [("note", {"n": n}) for n in numbers]


# All or none


async def test_none_is_stored_if_one_meets_another(database: Database, works: WorkRegistry) -> None:
    async with database.scheduler(works, queues=[]) as scheduler:
        there = await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        with pytest.raises(DuplicateTask) as caught:
            await scheduler.schedule_many(
                [*notes(1, 2), TaskSpec("note", {"n": 3}, {"unique": "k"}), *notes(4)]
            )
        assert (caught.value.task_id, caught.value.key) == (there.id, "k")
        with pytest.raises(DuplicateTask):
            await scheduler.schedule_many(
                [TaskSpec("note", {"n": n}, {"unique": "new"}) for n in (1, 2)]
            )
        with pytest.raises(DuplicateTask):
            await scheduler.schedule_many([*notes(1), TaskSpec("note", {"n": 2}, {"id": there.id})])
        assert (await scheduler.counts())["scheduled"] == 1
        assert (await scheduler.schedule("note", {"n": 5}, unique="new")).created


async def test_none_is_stored_if_the_callers_own_transaction_meets_another(
    durable: Database, works: WorkRegistry
) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        driver = default_driver(durable)
        async with calling(durable, f"{driver} session") as caller:
            with pytest.raises(DuplicateTask):
                await scheduler.schedule_many(
                    [*notes(1), TaskSpec("note", {"n": 2}, {"unique": "k"})],
                    connection=caller.given,
                )
            await caller.rollback()
        assert (await scheduler.counts())["scheduled"] == 1


async def test_none_is_stored_if_one_is_refused(database: Database, works: WorkRegistry) -> None:
    def no_thirteen(request: ScheduleRequest, call_next: Any) -> Any:
        if request.params["n"] == 13:
            raise Rejected("not thirteen")
        return call_next(request)

    async with database.scheduler(works, queues=[], middleware=[no_thirteen]) as scheduler:
        with pytest.raises(Rejected, match="not thirteen"):
            await scheduler.schedule_many(notes(12, 13, 14))
        with pytest.raises(InvalidParams):
            await scheduler.schedule_many([*notes(1), ("note", {"n": "no number"})])
        with pytest.raises(InvalidArgument):
            await scheduler.schedule_many([*notes(1)], priority=1000)
        assert await scheduler.counts() == NOTHING


async def test_conflicts_may_be_met_instead(database: Database, works: WorkRegistry) -> None:
    async with database.scheduler(works, queues=[]) as scheduler:
        there = await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        met, changed, new = await scheduler.schedule_many(
            [
                TaskSpec("note", {"n": 1}, {"unique": "k", "on_conflict": "return"}),
                TaskSpec("note", {"n": 2}, {"unique": "k", "on_conflict": "replace"}),
                TaskSpec("note", {"n": 3}, {"unique": "l"}),
            ]
        )
        assert [(item.id == there.id, item.created) for item in (met, changed, new)] == [
            (True, False),
            (True, False),
            (False, True),
        ]
        assert (await there.info()).params == {"n": 2}
        assert (await scheduler.counts())["scheduled"] == 2


async def test_each_may_have_options_of_its_own(database: Database, works: WorkRegistry) -> None:
    note = works.get("note")
    later = datetime.now(UTC) + timedelta(hours=1)
    async with database.scheduler(works, queues=[]) as scheduler:
        handles = await scheduler.schedule_many(
            [
                note.bind(1),
                ("note", {"n": 2}),
                TaskSpec(note.bind(3), None, {"priority": 9, "queue": "q", "meta": {"a": 1}}),
                TaskSpec("note", {"n": 4}, {"at": later, "expires": 60}),
            ],
            priority=3,
        )
        infos = [await handle.info() for handle in handles]
        assert await scheduler.schedule_many([]) == []
    assert [info.params["n"] for info in infos] == [1, 2, 3, 4]
    assert [info.priority for info in infos] == [3, 3, 9, 3]
    assert [info.queue for info in infos] == ["default", "default", "q", "default"]
    assert infos[2].meta == {"a": 1}
    assert infos[3].run_at >= later


async def test_none_of_many_is_stored_if_the_last_one_is_wrong(
    durable: Database, works: WorkRegistry
) -> None:
    """By then the first of them have been written, in the same transaction."""
    many = notes(*range(3 * TURN))
    async with durable.scheduler(works, queues=[]) as scheduler:
        there = await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        with pytest.raises(InvalidParams, match="n"):
            await scheduler.schedule_many([*many, ("note", {"n": "no number"})])
        with pytest.raises(DuplicateTask) as caught:
            await scheduler.schedule_many([*many, TaskSpec("note", {"n": 1}, {"unique": "k"})])
        assert caught.value.task_id == there.id
        assert (await scheduler.counts())["scheduled"] == 1
        assert len(await scheduler.schedule_many(many)) == 3 * TURN
        assert (await scheduler.counts())["scheduled"] == 3 * TURN + 1


async def test_twenty_thousand_in_one_call(durable: Database, works: WorkRegistry) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        handles = await scheduler.schedule_many(notes(*range(20_000)), delay=3600)
        assert len({handle.id for handle in handles}) == 20_000
        repository = durable.repository()
        states = await asyncio.to_thread(repository.states, [handle.id for handle in handles])
        repository.close()
        assert len(states) == 20_000
        assert (await handles[-1].info()).params == {"n": 19_999}


# Group commit


async def test_two_thousand_callers_share_few_statements(
    durable: Database, works: WorkRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with durable.scheduler(works, queues=[]) as scheduler:
        repository = scheduler._house.repository  # type: ignore[union-attr]
        insert, sizes = repository.insert, []
        go_on = threading.Event()

        def counted(tasks: Any, **more: Any) -> Any:
            sizes.append(len(tasks))
            if len(sizes) == 1:
                assert go_on.wait(30)  # until all callers stand in line
            return insert(tasks, **more)

        monkeypatch.setattr(repository, "insert", counted)
        callers = [
            asyncio.ensure_future(scheduler.schedule("note", {"n": n}, delay=60))
            for n in range(2000)
        ]
        inserter = scheduler._house.inserter  # type: ignore[union-attr]
        while sum(sizes) + len(inserter._inbox) < 2000:
            await asyncio.sleep(0)
        go_on.set()
        handles = await asyncio.gather(*callers)
        assert len({handle.id for handle in handles}) == 2000
        assert (await scheduler.counts())["scheduled"] == 2000
    assert sum(sizes) == 2000
    assert len(sizes) == 2


# A caller that goes away


@pytest.mark.parametrize("options", [{}, {"unique": "k"}], ids=["grouped", "keyed"])
async def test_a_cancelled_callers_task_is_stored_and_starts(
    database: Database, options: dict[str, Any]
) -> None:
    works, ran = WorkRegistry(), asyncio.Event()

    @works.register("note")
    async def note() -> None:
        ran.set()

    async with database.scheduler(works, poll=NO_POLL) as scheduler:
        repository = scheduler._house.repository  # type: ignore[union-attr]
        insert, loop = repository.insert, asyncio.get_running_loop()
        calls: list[asyncio.Task[Any]] = []

        def cancel_and_insert(*args: Any, **more: Any) -> Any:
            loop.call_soon_threadsafe(calls[0].cancel)
            return insert(*args, **more)

        repository.insert = cancel_and_insert  # type: ignore[method-assign]
        calls.append(asyncio.create_task(scheduler.schedule("note", **options)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        await asyncio.wait_for(ran.wait(), PATIENCE)


# Without waiting


async def test_soon_waits_only_while_its_buffer_is_full(works: WorkRegistry) -> None:
    gate = asyncio.Event()

    async def hold(request: ScheduleRequest, call_next: Any) -> Any:
        await gate.wait()
        return await call_next(request)

    from rota import Scheduler

    async with Scheduler(works, queues=[], middleware=[hold]) as scheduler:
        for n in range(10_000):
            await scheduler.schedule_soon("note", {"n": n}, delay=60)
        one_more = asyncio.create_task(scheduler.schedule_soon("note", {"n": -1}, delay=60))
        assert await scheduler.counts() == NOTHING
        assert not one_more.done()
        gate.set()
        handle = await asyncio.wait_for(one_more, PATIENCE)
        await scheduler.flush()
        assert (await handle.info()).params == {"n": -1}


async def test_what_soon_could_not_store_is_told(database: Database, works: WorkRegistry) -> None:
    told: list[tuple[str, Exception]] = []

    def on_error(request: ScheduleRequest, error: Exception) -> None:
        told.append((request.id, error))
        raise RuntimeError("a listener of the user's own")

    async with database.scheduler(works, queues=[], on_error=on_error) as scheduler:
        there = await scheduler.schedule("note", {"n": 0}, unique="k", delay=60)
        refused = await scheduler.schedule_soon("note", {"n": 1}, unique="k")
        good = await scheduler.schedule_soon("note", {"n": 2})
        await scheduler.flush()
        assert [task_id for task_id, _ in told] == [refused.id]
        assert isinstance(told[0][1], DuplicateTask)
        assert told[0][1].task_id == there.id
        assert (await good.info()).params == {"n": 2}
        await scheduler.flush()


async def test_soon_takes_keyed_tasks_into_the_shutdown(
    durable: Database, works: WorkRegistry
) -> None:
    scheduler = durable.scheduler(works, queues=[])
    await scheduler.start()
    for n in range(40):
        await scheduler.schedule_soon("note", {"n": n}, **({"unique": f"k{n}"} if n % 2 else {}))
    await scheduler.shutdown()
    ran: Counter[int] = Counter()
    async with durable.scheduler(works, queues=[]) as client:
        while pulled := await client.claim(limit=100):
            ran.update(item.params["n"] for item in pulled)
    assert ran == Counter(range(40))


async def test_a_stranger_holds_up_only_the_task_with_its_key(
    make_database: Callable[[str, Clock], Database],
    works: WorkRegistry,
    stranger: psycopg.Connection,
    await_blocked: Callable[[], None],
) -> None:
    database = make_database("postgres", SystemClock())
    async with database.scheduler(works, queues=[]) as scheduler:
        await scheduler.schedule("note", {"n": 0}, unique="k", connection=stranger)
        held_up = await scheduler.schedule_soon("note", {"n": 1}, unique="k")
        await asyncio.to_thread(await_blocked)
        others = [await scheduler.schedule("note", {"n": n}, unique=f"o{n}") for n in range(3)]
        assert all(handle.created for handle in others)
        stranger.rollback()
        await scheduler.flush()
        assert (await held_up.info()).params == {"n": 1}
