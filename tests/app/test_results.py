"""Results and contexts where works differ: runners, versions, registries of mixed kinds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rota import BlockingContext, Context, Ignore, Middleware, Outcome, Run, Scheduler, WorkRegistry
from rota.core.run import ExecuteNext
from rota.errors import ResultTimeout, RotaError, TaskFailed, UnreadableResult
from tests.app import large
from tests.conftest import Database

PATIENCE = 30


def versions() -> tuple[WorkRegistry, WorkRegistry]:
    """The same work id before and after its result changed its type."""
    before, after = WorkRegistry(), WorkRegistry()

    @before.register("total")
    async def total_as_before() -> list[str]:
        return ["seven"]

    @after.register("total")
    async def total() -> list[int]:
        return [7]

    return before, after


async def test_a_result_that_another_version_wrote_is_told_from_a_failure(
    database: Database,
) -> None:
    before, after = versions()
    async with database.scheduler(before) as scheduler:
        task_id = (await scheduler.schedule("total")).id
        assert await scheduler.handle(task_id).result(timeout=PATIENCE) == ["seven"]
    async with database.scheduler(after, queues=[]) as reader:
        handle = reader.handle(task_id)
        with pytest.raises(UnreadableResult, match=r"is done, but .*; read the JSON by") as told:
            await handle.result(timeout=PATIENCE)
        assert isinstance(told.value, RotaError)
        assert not isinstance(told.value, TaskFailed)
        assert (told.value.task_id, told.value.work) == (task_id, "total")
        assert (told.value.field, told.value.value) == ("result[0]", ["seven"])
        assert (await handle.info()).result == ["seven"]


class Seen(Middleware):
    """Notes the context each run ends with."""

    def __init__(self) -> None:
        self.contexts: list[type[object]] = []

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        outcome = await call_next(run)
        self.contexts.append(type(run.context))
        return outcome


@pytest.mark.parametrize("first", ["coroutine", "thread"])
async def test_each_work_of_a_chain_gets_the_context_of_its_own_kind(
    database: Database, first: str
) -> None:
    threads, coroutines = WorkRegistry(), WorkRegistry()
    seen = Seen()

    def answer(ctx: Context | BlockingContext, kind: str, asked: str) -> Any:
        return f"{type(ctx).__name__} {ctx.time_remaining is not None}" if asked == kind else None

    @threads.register("shared", timeout=60)
    def in_a_thread(ctx: BlockingContext, asked: str) -> Any:
        ctx.report({"by": "thread"})
        return answer(ctx, "thread", asked) or Ignore()

    @coroutines.register("shared", timeout=60)
    async def on_the_loop(ctx: Context, asked: str) -> Any:
        await ctx.report({"by": "coroutine"})
        return answer(ctx, "coroutine", asked) or Ignore()

    order = [threads, coroutines] if first == "thread" else [coroutines, threads]
    works = WorkRegistry.chain(*order)
    async with database.scheduler(works, middleware=[seen]) as scheduler:
        for asked, kind in ("thread", BlockingContext), ("coroutine", Context):
            handle = await scheduler.schedule("shared", {"asked": asked})
            assert await handle.result(timeout=PATIENCE) == f"{kind.__name__} True"
            report = await handle.report()
            assert report is not None
            # The second work's report is newer than the first's: they count on together.
            assert (report.data, report.n) == ({"by": asked}, 1 if asked == first else 2)
            assert seen.contexts.pop() is kind


async def test_a_cancel_reaches_the_work_that_came_after_another_kind(works: WorkRegistry) -> None:
    threads, coroutines = WorkRegistry(), WorkRegistry()
    inside = asyncio.Event()

    @coroutines.register("shared")
    async def not_mine(ctx: Context) -> Ignore:
        return Ignore()

    @threads.register("shared")
    def patient(ctx: BlockingContext) -> None:
        loop.call_soon_threadsafe(inside.set)
        if ctx.wait(PATIENCE):
            raise RuntimeError(ctx.cancel_reason)

    loop = asyncio.get_running_loop()
    works.include("", coroutines)
    works.include("", threads)
    async with Scheduler(works) as scheduler:
        handle = await scheduler.schedule("shared")
        await inside.wait()
        assert await handle.cancel("enough") == "requested"
        task = await handle.wait(timeout=PATIENCE)
        assert (task.state, task.reason) == ("cancelled", "enough")


LIMIT = 1_500_000


@pytest.mark.parametrize("size", [LIMIT + 1, 17_000_000], ids=["over the limit", "over the pipe's"])
async def test_a_result_over_the_limit_fails_alike_in_all_runners(size: int) -> None:
    told = {}
    async with Scheduler(large.works, size_limit=LIMIT) as scheduler:
        for runner in large.RUNNERS:
            handle = await scheduler.schedule(f"text.{runner}", {"size": size - 2})
            with pytest.raises(TaskFailed) as failed:
                await handle.result(timeout=PATIENCE)
            told[runner] = (failed.value.reason, failed.value.error)
    assert len({str(one) for one in told.values()}) == 1, told
    assert told["process"][0] == (
        f"result takes {size} bytes as JSON, over the limit of {LIMIT}; "
        "store it elsewhere and pass a reference"
    )


async def test_what_is_not_kept_may_be_of_any_size_and_params_up_to_the_limit() -> None:
    async with Scheduler(large.works, size_limit=LIMIT) as scheduler:
        for runner in large.RUNNERS:
            work = f"text.{runner}"
            vast = await scheduler.schedule(work, {"size": 17_000_000}, store_result=False)
            assert await vast.result(timeout=PATIENCE) is None
            padded = await scheduler.schedule(work, {"size": 0, "pad": "x" * 1_200_000})
            assert len(await padded.result(timeout=PATIENCE)) == 1_200_000


async def test_waiting_for_a_result_of_a_task_nobody_pulls_has_an_end(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), queues=[], allow_unknown=True) as client:
        handle = await client.schedule("w")
        with pytest.raises(ResultTimeout):
            await handle.result(timeout=0.05)
