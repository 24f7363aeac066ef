"""Tasks pulled by hand: claimed with a deadline, ended, lost, and never held twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from rota import Backoff, Scheduler, WorkRegistry
from rota.core.clock import Clock
from rota.errors import (
    InvalidArgument,
    LeaseLost,
    SchedulerNotRunning,
    StorageUnavailable,
    TaskCancelled,
    TaskFailed,
)
from rota.testing.clock import FakeClock
from tests.conftest import BACKENDS, Database

PATIENCE = 20
CLIENT: dict[str, Any] = {"queues": [], "allow_unknown": True}


@pytest.fixture(params=BACKENDS)
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Database:
    """Each of the three, on a clock that only the test moves."""
    return make_database(request.param, fake_clock)


def move(database: Database, by: float) -> None:
    assert isinstance(database.clock, FakeClock)
    database.clock.advance(by)


# Take, work, answer


async def test_a_pulled_task_carries_what_was_asked(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("render", {"n": 1}, queue="gpu", meta={"a": 1})
        (pulled,) = await client.claim(["gpu"])
        assert (pulled.id, pulled.work, pulled.queue) == (handle.id, "render", "gpu")
        assert (pulled.params, pulled.meta, pulled.attempt) == ({"n": 1}, {"a": 1}, 1)
        assert (await handle.info()).state == "working"
        await pulled.report({"percent": 50})
        report = await handle.report()
        assert report is not None
        assert report.data == {"percent": 50}
        await pulled.done({"ok": True})
        assert await handle.result(timeout=PATIENCE) == {"ok": True}
        assert await handle.result(timeout=PATIENCE) == {"ok": True}


async def test_its_outcome_is_seen_on_another_node(database: Database) -> None:
    async with (
        database.scheduler(WorkRegistry(), **CLIENT) as client,
        database.scheduler(WorkRegistry(), **CLIENT) as other,
    ):
        handles = [await client.schedule("w", {"n": n}) for n in range(3)]
        seen = [asyncio.create_task(other.handle(h.id).result(timeout=PATIENCE)) for h in handles]
        pulled = {item.id: item for item in await client.claim(limit=3)}
        await pulled[handles[0].id].done(7)
        await pulled[handles[1].id].fail("broken", retry=False)
        assert await seen[0] == 7
        with pytest.raises(TaskFailed, match="broken"):
            await seen[1]
        await pulled[handles[2].id].release(after=30)
        await handles[2].cancel("not needed")
        with pytest.raises(TaskCancelled, match="not needed"):
            await seen[2]


async def test_a_failed_attempt_is_tried_again_after_its_backoff(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule(
            "w", max_attempts=3, backoff=Backoff(first=10, factor=3, max=100, jitter="none")
        )
        for attempt, wait in ((1, 10), (2, 30)):
            (pulled,) = await client.claim()
            assert pulled.attempt == attempt
            await pulled.fail("no\x00good")
            assert (await handle.info()).status == "retrying"
            move(frozen, wait - 1)
            assert await client.claim() == []
            move(frozen, 2)
        (pulled,) = await client.claim()
        await pulled.fail("for the last time")
        info = await handle.info()
        assert (info.state, info.attempt, info.reason) == ("failed", 3, "for the last time")
        reasons = [item.reason for item in await handle.history()]
        assert reasons == ["no\\0good", "no\\0good", "for the last time"]


async def test_a_release_costs_nothing(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", max_attempts=1)
        for _ in range(3):
            (pulled,) = await client.claim()
            assert pulled.attempt == 1
            await pulled.release(after=5)
            assert await client.claim() == []
            move(frozen, 6)
        (pulled,) = await client.claim()
        await pulled.done()
        assert (await handle.info()).state == "done"


async def test_the_result_is_not_kept_if_nobody_wants_it(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", store_result=False)
        (pulled,) = await client.claim()
        await pulled.done({"big": 1})
        assert (await handle.info()).result is None


async def test_an_outcome_that_went_through_is_recognised(
    durable: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to the first write is lost; the caller says it again."""
    async with durable.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w")
        (pulled,) = await client.claim()
        repository = client._house.repository  # type: ignore[union-attr]
        finish = repository.finish

        def reply_lost(*args: Any, **more: Any) -> Any:
            finish(*args, **more)
            monkeypatch.undo()
            raise StorageUnavailable("the reply was lost")

        monkeypatch.setattr(repository, "finish", reply_lost)
        with pytest.raises(StorageUnavailable):
            await pulled.done(1)
        await pulled.done(1)
        assert await handle.result(timeout=PATIENCE) == 1


