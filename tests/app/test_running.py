"""One scheduler on each database: schedule, run, wait."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

import rota
from rota import BlockingContext, Context, WorkRegistry
from rota.errors import (
    DuplicateTask,
    TaskFailed,
)
from rota.scheduler.dispatcher import GIVE_WAY_EVERY
from tests.conftest import Database


async def test_a_coroutine_runs_and_its_result_comes_back(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("add")
    async def add(a: int, b: int) -> int:
        return a + b

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(add.bind(3, b=4))

        assert await handle.result(timeout=20) == 7
        assert handle.created
        info = await handle.info()
        assert (info.state, info.attempt, info.params) == ("done", 1, {"a": 3, "b": 4})
        assert info.finished_at is not None
        assert info.started_at is not None


async def test_a_plain_function_runs_in_a_thread_of_its_own(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("where")
    def where(ctx: BlockingContext) -> list[str]:
        return [threading.current_thread().name, ctx.task_id, str(ctx.attempt)]

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(where.bind())
        name, task_id, attempt = await handle.result(timeout=20)

    assert name.startswith("rota-work")
    assert (task_id, attempt) == (handle.id, "1")


async def test_nothing_runs_before_its_time(database: Database, works: WorkRegistry) -> None:
    ran: list[datetime] = []

    @works.register("note")
    async def note() -> None:
        ran.append(datetime.now(UTC))

    async with database.scheduler(works) as scheduler:
        when = datetime.now(UTC) + timedelta(seconds=0.4)
        by_time = await scheduler.schedule(note.bind(), at=when)
        by_delay = await scheduler.schedule(note.bind(), delay=timedelta(seconds=0.4))
        await by_time.result(timeout=20)
        await by_delay.result(timeout=20)

    assert all(moment >= when for moment in ran)


async def test_results_come_back_in_their_annotated_type(
    database: Database, works: WorkRegistry
) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)

    @works.register("echo")
    async def echo(at: datetime) -> datetime:
        return at

    async with database.scheduler(works) as scheduler:
        assert await (await scheduler.schedule(echo.bind(moment))).result(timeout=20) == moment


async def test_an_exception_fails_the_task_and_is_kept(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("boom")
    async def boom() -> None:
        raise ValueError("the reason\x00\ud800")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(boom.bind())
        with pytest.raises(TaskFailed, match="the reason") as caught:
            await handle.result(timeout=20)
        info = await handle.info()

    assert info.state == "failed"
    assert info.error is not None
    assert "ValueError" in info.error["type"]
    assert "boom" in info.error["traceback"]
    assert caught.value.task_id == handle.id


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_even_what_is_no_exception_is_recorded_and_the_slot_returns(
    database: Database, works: WorkRegistry, kind: str, error: BaseException
) -> None:
    @works.register("coroutine")
    async def in_loop() -> None:
        raise error

    @works.register("thread")
    def in_thread() -> None:
        raise error

    @works.register("after")
    async def after() -> str:
        return "still here"

    async with database.scheduler(works, concurrency=1) as scheduler:
        handle = await scheduler.schedule(kind)
        with pytest.raises(TaskFailed):
            await handle.result(timeout=20)
        assert await (await scheduler.schedule(after.bind())).result(timeout=20) == "still here"


async def test_a_result_that_is_not_json_fails_the_task_and_says_so(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("bad")
    async def bad() -> object:
        return object()

    async with database.scheduler(works) as scheduler:
        with pytest.raises(TaskFailed, match="result"):
            await (await scheduler.schedule(bad.bind())).result(timeout=20)


async def test_attempts_are_retried_until_none_is_left(
    database: Database, works: WorkRegistry
) -> None:
    seen: list[int] = []

    @works.register("flaky", max_attempts=3, backoff=rota.Backoff(first=0.01, jitter="none"))
    async def flaky(ctx: Context, good_at: int) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < good_at:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return "well"

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(flaky.bind(good_at=3))
        assert await handle.result(timeout=20) == "well"
        hopeless = await scheduler.schedule(flaky.bind(good_at=9))
        with pytest.raises(TaskFailed, match="attempt 3"):
            await hopeless.result(timeout=20)
        history = await handle.history()

    assert seen == [1, 2, 3, 1, 2, 3]
    assert [item.outcome for item in history] == ["retry", "retry", "done"]
    assert "attempt 1" in (history[0].reason or "")


async def test_higher_priority_goes_first_then_the_earlier(
    database: Database, works: WorkRegistry
) -> None:
    order: list[int] = []

    @works.register("mark")
    async def mark(n: int) -> None:
        order.append(n)

    async with database.scheduler(works, queues=[]) as client:
        for n, priority in ((1, 0), (2, 5), (3, -5), (4, 5)):
            await client.schedule(mark.bind(n), priority=priority)
        handles = [await client.schedule(mark.bind(5), priority=-100)]
        async with database.scheduler(works, concurrency=1):
            await handles[0].wait(timeout=20)

    assert order == [2, 4, 1, 3, 5]


async def test_the_concurrency_bounds_what_runs_and_may_be_changed(
    database: Database, works: WorkRegistry
) -> None:
    running, most = 0, 0
    gate = asyncio.Event()
    full = asyncio.Event()

    @works.register("count")
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == scheduler.concurrency:
            full.set()
        await gate.wait()
        running -= 1

    async with database.scheduler(works, concurrency=2) as scheduler:
        handles = await scheduler.schedule_many([count.bind()] * 8)
        await full.wait()
        assert running == 2
        full.clear()
        scheduler.concurrency = 5
        await full.wait()
        gate.set()
        for handle in handles:
            await handle.wait(timeout=20)

    assert most == 5


async def test_a_queue_may_have_a_limit_of_its_own(database: Database, works: WorkRegistry) -> None:
    running, most = 0, 0

    @works.register("count")
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with database.scheduler(works, concurrency=10, queues={"narrow": 2}) as scheduler:
        handles = await scheduler.schedule_many([count.bind()] * 12, queue="narrow")
        for handle in handles:
            await handle.wait(timeout=20)

    assert most == 2


async def test_an_id_of_your_own_makes_scheduling_idempotent(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[str] = []

    @works.register("once")
    async def once() -> None:
        ran.append("once")

    own = rota.derive_id("order", 77)
    async with database.scheduler(works) as scheduler:
        first = await scheduler.schedule(once.bind(), id=own)
        await first.result(timeout=20)
        second = await scheduler.schedule(once.bind(), id=own, on_conflict="return")
        with pytest.raises(DuplicateTask, match="done"):
            await scheduler.schedule(once.bind(), id=own)

    assert first == second
    assert (second.created, second.state_met) == (False, "done")
    assert ran == ["once"]


async def test_a_unique_key_is_taken_until_the_task_ends(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("unit")
    async def unit() -> None:
        pass

    async with database.scheduler(works) as scheduler:
        waiting = await scheduler.schedule(unit.bind(), unique="k", delay=3600)
        with pytest.raises(DuplicateTask) as caught:
            await scheduler.schedule(unit.bind(), unique="k")
        again = await scheduler.schedule(unit.bind(), unique="k", on_conflict="return")
        sooner = await scheduler.schedule(unit.bind(), unique="k", on_conflict="replace")
        await waiting.result(timeout=20)
        fresh = await scheduler.schedule(unit.bind(), unique="k")

    assert caught.value.task_id == waiting.id == again.id == sooner.id
    assert not again.created
    assert fresh.id != waiting.id


async def test_a_waiting_task_can_be_changed(database: Database, works: WorkRegistry) -> None:
    @works.register("echo")
    async def echo(text: str) -> str:
        return text

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(echo.bind("before"), delay=3600)
        changed = await handle.update(params={"text": "after"}, priority=7, delay=0)
        assert (changed.version, changed.priority) == (2, 7)
        assert await handle.result(timeout=20) == "after"


async def test_the_loop_gives_way_most_where_the_database_is_in_its_process(
    database: Database, works: WorkRegistry
) -> None:
    async with database.scheduler(works) as scheduler:
        dispatcher = scheduler._house.engine.dispatcher  # type: ignore[union-attr]
        embedded = database.repository().embedded

        assert embedded is (database.kind != "postgres")
        assert dispatcher.give_way_every == (1 if embedded else GIVE_WAY_EVERY)
