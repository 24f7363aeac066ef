"""Seed 003 (turbine): a test per flaw about tasks, or why there is none.

====  =========================================  ==================================================
 no   flaw                                       test, or reason
====  =========================================  ==================================================
  1   delays are ignored by default [R]          test_a_delayed_task_is_never_run_at_once
  2   a requeue in an hour is a hot loop [R]     test_a_task_put_off_for_an_hour_runs_once
  3   default tasks are not durable [r]          test_a_task_is_stored_when_schedule_returns
  4   one way of scheduling skips the defaults   test_every_way_of_scheduling_has_the_same_defaults
      [R]
  5   retries of tasks with a key are dropped    test_a_retry_of_a_task_with_a_key_counts
      [r]
  6   an unknown task is claimed for ever and    test_a_task_nobody_knows_waits_and_is_told
      told to nobody [R]
  7   writes are not fenced [r]                  tests/regressions/test_axe.py::test_a_lost_run
                                                 _cannot_overwrite_the_newer_attempt
 13   the documented sum of retries is wrong     test_eight_retries_wait_as_long_as_they_say
      [R]
====  =========================================  ==================================================
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rota import Again, Backoff, Context, Release, Retry, Task, TaskSpec, WorkRegistry
from rota.errors import TaskFailed
from tests.conftest import Database


# 003.1 [R]: WithDelayHours(5) ran within 100 ms, unstored.
@pytest.mark.parametrize("priority", [-100, 0, 100])
async def test_a_delayed_task_is_never_run_at_once(
    database: Database, works: WorkRegistry, priority: int
) -> None:
    ran: list[str] = []

    @works.register("note")
    async def note(text: str) -> None:
        ran.append(text)

    late: dict[str, Any] = {"delay": 5 * 3600, "priority": priority}
    async with database.scheduler(works) as scheduler:
        handles = [
            await scheduler.schedule(note.bind("late"), **late),
            await scheduler.schedule(
                note.bind("late"),
                at=datetime.now(UTC) + timedelta(hours=5),
                priority=priority,
            ),
            *await scheduler.schedule_many([note.bind("late")] * 2, **late),
            await scheduler.schedule_soon(note.bind("late"), **late),
        ]
        await scheduler.flush()
        await (await scheduler.schedule(note.bind("now"))).result(timeout=20)
        infos = [await handle.info() for handle in handles]
    assert ran == ["now"]
    assert {info.status for info in infos} == {"scheduled"}
    assert all(info.run_at - info.created_at > timedelta(hours=4.9) for info in infos)


# 003.2 [R]: 117,761 runs in 100 ms.
@pytest.mark.parametrize(
    "outcome", [Retry(after=3600), Retry(after=3600, beyond_max=True), Release(3600), Again(3600)]
)
async def test_a_task_put_off_for_an_hour_runs_once(
    database: Database, works: WorkRegistry, outcome: Exception
) -> None:
    ran: list[int] = []

    @works.register("put_off", max_attempts=9)
    async def put_off() -> None:
        ran.append(1)
        raise outcome

    @works.register("other")
    async def other() -> None: ...

    async with database.scheduler(works, concurrency=2) as scheduler:
        handle = await scheduler.schedule(put_off.bind())
        while (info := await handle.info()).run_at - info.created_at < timedelta(minutes=59):
            await asyncio.sleep(0)
        for _ in range(20):
            await (await scheduler.schedule(other.bind())).result(timeout=20)
        assert (await handle.info()).state == "scheduled"
    assert len(ran) == 1


# 003.3 [r]: what had the default priority was kept in memory only.
async def test_a_task_is_stored_when_schedule_returns(
    durable: Database, works: WorkRegistry
) -> None:
    @works.register("keep")
    async def keep(n: int) -> int:
        return n

    async with durable.scheduler(works, queues=[]) as client:
        with closing(durable.repository()) as repository:
            handles = [await client.schedule(keep.bind(1))]
            handles += await client.schedule_many([keep.bind(2), keep.bind(3)])
            states = repository.states([handle.id for handle in handles])
        assert len(states) == 3
    async with durable.scheduler(works) as node:
        assert [await node.handle(one.id).result(timeout=20) for one in handles] == [1, 2, 3]


# 003.4 [R]: stored priority -1 jumped the queue, stored RetryMax -1 never retried.
async def test_every_way_of_scheduling_has_the_same_defaults(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("flaky", max_attempts=2, backoff=Backoff(first=0, jitter="none"), priority=3)
    async def flaky(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("once more")
        return ctx.attempt

    @works.register("parent")
    async def parent(ctx: Context) -> str:
        return (await ctx.spawn(flaky.bind())).id

    tasks: list[Task] = []
    async with database.scheduler(works) as scheduler:
        before = await scheduler.schedule(parent.bind(), on_done=flaky.bind())
        spawned = await before.result(timeout=20)
        follow_up = next(one for one in await before.children() if one.id != spawned)
        handles = [
            await scheduler.schedule(flaky.bind()),
            await scheduler.schedule(flaky),
            await scheduler.schedule("flaky"),
            await scheduler.schedule("flaky", delay=0.01, allow_unknown=True),
            *await scheduler.schedule_many([flaky.bind(), ("flaky", {}), TaskSpec(flaky)]),
            await scheduler.schedule_soon(flaky.bind()),
            scheduler.handle(spawned),
            follow_up,
        ]
        await scheduler.flush()
        for handle in handles:
            assert await handle.result(timeout=20) == 2
            tasks.append(await handle.info())
    assert {(one.priority, one.max_attempts, one.attempt) for one in tasks} == {(3, 2, 2)}


# 003.5 [r]: the duplicate check found the task itself; the count never rose.
async def test_a_retry_of_a_task_with_a_key_counts(database: Database, works: WorkRegistry) -> None:
    seen: list[int] = []

    @works.register("signed", max_attempts=3, backoff=Backoff(first=0, jitter="none"))
    async def signed(ctx: Context) -> None:
        seen.append(ctx.attempt)
        raise ValueError("never")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(signed.bind(), unique="signature")
        with pytest.raises(TaskFailed):
            await handle.result(timeout=20)
        assert [one.outcome for one in await handle.history()] == ["retry", "retry", "failed"]
        assert await scheduler.find(unique="signature") is None
    assert seen == [1, 2, 3]


# 003.6 [R]: neither logged nor deleted, claimed again at every timeout.
async def test_a_task_nobody_knows_waits_and_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    known = WorkRegistry()

    @known.register("strange")
    async def strange(ctx: Context) -> None:
        ran.append(ctx.attempt)

    with caplog.at_level(logging.WARNING):
        async with database.scheduler(WorkRegistry(), poll=0.1) as ignorant:
            handle = await ignorant.schedule("strange", allow_unknown=True)
            while (info := await handle.info()).status != "parked":
                await asyncio.sleep(0)
            parked = info
            for _ in range(5):
                ignorant.wake()
                await ignorant.restore(wait=0)
            assert await handle.info() == parked
            assert ignorant.restored.unknown == {"strange": [handle.id]}
    told = [record for record in caplog.records if "strange" in record.getMessage()]
    assert len(told) == 1
    assert (parked.attempt, parked.losses) == (0, 0)
    async with database.scheduler(known, poll=0.1) as knowing:
        await knowing.handle(handle.id).result(timeout=20)
    assert ran == [1]


# 003.13 [R]: "511 minutes" were 255.
def test_eight_retries_wait_as_long_as_they_say() -> None:
    backoff = Backoff(first=60, factor=2, max=10**9, jitter="none")
    assert sum(backoff.delay(attempt) for attempt in range(1, 9)) == 255 * 60
