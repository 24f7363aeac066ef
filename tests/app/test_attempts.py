"""What a running attempt can have done for it, and what follows its end."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

import rota
from rota import BlockingContext, Cancel, Context, Fail, Release, Retry, TaskSpec, WorkRegistry
from rota.errors import InvalidArgument, LeaseLost, Rejected, TaskCancelled, TaskFailed
from tests.conftest import Database


async def test_progress_is_readable_while_the_task_runs_and_after(
    database: Database, works: WorkRegistry
) -> None:
    reported, go_on = asyncio.Event(), asyncio.Event()

    @works.register("steps")
    async def steps(ctx: Context) -> None:
        await ctx.report({"step": 1})
        await ctx.report({"step": 2, "text": "é\n"})
        reported.set()
        await go_on.wait()

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(steps.bind())
        await reported.wait()
        running = await handle.report()
        go_on.set()
        await handle.result(timeout=20)
        after = await handle.report()

    assert running is not None
    assert (running.data, running.attempt, running.n) == ({"step": 2, "text": "é\n"}, 1, 2)
    assert after == running


async def test_a_report_of_an_attempt_that_lost_its_lease_is_refused(
    database: Database, works: WorkRegistry
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    seen: list[type] = []

    @works.register("zombie")
    async def zombie(ctx: Context) -> None:
        if not started.is_set():
            started.set()
            while not go_on.is_set():  # the cancel of a lost run may come at any moment
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()
            calls = asyncio.gather(
                ctx.report({"late": True}), ctx.spawn("zombie"), return_exceptions=True
            )
            while not calls.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(calls)
            seen.extend(type(answer) for answer in calls.result())

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(zombie.bind())
        await started.wait()
        repository = database.repository()
        repository.leave(scheduler.node)
        repository.rescue(100)
        go_on.set()
        await handle.result(timeout=30)
        assert await handle.count_children() == {}

    assert seen == [LeaseLost, LeaseLost]


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_children_are_tracked_and_a_keyed_one_is_spawned_once(
    database: Database, works: WorkRegistry, kind: str
) -> None:
    @works.register("child")
    async def child(n: int) -> int:
        return n * 2

    @works.register("coroutine", max_attempts=2, backoff=rota.Backoff(first=0, jitter="none"))
    async def coroutine(ctx: Context) -> list[bool]:
        first = await ctx.spawn(child.bind(1), key="one")
        second = await ctx.spawn("child", {"n": 2})
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        assert await first.result(timeout=20) == 2
        return [first.created, second.created]

    @works.register("thread", max_attempts=2, backoff=rota.Backoff(first=0, jitter="none"))
    def thread(ctx: BlockingContext) -> list[bool]:
        first = ctx.spawn(child.bind(1), key="one")
        second = ctx.spawn("child", {"n": 2})
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        assert first.result(timeout=20) == 2
        return [first.created, second.created]

    async with database.scheduler(works) as scheduler:
        parent = await scheduler.schedule(kind)
        assert await parent.result(timeout=20) == [False, True]
        children = await parent.children()
        for one in children:
            await one.wait(timeout=20)
        assert await parent.count_children() == {"done": 3}
        infos = [await one.info() for one in children]

    assert {info.parent for info in infos} == {parent.id}


async def test_a_cancel_reaches_the_children_on_request(
    database: Database, works: WorkRegistry
) -> None:
    spawned = asyncio.Event()

    @works.register("grandchild")
    async def grandchild() -> None: ...

    @works.register("child")
    async def child(ctx: Context) -> None:
        await ctx.spawn(grandchild.bind(), delay=3600)
        spawned.set()

    @works.register("parent")
    async def parent(ctx: Context) -> None:
        await ctx.spawn(child.bind())
        await ctx.spawn(grandchild.bind(), delay=3600)
        await asyncio.Event().wait()

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(parent.bind())
        await spawned.wait()
        while len(await handle.children()) < 2:
            await asyncio.sleep(0)
        assert await handle.cancel("all of it", children=True) == "requested"
        with pytest.raises(TaskCancelled):
            await handle.result(timeout=20)
        for one in await handle.children():
            await one.wait(timeout=20)
        states = await handle.count_children()
        counts = await scheduler.counts()

    assert states.get("cancelled", 0) >= 1
    assert sum(counts.values()) == 0


async def test_a_follow_up_is_inserted_with_the_outcome(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[str] = []
    done = asyncio.Event()

    @works.register("note")
    async def note(text: str) -> None:
        ran.append(text)
        if len(ran) == 2:
            done.set()

    @works.register("main")
    async def main(well: bool) -> None:
        if not well:
            raise Fail("on purpose")

    async with database.scheduler(works) as scheduler:
        follows = {
            "on_done": note.bind("done"),
            "on_failed": TaskSpec("note", {"text": "failed"}, {"priority": 5}),
        }
        await scheduler.schedule(main.bind(well=True), **follows)
        failed = await scheduler.schedule(main.bind(well=False), **follows)
        async with asyncio.timeout(20):
            await done.wait()
        child = (await failed.children())[0]
        assert (await child.info()).priority == 5

    assert sorted(ran) == ["done", "failed"]


async def test_a_pulled_task_is_followed_up_too(database: Database, works: WorkRegistry) -> None:
    @works.register("note")
    async def note(text: str) -> str:
        return text

    @works.register("pulled")
    async def pulled() -> None: ...

    async with database.scheduler(works, queues=["default"]) as scheduler:
        handle = await scheduler.schedule(
            pulled.bind(), queue="outside", on_done=note.bind("followed")
        )
        (claim,) = await scheduler.claim(["outside"], wait=10)
        await claim.done()
        (child,) = await handle.children()
        assert await child.result(timeout=20) == "followed"


async def test_outcomes_may_be_raised_or_returned(database: Database, works: WorkRegistry) -> None:
    @works.register("speak", max_attempts=2)
    async def speak(ctx: Context, word: str) -> object:
        first = ctx.attempt == 1 and await ctx_first(ctx)
        match word:
            case "retry" if first:
                raise Retry(after=0, reason="again please")
            case "beyond" if first:
                return Retry(after=0, beyond_max=True)
            case "release" if first:
                return Release(after=0)
            case "again" if first:
                return rota.Again(params={"word": "done"})
            case "fail":
                raise Fail("no use")
            case "cancel":
                return Cancel("not needed")
        return f"{word} {ctx.attempt}"

    seen: set[str] = set()

    async def ctx_first(ctx: Context) -> bool:
        known = ctx.task_id in seen
        seen.add(ctx.task_id)
        return not known

    async with database.scheduler(works) as scheduler:
        handles = {
            word: await scheduler.schedule(speak.bind(word))
            for word in ("retry", "beyond", "release", "again", "fail", "cancel")
        }
        results = {}
        for word, handle in handles.items():
            try:
                results[word] = await handle.result(timeout=20)
            except (TaskFailed, TaskCancelled) as error:
                results[word] = f"{error.code}: {error.reason}"

    assert results == {
        "retry": "retry 2",
        "beyond": "beyond 2",
        "release": "release 1",
        "again": "done 1",
        "fail": "task_failed: no use",
        "cancel": "task_cancelled: not needed",
    }


async def test_an_ignored_task_goes_to_the_next_registry(database: Database) -> None:
    first, second = WorkRegistry(), WorkRegistry()

    @first.register("shared")
    async def not_mine() -> object:
        return rota.Ignore()

    @second.register("shared")
    async def mine() -> str:
        return "second"

    async with database.scheduler(WorkRegistry.chain(first, second)) as scheduler:
        assert await (await scheduler.schedule("shared")).result(timeout=20) == "second"


async def test_a_key_can_be_taken_for_a_period(database: Database, works: WorkRegistry) -> None:
    @works.register("daily")
    async def daily() -> None: ...

    key = rota.Unique("daily:2026-11-22", period=3600)
    async with database.scheduler(works) as scheduler:
        first = await scheduler.schedule(daily.bind(), unique=key)
        await first.result(timeout=20)
        again = await scheduler.schedule(daily.bind(), unique=key, on_conflict="return")

    assert (again.id, again.created, again.state_met) == (first.id, False, "done")


async def test_a_task_that_was_never_scheduled_can_be_cancelled_beforehand(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("never")
    async def never() -> None:
        raise AssertionError("a task with a tombstone ran")

    own = rota.derive_id("order", 5)
    async with database.scheduler(works) as scheduler:
        assert await scheduler.cancel(own, "withdrawn", tombstone=True) == "cancelled"
        late = await scheduler.schedule(never.bind(), id=own, on_conflict="return")

    assert (late.created, late.state_met) == (False, "cancelled")


async def test_a_task_is_cancelled_by_its_unique_key(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("later")
    async def later() -> None: ...

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(later.bind(), unique="k", delay=3600)
        found = await scheduler.find(unique="k")
        assert found is not None
        assert found.id == handle.id
        assert await scheduler.cancel(unique="k") == "cancelled"
        with pytest.raises(rota.errors.TaskNotFound):
            await scheduler.cancel(unique="k")
        with pytest.raises(InvalidArgument):
            await scheduler.cancel(handle.id, unique="k")


async def test_a_row_changed_from_outside_stops_the_run(
    database: Database, works: WorkRegistry
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold(ctx: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert "changed from outside" in (ctx.cancel_reason or "")
            stopped.set()

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(hold.bind())
        await started.wait()
        token = (scheduler.node, (await handle.info()).batch)
        finish = rota.core.task.Finish(
            handle.id, token[1] or 0, 1, rota.core.task.Ending.FAILED, reason="by hand"
        )
        database.repository().finish(token[0], [finish])
        async with asyncio.timeout(20):
            await stopped.wait()
        assert (await handle.info()).reason == "by hand"


async def test_schedule_soon_is_flushed_at_shutdown(
    database: Database, works: WorkRegistry
) -> None:
    errors: list[Exception] = []

    def refuse(request: rota.ScheduleRequest, call_next: object) -> object:
        if request.priority == 9:
            raise Rejected("not today")
        return call_next(request)  # type: ignore[operator]

    @works.register("later")
    async def later(n: int) -> None: ...

    scheduler = database.scheduler(
        works,
        queues=[],
        middleware=[refuse],
        on_error=lambda request, error: errors.append(error),
    )
    await scheduler.start()
    handles = [await scheduler.schedule_soon(later.bind(n)) for n in range(200)]
    await scheduler.schedule_soon(later.bind(0), priority=9)
    with pytest.raises(InvalidArgument):
        await scheduler.schedule_soon(later.bind(0), at=datetime(2026, 1, 1))
    await scheduler.shutdown()

    async with database.scheduler(works, queues=[]) as client:
        counts = await client.counts()
        assert (await client.info(handles[-1].id)).created_at <= datetime.now(UTC)
    assert counts["scheduled"] == 200
    assert [str(error) for error in errors] == ["not today"]


async def test_lazy_params_are_read_when_the_task_runs(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("echo")
    async def echo(text: str) -> str:
        return text

    async with database.scheduler(works, lazy_params=True, concurrency=3) as scheduler:
        handles = await scheduler.schedule_many([echo.bind(f"text {n}") for n in range(20)])
        results = [await handle.result(timeout=20) for handle in handles]

    assert results == [f"text {n}" for n in range(20)]


async def test_health_tells_how_a_node_is(database: Database, works: WorkRegistry) -> None:
    @works.register("quick")
    async def quick() -> None: ...

    async with database.scheduler(works) as scheduler:
        await (await scheduler.schedule(quick.bind())).result(timeout=20)
        health = await scheduler.health()

    assert health.live
    assert health.ready
    assert (health.accepted, health.refused, health.troubles) == (1, 0, ())
