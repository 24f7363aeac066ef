"""Seed 002 (gokugen): a test per flaw about tasks, or why there is none.

The tests from 11 on are in ``test_gokugen_verbs.py``.

====  =========================================  ==================================================
 no   flaw                                       test, or reason
====  =========================================  ==================================================
  1   freeing params frees nothing, a change is  test_lazy_params_are_read_when_the_task_runs;
      ignored [R]                                memory: ``python -m benchmarks lazy``
  2   Sync cancels the node's own runs [R]       test_a_running_task_is_left_alone_by_sync
  3   a recurring run is never marked [R]        about recurring tasks: a child is a task like any
                                                 other; test_a_task_that_ended_is_over_for_good
  4   a crashed node's tasks stay working [r]    test_what_a_dead_node_ran_runs_again
  5   an outcome not written runs again [R]      test_an_outcome_that_cannot_be_written_is_kept
  6   a panic is not recorded, its slot lost;    test_no_failure_costs_a_slot
      middleware must stand outside storage [R]  test_what_middleware_makes_of_an_outcome_is_stored
  7   refused and stored all the same [R]        test_what_was_refused_is_not_stored
  8   a lost or failed claim loses the task [r]  test_a_claim_whose_answer_was_lost_loses_nothing
  9   Sync's cursor skips, sticks, ignores [r]   test_a_task_moved_elsewhere_runs_at_its_new_time
                                                 test_more_tasks_of_one_instant_than_a_claim_takes
 11   malformed and past cron [R]                about recurring tasks: tests of the triggers
      a cancel does not stop the recurrence [R]  test_a_cancel_ends_a_task_that_would_run_again
 12   the ``Cli`` work never returns [R]         there is no such work
 13   backends disagree about ``Update`` [r]     test_an_update_means_the_same_everywhere
HEAD  a start reverts everybody's runs [r]       test_a_node_that_starts_leaves_the_others_alone
      limits and conditions inverted [r]         retention: the conformance suite (``keeping``)
      a cancelled run is not recorded [r]        test_the_end_of_a_cancelled_run_is_recorded
      other processes' writes are unseen [r]     test_a_task_moved_elsewhere_runs_at_its_new_time
====  =========================================  ==================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rota import (
    BlockingContext,
    Context,
    Done,
    Fail,
    Middleware,
    Outcome,
    Run,
    Scheduler,
    ScheduleRequest,
    WorkRegistry,
)
from rota.core.clock import SystemClock
from rota.core.task import Claimed, Inserted
from rota.errors import (
    Rejected,
    StorageUnavailable,
)
from rota.storage.memory import MemoryRepository
from tests.conftest import Database
from tests.regressions.parts import Faulty


# 002.1 [R]: the loader was never called, and a changed param was ignored.
async def test_lazy_params_are_read_when_the_task_runs(
    database: Database, works: WorkRegistry
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold() -> None:
        started.set()
        await gate.wait()

    @works.register("text")
    async def text(value: str) -> str:
        return value

    async with database.scheduler(works, concurrency=1, lazy_params=True) as scheduler:
        holding = await scheduler.schedule(hold.bind())
        await started.wait()
        # Far off: what is due within a second may be held already, and is not changed any more.
        handle = await scheduler.schedule(text.bind("old"), delay=60)
        await handle.update(params={"value": "new"}, delay=0)
        gate.set()
        await holding.result(timeout=20)
        assert await handle.result(timeout=20) == "new"
        assert (await handle.info()).params == {"value": "new"}


# 002.2 [R]: Sync took the node's own running row for a foreign one and cancelled it.
async def test_a_running_task_is_left_alone_by_sync(
    database: Database, works: WorkRegistry
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("long")
    async def long(ctx: Context) -> bool:
        started.set()
        await gate.wait()
        return ctx.cancelled

    async with database.scheduler(works, poll=0.1) as scheduler:
        handle = await scheduler.schedule(long.bind())
        await started.wait()
        for _ in range(3):
            await scheduler.restore(wait=0)
            scheduler.wake()
            await (await scheduler.schedule("long2", allow_unknown=True)).info()
        gate.set()
        assert await handle.result(timeout=20) is False
        assert [one.outcome for one in await handle.history()] == ["done"]


# 002.3 [R]: what had ended was still there as waiting, and ran again after a restart.
async def test_a_task_that_ended_is_over_for_good(durable: Database, works: WorkRegistry) -> None:
    ran: list[int] = []

    @works.register("count")
    async def count(n: int) -> None:
        ran.append(n)

    for start in range(3):
        async with durable.scheduler(works) as scheduler:
            handles = await scheduler.schedule_many([count.bind(start * 5 + n) for n in range(5)])
            for handle in handles:
                await handle.result(timeout=20)
            assert sum((await scheduler.counts()).values()) == 0
    assert sorted(ran) == list(range(15))


# 002.4 [r]: no lease, no reaper.
async def test_what_a_dead_node_ran_runs_again(database: Database, works: WorkRegistry) -> None:
    started = asyncio.Semaphore(0)
    gate = asyncio.Event()

    @works.register("run")
    async def run() -> str:
        started.release()
        await gate.wait()
        return "done"

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(run.bind())
        await started.acquire()
        with closing(database.repository()) as repository:
            repository.leave(scheduler.node)
            repository.rescue(100)
        await started.acquire()
        gate.set()
        assert await handle.result(timeout=30) == "done"
        info, history = await handle.info(), await handle.history()
    assert info.attempt == 1
    assert [one.outcome for one in history] == ["lost", "done"]


# 002.5 [R]: marking failed once, and the work ran again.
async def test_an_outcome_that_cannot_be_written_is_kept(works: WorkRegistry) -> None:
    ran: list[int] = []

    @works.register("once")
    async def once() -> str:
        ran.append(1)
        return "kept"

    repository = Faulty("finish")
    async with Scheduler(works, repository, poll=0.1) as scheduler:
        repository.fail["finish"] = 3
        handle = await scheduler.schedule(once.bind())
        assert await handle.result(timeout=20) == "kept"
        await scheduler.restore(wait=0)
        assert repository.calls["finish"] >= 4
        assert [one.outcome for one in await handle.history()] == ["done"]
    assert ran == [1]


# 002.6 [R]: each panic took a worker for good (3 → 2) and left its row behind.
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_no_failure_costs_a_slot(database: Database, works: WorkRegistry, kind: str) -> None:
    def turn(n: int) -> int:
        if n % 3 == 0:
            raise RuntimeError("on purpose")
        if n % 3 == 1:
            raise SystemExit(n)
        return n

    @works.register("coroutine")
    async def coroutine(n: int) -> int:
        return turn(n)

    @works.register("thread")
    def thread(ctx: BlockingContext, n: int) -> int:
        return turn(n)

    async with database.scheduler(works, concurrency=3) as scheduler:
        handles = await scheduler.schedule_many([(kind, {"n": n}) for n in range(30)])
        ended = [await handle.wait(timeout=20) for handle in handles]
        assert (await scheduler.health()).running == 0
    assert [one.state for one in ended] == [*["failed", "failed", "done"] * 10]


# 002.6 [R]: middleware that saw the work stood outside of marking.
async def test_what_middleware_makes_of_an_outcome_is_stored(
    database: Database, works: WorkRegistry
) -> None:
    class Judge(Middleware):
        async def on_execute(self, run: Run, call_next: Any) -> Outcome:
            outcome: Outcome = await call_next(run)
            if isinstance(outcome, Done):
                return Done(f"{outcome.result}, judged")
            return Done("forgiven") if isinstance(outcome, Fail) else outcome

        async def on_schedule(self, request: ScheduleRequest, call_next: Any) -> Inserted:
            answer: Inserted = await call_next(request)
            return answer

    @works.register("text")
    async def text() -> str:
        return "said"

    @works.register("bad")
    async def bad() -> str:
        raise Fail("not mine to say")

    async with database.scheduler(works, middleware=[Judge()]) as scheduler:
        said = await scheduler.schedule("text")
        forgiven = await scheduler.schedule("bad")
        assert await said.result(timeout=20) == "said, judged"
        assert await forgiven.result(timeout=20) == "forgiven"
        assert (await forgiven.info()).state == "done"


# 002.7 [R]: the caller was told "no", and the row was there.
async def test_what_was_refused_is_not_stored(database: Database, works: WorkRegistry) -> None:
    ran: list[int] = []

    @works.register("work")
    async def work(n: int) -> None:
        ran.append(n)

    async def no_odd(request: ScheduleRequest, call_next: Any) -> Inserted:
        if request.params["n"] % 2:
            raise Rejected("odd numbers are not for us")
        answer: Inserted = await call_next(request)
        return answer

    async with database.scheduler(works, middleware=[no_odd]) as scheduler:
        with pytest.raises(Rejected):
            await scheduler.schedule(work.bind(1), delay=3600)
        with pytest.raises(Rejected):
            await scheduler.schedule_many([work.bind(n) for n in (2, 4, 5)], delay=3600)
        with pytest.raises(TypeError):
            await scheduler.schedule(work.bind(2), dely=3600)  # type: ignore[call-overload]
        assert sum((await scheduler.counts()).values()) == 0
    async with database.scheduler(works) as again:
        await (await again.schedule(work.bind(10))).result(timeout=20)
    assert ran == [10]


class _Mute(MemoryRepository):
    """The answer of the next claim that takes something is lost after it was committed."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.lost: list[str] = []

    def claim(self, *args: Any, **kwargs: Any) -> list[Claimed]:
        taken: Sequence[Claimed] = super().claim(*args, **kwargs)
        if taken and not self.lost:
            self.lost += [one.id for one in taken]
            raise StorageUnavailable("the connection broke after the commit; try again")
        return list(taken)