# Which tasks, in which order


async def test_the_highest_priority_goes_first_then_the_earliest(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        asked = [("a", 0, 5), ("b", 0, 3), ("a", 9, 4), ("b", 9, 2), ("a", -3, 1), ("z", 50, 3)]
        for queue, priority, delay in asked:
            await client.schedule("w", {}, queue=queue, priority=priority, delay=delay)
        await client.schedule("w", {}, queue="c", priority=100)
        await client.schedule("w", {}, queue="a", priority=100, delay=60)
        move(frozen, 10)
        order = []
        while pulled := await client.claim(["a", "b", "z"]):
            order.append((pulled[0].queue, pulled[0]._claimed.priority))
    assert order == [("z", 50), ("b", 9), ("a", 9), ("b", 0), ("a", 0), ("a", -3)]


async def test_a_paused_queue_gives_nothing(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        await client.schedule("w", queue="held")
        repository = client._house.repository  # type: ignore[union-attr]
        repository.pause_queue("held", "for now")
        assert await client.claim() == []
        repository.resume_queue("held")
        assert len(await client.claim()) == 1


async def test_a_paused_work_gives_nothing_from_its_lane_nor_parked(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        for n in range(3):
            await client.schedule("held", {"n": n}, priority=1)
        free = await client.schedule("free", priority=1)
        await client.pause_work("held", "for now")
        assert [one.id for one in await client.claim()] == [free.id]
        assert await client.counts() == {"scheduled": 0, "working": 1, "parked": 3}
        assert await client.claim(limit=9) == []
        await client.resume_work("held")
        assert len(await client.claim(limit=9)) == 3


async def test_what_has_expired_is_not_given_out(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        late = [await client.schedule("w", {"n": n}, expires=5) for n in range(2)]
        good = await client.schedule("w", {"n": 9}, expires=50, delay=1)
        move(frozen, 6)
        (pulled,) = await client.claim(limit=2)
        assert pulled.id == good.id
        for handle in late:
            info = await handle.info()
            assert (info.state, info.reason) == ("cancelled", "expired")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"lease": 0.5}, "lease"),
        ({"wait": -1}, "wait"),
        ({"queues": "gpu"}, "queues"),
        ({"queues": ["no spaces here"]}, "queue"),
    ],
)
async def test_what_cannot_be_right_is_named(arguments: dict[str, Any], field: str) -> None:
    async with Scheduler() as scheduler:
        with pytest.raises(InvalidArgument) as caught:
            await scheduler.claim(**arguments)
    assert caught.value.field == field


# Waiting


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_who_waits_is_woken_by_a_schedule(frozen: Database, where: str) -> None:
    """The clock stands still, so no poll can have done it."""
    async with (
        frozen.scheduler(WorkRegistry(), **CLIENT) as client,
        frozen.scheduler(WorkRegistry(), **CLIENT) as other,
    ):
        waiting = asyncio.create_task(client.claim(["gpu"], limit=5, wait=60))
        await client.claim(["none"])  # by then the first has looked and sleeps
        assert not waiting.done()
        scheduler = client if where == "here" else other
        handle = await scheduler.schedule("w", queue="gpu")
        if frozen.kind == "sqlite" and where == "elsewhere":
            move(frozen, 1)  # its listener looks at the file by the clock
        (pulled,) = await asyncio.wait_for(waiting, PATIENCE)
        assert pulled.id == handle.id


