"""Seed 001 (axe): a test per flaw about tasks, or why there is none.

====  =========================================  ==================================================
 no   flaw                                       test, or reason
====  =========================================  ==================================================
  1   ended by id alone, whoever runs it [r]     test_a_lost_run_cannot_overwrite_the_newer_attempt
  2   attempts count only what returns: a task   test_a_task_that_ends_its_nodes_is_given_up
      that kills its process, or cannot be       test_params_that_do_not_fit_any_more_fail_the_task
      read, is tried for ever [r]
  4   every process holds every open task [r]    test_a_node_holds_only_what_is_about_to_run
  5   deleted tasks are tried for ever [r]       test_a_cancelled_task_is_not_touched_again
  6   a pause counts from the old due time [r]   test_a_wait_counts_from_now_also_for_an_old_task
  8   a panic ends the process [r]               tests/app/test_running.py::test_even_what_is_no
                                                 _exception_is_recorded_and_the_slot_returns
      close does not drain [r]                   test_shutdown_lets_what_runs_end
      a field of the context is never set [r]    test_everything_a_context_shows_is_set
 10   uniqueness without a unique index [r]      tests/app/test_uniqueness_processes.py
 11   finished tasks vanish after a minute, and  test_a_period_key_and_the_result_outlive_the_task
      with them uniqueness [r]
====  =========================================  ==================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from rota import Again, Context, Release, Retry, Unique, WorkRegistry
from rota.core.clock import Clock
from rota.errors import TaskCancelled, TaskFailed
from rota.testing import FakeClock
from tests.conftest import Database

DAY = 86_400


# 001.1 [r]: complete, fail and cancel matched by id only.
async def test_a_lost_run_cannot_overwrite_the_newer_attempt(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Semaphore(0)
    gates = [asyncio.Event(), asyncio.Event()]
    numbers = iter((0, 1))

    @works.register("race")
    async def race() -> str:
        number = next(numbers)
        started.release()
        while not gates[number].is_set():
            try:
                await gates[number].wait()
            except asyncio.CancelledError:  # a zombie does not listen
                continue
        return ["old", "new"][number]

    async with database.scheduler(works) as first:
        handle = await first.schedule(race.bind())
        await started.acquire()
        with closing(database.repository()) as repository:
            repository.leave(first.node)
            repository.rescue(100)
        await started.acquire()
        gates[0].set()
        while (await first.health()).refused == 0:
            await asyncio.sleep(0)
        assert (await handle.info()).state == "working"
        gates[1].set()
        assert await handle.result(timeout=20) == "new"
        outcomes = [one.outcome for one in await handle.history()]
    assert outcomes == ["lost", "done"]


# 001.2 [r]: the limit was looked at only after the handler had returned.
async def test_a_task_that_ends_its_nodes_is_given_up(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Semaphore(0)

    @works.register("poison", max_rescues=2)
    async def poison() -> None:
        started.release()
        await asyncio.Event().wait()

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(poison.bind())
        with closing(database.repository()) as repository:
            for _ in range(3):
                await started.acquire()
                repository.leave((await handle.info()).node or 0)
                repository.rescue(100)
        with pytest.raises(TaskFailed, match="lost"):
            await handle.result(timeout=20)
        info = await handle.info()
    assert (info.state, info.reason) == ("failed", "lost")


# 001.2 [r]: what could not be unmarshalled was tried for ever.
async def test_params_that_do_not_fit_any_more_fail_the_task(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("grown", max_attempts=1)
    async def grown(n: int) -> int:
        return n

    async with database.scheduler(WorkRegistry(), queues=[]) as client:
        handle = await client.schedule("grown", {"m": "old"}, allow_unknown=True)
        async with database.scheduler(works) as scheduler:
            mine = scheduler.handle(handle.id)
            with pytest.raises(TaskFailed, match="grown"):
                await mine.result(timeout=20)
            assert (await mine.info()).attempt == 1


# 001.4 [r]: memory and messages grew with the backlog, on every process.
async def test_a_node_holds_only_what_is_about_to_run(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("work")
    async def work(n: int) -> int:
        return n

    async with database.scheduler(works, concurrency=5) as scheduler:
        later = datetime.now(UTC) + timedelta(days=1)
        await scheduler.schedule_many([work.bind(n) for n in range(500)], at=later)
        assert await (await scheduler.schedule(work.bind(7))).result(timeout=20) == 7
        assert (await scheduler.health()).held == 0
        assert (await scheduler.counts())["scheduled"] == 500


# 001.5 [r]: a deleted task stayed on every board and was tried for ever.
async def test_a_cancelled_task_is_not_touched_again(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[str] = []

    @works.register("note")
    async def note(text: str) -> None:
        ran.append(text)

    begun, go_on = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold() -> None:
        begun.set()
        await go_on.wait()

    # The one slot is taken, so that none of them starts before it is cancelled.
    async with database.scheduler(works, concurrency=1) as scheduler:
        holding = await scheduler.schedule(hold.bind())
        await begun.wait()
        # Due within the look-ahead: the node holds them already, or will.
        when = datetime.now(UTC) + timedelta(seconds=0.5)
        gone = await scheduler.schedule_many([note.bind(f"gone {n}") for n in range(5)], at=when)
        kept = await scheduler.schedule(note.bind("kept"), at=when + timedelta(seconds=0.2))
        for handle in gone:
            await handle.cancel("not wanted")
        go_on.set()
        await holding.result(timeout=20)
        await kept.result(timeout=20)
        for handle in gone:
            with pytest.raises(TaskCancelled):
                await handle.result(timeout=20)
        health = await scheduler.health()
    assert ran == ["kept"]
    assert (health.held, health.running, health.unwritten) == (0, 0, 0)


# 001.6 [r]: an hour-old backlog made every wait a wait in the past.
@pytest.mark.parametrize("outcome", [Retry(after=100), Release(after=100), Again(after=100)])
async def test_a_wait_counts_from_now_also_for_an_old_task(
    database: Database, works: WorkRegistry, outcome: Exception
) -> None:
    ran: list[int] = []

    @works.register("later", max_attempts=5)
    async def later() -> None:
        ran.append(1)
        raise outcome

    async with database.scheduler(works) as scheduler:
        now = datetime.now(UTC)
        handle = await scheduler.schedule(later.bind(), at=now - timedelta(hours=1))
        while (info := await handle.info()).run_at < now + timedelta(seconds=50):
            await asyncio.sleep(0)
        assert info.state == "scheduled"
        assert info.run_at >= now + timedelta(seconds=99)
    assert len(ran) == 1


# 001.8 [r]: close did not wait for anybody.
async def test_shutdown_lets_what_runs_end(database: Database, works: WorkRegistry) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @works.register("slow")
    async def slow() -> str:
        started.set()
        await go_on.wait()
        return "ended well"

    scheduler = database.scheduler(works)
    await scheduler.start()
    handle = await scheduler.schedule(slow.bind())
    await started.wait()
    ending = asyncio.create_task(scheduler.shutdown(timeout=30))
    await asyncio.sleep(0)
    go_on.set()
    await ending
    async with database.scheduler(works, queues=[]) as other:
        assert await other.handle(handle.id).result(timeout=20) == "ended well"


# 001.8 [r]: ``Context.Pool`` was never set.
async def test_everything_a_context_shows_is_set(database: Database, works: WorkRegistry) -> None:
    shown: dict[str, object] = {}

    @works.register("look", timeout=60)
    async def look(ctx: Context) -> None:
        names = [name for name in dir(Context) if not name.startswith("_")]
        shown.update((name, getattr(ctx, name)) for name in names)

    @works.register("parent")
    async def parent(ctx: Context) -> None:
        await (await ctx.spawn(look.bind(), queue="q", meta={"m": 1})).result(timeout=20)

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(parent.bind())
        await handle.result(timeout=20)
        (child,) = await handle.children()
    assert (shown["task_id"], shown["work"], shown["queue"]) == (child.id, "look", "q")
    assert (shown["attempt"], shown["meta"], shown["parent"]) == (1, {"m": 1}, handle.id)
    unset = {name for name, value in shown.items() if value is None}
    assert unset == {"recurring", "fire_at", "cancel_reason"}


# 001.11 [r]: uniqueness and results ended a minute after the task.
@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
async def test_a_period_key_and_the_result_outlive_the_task(
    make_database: Callable[[str, Clock], Database], works: WorkRegistry, kind: str
) -> None:
    @works.register("once")
    async def once() -> str:
        return "kept"

    clock = FakeClock()
    database = make_database(kind, clock)
    async with database.scheduler(works, queues=[]) as scheduler:
        unique = Unique("k", period=3 * DAY)
        first = await scheduler.schedule(once.bind(), unique=unique)
        (pulled,) = await scheduler.claim()
        await pulled.done("kept")
        clock.advance(2 * DAY)
        again = await scheduler.schedule(once.bind(), unique=unique, on_conflict="return")
        assert (again.id, again.created, again.state_met) == (first.id, False, "done")
        assert await again.result(timeout=20) == "kept"
        clock.advance(2 * DAY)
        assert (await scheduler.schedule(once.bind(), unique=unique)).created