# 002.8 [r]: a database error in the CAS lost the task for the process.
async def test_a_claim_whose_answer_was_lost_loses_nothing(works: WorkRegistry) -> None:
    @works.register("work")
    async def work() -> str:
        return "ran"

    repository = _Mute()
    async with Scheduler(works, repository, poll=0.1) as scheduler:
        handle = await scheduler.schedule(work.bind(), delay=0.01)  # else it is taken along
        assert await handle.result(timeout=30) == "ran"
        assert repository.lost == [handle.id]
        assert (await handle.info()).attempt == 1


# 002.9 [r]: a change of the time from outside was ignored by nodes that knew the task.
async def test_a_task_moved_elsewhere_runs_at_its_new_time(
    durable: Database, works: WorkRegistry
) -> None:
    @works.register("move")
    async def move(n: int) -> int:
        return n

    async with (
        durable.scheduler(works) as node,
        durable.scheduler(works, queues=[]) as client,
    ):
        far = await node.schedule(move.bind(1), delay=3600)
        # Held by the node, in its timer.
        near = await node.schedule(move.bind(2), delay=0.6)
        await client.update(far.id, delay=0)
        assert await far.result(timeout=20) == 1
        assert await near.result(timeout=20) == 2


# 002.9 [r]: a page smaller than the tasks of one timestamp never went on.
async def test_more_tasks_of_one_instant_than_a_claim_takes(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[int] = []

    @works.register("count")
    async def count(n: int) -> None:
        ran.append(n)

    async with database.scheduler(works, concurrency=3) as scheduler:
        at = datetime.now(UTC) + timedelta(seconds=0.3)
        handles = await scheduler.schedule_many([count.bind(n) for n in range(200)], at=at)
        for handle in handles:
            await handle.result(timeout=30)
    assert sorted(ran) == list(range(200))