async def test_who_waits_gets_what_becomes_due(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", delay=30)
        waiting = asyncio.create_task(client.claim(wait=3600))
        for _ in range(3):
            await client.claim(["none"])
            move(frozen, 9.9)
        assert not waiting.done()
        while not waiting.done():
            move(frozen, 1)
            await asyncio.wait([waiting], timeout=0.02)
        (pulled,) = await waiting
        assert pulled.id == handle.id


async def test_waiting_has_an_end_and_at_least_one_try(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        assert await client.claim(wait=0) == []
        waiting = asyncio.create_task(client.claim(wait=5))
        await client.claim(["none"])
        move(frozen, 6)
        assert await asyncio.wait_for(waiting, PATIENCE) == []


async def test_a_cancelled_wait_strands_nothing(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        waiting = asyncio.create_task(client.claim(wait=60))
        await client.claim(["none"])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        handle = await client.schedule("w", max_attempts=1)
        (pulled,) = await client.claim(wait=PATIENCE)
        assert (pulled.id, pulled.attempt) == (handle.id, 1)


async def test_tasks_taken_for_a_caller_that_is_cancelled_are_given_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handles = [await client.schedule("w", {"n": n}, max_attempts=1) for n in range(3)]
        repository = client._house.repository  # type: ignore[union-attr]
        claim, loop = repository.claim_until, asyncio.get_running_loop()
        calls: list[asyncio.Task[Any]] = []

        def claim_and_cancel(*args: Any) -> Any:
            taken = claim(*args)
            monkeypatch.undo()
            loop.call_soon_threadsafe(calls[0].cancel)
            return taken

        monkeypatch.setattr(repository, "claim_until", claim_and_cancel)
        calls.append(asyncio.create_task(client.claim(limit=3)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        pulled = await client.claim(limit=3, wait=PATIENCE)
        while len(pulled) < 3:
            pulled += await client.claim(limit=3, wait=PATIENCE)
        assert {item.id for item in pulled} == {handle.id for handle in handles}
        assert {item.attempt for item in pulled} == {1}


async def test_a_shutdown_ends_a_wait(frozen: Database) -> None:
    client = frozen.scheduler(WorkRegistry(), **CLIENT)
    await client.start()
    waiting = asyncio.create_task(client.claim(wait=3600))
    await client.claim(["none"])
    stopping = asyncio.create_task(client.shutdown())
    while not (waiting.done() and stopping.done()):
        await asyncio.wait([waiting, stopping], timeout=0.05)
        move(frozen, 1)
    with pytest.raises(SchedulerNotRunning):
        await waiting


# Leases


async def test_a_lapsed_lease_is_taken_back_by_whoever_pulls(frozen: Database) -> None:
    """Clients run no chores: with no other node alive, the next puller does it."""
    async with (
        frozen.scheduler(WorkRegistry(), **CLIENT) as client,
        frozen.scheduler(WorkRegistry(), **CLIENT) as other,
    ):
        handle = await client.schedule("w", max_attempts=1)
        (pulled,) = await client.claim(lease=10)
        move(frozen, 9)
        assert await other.claim() == []
        move(frozen, 10)
        (again,) = await other.claim()
        assert (again.id, again.attempt) == (handle.id, 1)
        for late in (pulled.done(), pulled.release(), pulled.fail("x"), pulled.report(1)):
            with pytest.raises(LeaseLost):
                await late
        await again.done("second")
        assert await handle.result(timeout=PATIENCE) == "second"
        assert [item.outcome for item in await handle.history()] == ["lost", "done"]


async def test_a_node_takes_a_lapsed_lease_back_and_runs_it(frozen: Database) -> None:
    works = WorkRegistry()

    @works.register("w")
    async def w() -> str:
        return "by the node"

    async with frozen.scheduler(works, **CLIENT) as client:
        handle = await client.schedule("w")
        (pulled,) = await client.claim(lease=2)
        async with frozen.scheduler(works):
            result = asyncio.create_task(handle.result(timeout=3600))
            while not result.done():
                await asyncio.wait([result], timeout=0.02)
                move(frozen, 0.5)
            assert await result == "by the node"
        with pytest.raises(LeaseLost):
            await pulled.done("late")


async def test_done_after_the_deadline_counts_until_somebody_took_it_back(
    frozen: Database,
) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w")
        (pulled,) = await client.claim(lease=10)
        move(frozen, 1000)
        await pulled.done("late, but first")
        assert await handle.result(timeout=PATIENCE) == "late, but first"


async def test_a_report_begins_the_lease_anew(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w")
        (pulled,) = await client.claim(lease=10)
        for n in range(3):
            move(frozen, 8)
            await pulled.report(n)
            assert await client.claim() == []
        await pulled.done()
        assert (await handle.info()).state == "done"


async def test_several_pullers_never_get_the_same_task(database: Database) -> None:
    got: Counter[str] = Counter()
    async with (
        database.scheduler(WorkRegistry(), **CLIENT) as one,
        database.scheduler(WorkRegistry(), **CLIENT) as two,
    ):
        tasks = [("w", {"n": n}) for n in range(120)]
        handles = await one.schedule_many(tasks)

        async def pull(client: Scheduler, limit: int) -> None:
            while pulled := await client.claim(limit=limit):
                got.update(item.id for item in pulled)
                await asyncio.gather(*(item.done() for item in pulled))

        await asyncio.gather(*(pull(client, limit) for client in (one, two) for limit in (1, 3, 7)))
        assert (await one.counts()) == {"scheduled": 0, "working": 0, "parked": 0}
    assert got == Counter(handle.id for handle in handles)
