"""Seed 000 (tasques): a test per flaw about tasks, or why there is none.

====  =========================================  ==================================================
 no   flaw                                       test, or reason
====  =========================================  ==================================================
  1   backoff is not exponential [R]             test_the_backoff_grows_exponentially_and_is_capped,
                                                 test_a_retry_waits_as_long_as_its_backoff_says
  2   a conflict is retried once [r]             test_however_many_meet_one_key_all_are_answered
                                                 (processes: tests/app/test_uniqueness_processes)
  3   skip-if-outstanding reads stale data [r]   about recurring tasks: tests of ``overlap``
  4   ``block_for: 0`` claims nothing [r]        test_a_claim_that_does_not_wait_still_tries_once
      numeric durations are zero [R]             test_a_numeric_duration_is_never_silently_zero
  5   a late error discards what was claimed     test_an_error_in_a_later_lane_keeps_what_was_taken
      [r]; a caller who leaves strands it [r]    test_a_claim_whose_caller_left_is_given_back
  6   no fencing token [r]                       test_the_same_worker_cannot_end_its_second_attempt
                                                 _with_its_first
  7   the tail of a claim times out queued [r]   test_the_timeout_counts_from_the_start_of_the_run
  8   a handler's release is not seen [r]        test_a_release_by_the_handler_is_not_a_failure
      outages end or spin the worker [r]         test_a_claim_that_fails_is_tried_again
  9   ticks live in leader memory [r]            about recurring tasks; there is no leader
 10   the leader keeps its lock on stop [r]      no leader; test_a_node_that_leaves_leaves_nothing
                                                 _to_wait_for
 11   a panic kills the server [r]               tests/app/test_running.py::test_even_what_is_no
                                                 _exception_is_recorded_and_the_slot_returns
 12   archiving loses or doubles; ids are free   test_an_id_stays_taken_after_its_task_has_ended
      again [r]
 15   secrets in the log [r]                     test_params_and_results_are_never_logged
 16   a misspelt setting means "unbounded" [r]   test_a_misspelt_option_is_refused_by_name
====  =========================================  ==================================================
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import timedelta
from typing import Any

import pytest

import rota
from rota import Backoff, BlockingContext, Context, Release, Scheduler, WorkRegistry
from rota.core.ids import new_id
from rota.errors import InvalidArgument, LeaseLost, ResultTimeout, TaskFailed
from tests.conftest import Database
from tests.regressions.parts import Faulty


# 000.1 [R]: XOR in place of a power.
def test_the_backoff_grows_exponentially_and_is_capped() -> None:
    backoff = Backoff(first=11, factor=2, max=330_000, jitter="none")
    waits = [backoff.delay(attempt) for attempt in range(1, 25)]
    assert waits == [min(330_000, 11 * 2**n) for n in range(24)]
    assert waits[14:16] == [180_224, 330_000]
    assert backoff.delay(100_000) == 330_000
    jittered = Backoff(first=8, factor=2, max=1000)
    for attempt in range(1, 10):
        assert all(0 <= jittered.delay(attempt) <= 8 * 2 ** (attempt - 1) for _ in range(50))


async def test_a_retry_waits_as_long_as_its_backoff_says(
    database: Database, works: WorkRegistry
) -> None:
    ran = asyncio.Semaphore(0)

    @works.register("fails", max_attempts=4, backoff=Backoff(first=100, factor=3, jitter="none"))
    async def fails() -> None:
        ran.release()
        raise ValueError("not yet")

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(fails.bind())
        for attempt, wait in enumerate((100, 300, 600), 1):
            await ran.acquire()
            while len(history := await handle.history()) < attempt:
                await asyncio.sleep(0)
            info = await handle.info()
            assert (info.status, info.attempt) == ("retrying", attempt)
            waits = (info.run_at - history[-1].finished_at).total_seconds()
            assert math.isclose(waits, wait, abs_tol=0.01)
            await handle.update(delay=0)
        with pytest.raises(TaskFailed, match="not yet"):
            await handle.result(timeout=20)
        assert (await handle.info()).attempt == 4


# 000.2 [r]: retried once, whatever was configured.
async def test_however_many_meet_one_key_all_are_answered(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("once")
    async def once() -> None: ...

    async with database.scheduler(works) as scheduler:
        handles = await asyncio.gather(
            *(
                scheduler.schedule(once.bind(), unique="k", on_conflict="return", delay=3600)
                for _ in range(60)
            )
        )
    assert len(set(handles)) == 1
    assert sum(handle.created for handle in handles) == 1


# 000.4 [r]: block_for=0 made no attempt at all.
async def test_a_claim_that_does_not_wait_still_tries_once(
    database: Database, works: WorkRegistry
) -> None:
    async with database.scheduler(works, queues=[]) as scheduler:
        handle = await scheduler.schedule("pulled", allow_unknown=True)
        (pulled,) = await scheduler.claim(wait=0)
        assert pulled.id == handle.id
        await pulled.done()
        assert (await handle.info()).state == "done"


# 000.4 [R]: a duration given as a number was parsed to zero without a word.
@pytest.mark.parametrize("given", [90, 90.0, timedelta(seconds=90)])
async def test_a_numeric_duration_is_never_silently_zero(
    database: Database, works: WorkRegistry, given: Any
) -> None:
    seen: list[float | None] = []

    @works.register("timed", timeout=given)
    async def timed(ctx: Context) -> None:
        seen.append(ctx.time_remaining)

    async with database.scheduler(works) as scheduler:
        by_work = await scheduler.schedule(timed.bind())
        by_call = await scheduler.schedule(timed.bind(), timeout=given)
        for handle in (by_work, by_call):
            await handle.result(timeout=20)
        waiting = await (await scheduler.schedule(timed.bind(), delay=given)).info()
        expiring = await scheduler.schedule(timed.bind(), delay=5, expires=given)
        deadline = (await expiring.info()).expires_at

    assert all(remaining is not None and 0 < remaining <= 90 for remaining in seen)
    assert len(seen) == 2
    assert math.isclose((waiting.due_at - waiting.created_at).total_seconds(), 90, abs_tol=0.01)
    assert deadline is not None
    assert (deadline - waiting.created_at).total_seconds() >= 95


@pytest.mark.parametrize("given", ["90", "90s", "", True, -1, math.nan, math.inf, b"1"])
@pytest.mark.parametrize("option", ["timeout", "delay", "expires"])
async def test_what_is_no_duration_is_refused_by_name(
    works: WorkRegistry, option: str, given: Any
) -> None:
    @works.register("timed")
    async def timed() -> None: ...

    async with Scheduler(works) as scheduler:
        with pytest.raises(InvalidArgument) as refused:
            await scheduler.schedule("timed", **{option: given})
    assert refused.value.field == option


# 000.5 [r]: an error in a later round discarded what the rounds before had claimed.
async def test_an_error_in_a_later_lane_keeps_what_was_taken(works: WorkRegistry) -> None:
    repository = Faulty("claim_until")
    async with Scheduler(works, repository, queues=[]) as scheduler:
        first = await scheduler.schedule("pulled", allow_unknown=True, queue="a", priority=5)
        second = await scheduler.schedule("pulled", allow_unknown=True, queue="b")
        repository.pass_first["claim_until"], repository.fail["claim_until"] = 1, 1
        (pulled,) = await scheduler.claim(limit=2)
        assert pulled.id == first.id
        await pulled.done()
        (other,) = await scheduler.claim(limit=2)
        assert other.id == second.id
        await other.done()


# 000.5 [r]: a client that left during a blocking claim still had tasks claimed for it.
async def test_a_claim_whose_caller_left_is_given_back(
    database: Database, works: WorkRegistry
) -> None:
    async with database.scheduler(works, queues=[]) as scheduler:
        leaver = asyncio.create_task(scheduler.claim(wait=3600))
        await asyncio.sleep(0)
        handle = await scheduler.schedule("pulled", allow_unknown=True)
        leaver.cancel()
        (answered,) = await asyncio.gather(leaver, return_exceptions=True)
        for one in answered if isinstance(answered, list) else []:
            await one.release()  # the answer was faster than the cancel
        (pulled,) = await scheduler.claim(wait=20)
        assert (pulled.id, pulled.attempt) == (handle.id, 1)
        await pulled.done()


# 000.6 [r]: ownership was a self-declared name.
async def test_the_same_worker_cannot_end_its_second_attempt_with_its_first(
    database: Database, works: WorkRegistry
) -> None:
    async with database.scheduler(works, queues=[]) as scheduler:
        handle = await scheduler.schedule("pulled", allow_unknown=True)
        (first,) = await scheduler.claim()
        await first.release()
        (second,) = await scheduler.claim()
        for late in (first.done("old"), first.fail("old"), first.release(), first.report(1)):
            with pytest.raises(LeaseLost):
                await late
        await second.done("new")
        assert await handle.result(timeout=20) == "new"


# 000.7 [r]: what waited locally behind another used up its own time.
async def test_the_timeout_counts_from_the_start_of_the_run(
    database: Database, works: WorkRegistry
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @works.register("first")
    async def first() -> None:
        started.set()
        await gate.wait()

    @works.register("second", timeout=0.2)
    async def second() -> str:
        return "in time"

    async with database.scheduler(works, concurrency=1) as scheduler:
        before = await scheduler.schedule(first.bind())
        await started.wait()
        after = await scheduler.schedule(second.bind())
        with pytest.raises(ResultTimeout):
            await after.result(timeout=0.5)
        gate.set()
        await before.result(timeout=20)
        assert await after.result(timeout=20) == "in time"
        assert (await after.info()).attempt == 1


# 000.8 [r]: the worker's loop did not see the release, marked a failure, and went down.
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_release_by_the_handler_is_not_a_failure(
    database: Database, works: WorkRegistry, kind: str
) -> None:
    attempts: list[int] = []

    def turn(attempt: int) -> str:
        attempts.append(attempt)
        if len(attempts) < 3:
            raise Release(after=0)
        return "at last"

    @works.register("coroutine")
    async def coroutine(ctx: Context) -> str:
        return turn(ctx.attempt)

    @works.register("thread")
    def thread(ctx: BlockingContext) -> str:
        return turn(ctx.attempt)

    async with database.scheduler(works) as scheduler:
        handle = await scheduler.schedule(kind)
        assert await handle.result(timeout=20) == "at last"
        assert scheduler.running
    assert attempts == [1, 1, 1]


# 000.8 [r]: an outage ended the process or span.
async def test_a_claim_that_fails_is_tried_again(works: WorkRegistry) -> None:
    @works.register("work")
    async def work() -> str:
        return "ran"

    repository = Faulty("claim", "agenda")
    async with Scheduler(works, repository, poll=0.1) as scheduler:
        repository.fail["claim"] = 2
        handle = await scheduler.schedule(work.bind(), delay=0.01)  # else it is taken along
        assert await handle.result(timeout=20) == "ran"
        assert repository.fail["claim"] == 0
        assert repository.calls["claim"] <= 20


# 000.10 [r]: stopping cost the others a lease.
async def test_a_node_that_leaves_leaves_nothing_to_wait_for(
    durable: Database, works: WorkRegistry
) -> None:
    started = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    @works.register("long")
    async def long() -> str:
        started.release()
        await go_on.wait()
        return "elsewhere"

    async with durable.scheduler(works) as first:
        handle = await first.schedule(long.bind())
        await started.acquire()
        await first.shutdown(timeout=0)
    go_on.set()
    async with durable.scheduler(works) as second:
        mine = second.handle(handle.id)
        assert await mine.result(timeout=20) == "elsewhere"
        assert [one.outcome for one in await mine.history()] == ["done"]


# 000.12 [r]: a task's id was free again once it was archived.
async def test_an_id_stays_taken_after_its_task_has_ended(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[int] = []

    @works.register("once")
    async def once() -> None:
        ran.append(1)

    key = new_id()
    async with database.scheduler(works) as scheduler:
        first = await scheduler.schedule(once.bind(), id=key)
        await first.result(timeout=20)
        for _ in range(3):
            again = await scheduler.schedule(once.bind(), id=key, on_conflict="return")
            assert (again.id, again.created, again.state_met) == (key, False, "done")
        await (await scheduler.schedule(once.bind())).result(timeout=20)
        assert len(await first.history()) == 1
    assert len(ran) == 2


# 000.15 [r]: credentials were written to the log.
async def test_params_and_results_are_never_logged(
    database: Database, works: WorkRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    @works.register("secret", max_attempts=2, backoff=Backoff(first=0, jitter="none"))
    async def secret(ctx: Context, password: str) -> str:
        ctx.log.info("attempt %d", ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("refused")
        return password

    with caplog.at_level(logging.DEBUG):
        async with database.scheduler(works) as scheduler:
            handle = await scheduler.schedule(secret.bind("xyzzy-17"), meta={"token": "xyzzy-17"})
            assert await handle.result(timeout=20) == "xyzzy-17"
    assert "attempt 2" in caplog.text
    assert "xyzzy-17" not in caplog.text


# 000.16 [r]: a key that was spelt otherwise than the program read it counted as zero.
async def test_a_misspelt_option_is_refused_by_name(works: WorkRegistry) -> None:
    @works.register("work")
    async def work() -> None: ...

    with pytest.raises(TypeError, match="max_attemps"):
        works.register("other", max_attemps=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="lru_size"):
        Scheduler(works, lru_size=3)  # type: ignore[call-arg]
    for given in ({"defaults": {"max_attemps": 3}}, {"queue_defaults": {"q": {"max_attemps": 3}}}):
        with pytest.raises(InvalidArgument, match="max_attemps"):
            await Scheduler(works, **given).start()
    async with Scheduler(works) as scheduler:
        with pytest.raises(TypeError, match="max_attemps"):
            await scheduler.schedule("work", max_attemps=3)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="retries"):
            await scheduler.schedule_many([rota.TaskSpec("work", None, {"retries": 3})])  # type: ignore[typeddict-unknown-key]
        assert sum((await scheduler.counts()).values()) == 0
