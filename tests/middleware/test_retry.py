"""What becomes of everything a work can raise, and of a run that was told to stop."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from rota import Backoff, WorkRegistry
from rota.core.options import Options
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.run import Run, Stop
from rota.middleware.expiry import ExpiryMiddleware
from rota.middleware.retry import RetryMiddleware
from rota.testing.clock import FakeClock
from tests.middleware.parts import a_run

EXACT = Backoff(first=3, factor=2, jitter="none")


def gives(outcome: Any) -> Callable[[Run], Awaitable[Outcome]]:
    async def call_next(run: Run) -> Outcome:
        return outcome  # type: ignore[no-any-return]

    return call_next


def raises(error: BaseException) -> Callable[[Run], Awaitable[Outcome]]:
    async def call_next(run: Run) -> Outcome:
        raise error

    return call_next


async def ended(run: Run, call_next: Callable[[Run], Awaitable[Outcome]]) -> Outcome:
    return await RetryMiddleware(default=EXACT).on_execute(run, call_next)


@pytest.mark.parametrize(
    "outcome", [Done(3), Fail("a"), Cancel("b"), Again(after=4), Release(after=5), Ignore()]
)
async def test_other_outcomes_pass_as_they_are(outcome: Outcome) -> None:
    assert await ended(a_run(Options(max_attempts=1), attempt=9), gives(outcome)) is outcome


async def test_retry_waits_as_it_was_told_or_as_the_backoff_says() -> None:
    many = Options(max_attempts=9)
    for after in (0, 7.5, timedelta(seconds=9)):
        outcome = await ended(a_run(many), gives(Retry(after=after)))
        assert isinstance(outcome, Retry)
        assert outcome.after == after
    for attempt, wait in ((1, 3.0), (2, 6.0), (4, 24.0)):
        outcome = await ended(a_run(many, attempt=attempt), gives(Retry(reason="r")))
        assert isinstance(outcome, Retry)
        assert (outcome.after, outcome.reason) == (wait, "r")
    own = Options(max_attempts=9, backoff=Backoff(first=1, factor=1, jitter="none"))
    outcome = await ended(a_run(own, attempt=5), gives(Retry()))
    assert isinstance(outcome, Retry)
    assert outcome.after == 1.0


async def test_the_jitter_is_drawn_from_the_given_source() -> None:
    retry = RetryMiddleware(default=Backoff(first=10), rng=random.Random(7))
    outcome = await retry.on_execute(a_run(Options(max_attempts=None)), gives(Retry()))
    assert isinstance(outcome, Retry)
    assert outcome.after == random.Random(7).uniform(0, 10)


@pytest.mark.parametrize(("attempt", "limit"), [(1, 1), (3, 3), (4, 3)])
async def test_without_an_attempt_left_a_retry_is_a_failure(attempt: int, limit: int) -> None:
    run = a_run(Options(max_attempts=limit), attempt=attempt)
    plain = await ended(run, gives(Retry(after=1)))
    assert isinstance(plain, Fail)
    assert plain.reason == "no attempt left"
    told = await ended(run, gives(Retry(reason="busy", error='{"a":1}')))
    assert isinstance(told, Fail)
    assert (told.reason, told.error) == ("busy", '{"a":1}')
    beyond = await ended(run, gives(Retry(after=1, beyond_max=True)))
    assert isinstance(beyond, Retry)


async def test_without_a_limit_there_is_always_another_attempt() -> None:
    run = a_run(Options(max_attempts=None), attempt=10_000)
    assert isinstance(await ended(run, gives(Retry())), Retry)


async def test_one_and_the_same_value_may_be_given_again_and_again() -> None:
    again = Retry(reason="shared")
    waits = []
    for attempt in (1, 2):
        outcome = await ended(a_run(Options(max_attempts=9), attempt=attempt), gives(again))
        assert isinstance(outcome, Retry)
        waits.append(outcome.after)
    assert waits == [3.0, 6.0]
    assert again.after is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("what happened"),
        SystemExit("what happened"),
        KeyboardInterrupt("what happened"),
        GeneratorExit("what happened"),
        asyncio.CancelledError("what happened"),
        ExceptionGroup("what happened", [ValueError("inner")]),
    ],
)
async def test_what_is_raised_is_a_failed_attempt_with_its_story(error: BaseException) -> None:
    retried = await ended(a_run(Options(max_attempts=2)), raises(error))
    failed = await ended(a_run(Options(max_attempts=1)), raises(error))
    assert isinstance(retried, Retry)
    assert retried.after == 3.0
    assert isinstance(failed, Fail)
    for outcome in (retried, failed):
        assert "what happened" in outcome.reason
        told = json.loads(outcome.error or "{}")
        assert told["type"].endswith(type(error).__name__)
        assert "call_next" in told["traceback"]


@pytest.mark.parametrize("why", [Stop.CANCELLED, Stop.CHANGED])
async def test_a_run_told_to_stop_ends_cancelled_done_or_cancelled_with_its_error(
    why: Stop,
) -> None:
    def stopped() -> Run:
        run = a_run(Options(max_attempts=9))
        run.stop(why, "enough")
        return run

    plain = await ended(stopped(), raises(asyncio.CancelledError()))
    assert isinstance(plain, Cancel)
    assert (plain.reason, plain.error) == ("enough", None)
    noted = await ended(stopped(), raises(ValueError("on the way out")))
    assert isinstance(noted, Cancel)
    assert noted.reason == "enough"
    assert "on the way out" in (noted.error or "")
    done = Done("finished anyway")
    assert await ended(stopped(), gives(done)) is done


@pytest.mark.parametrize("why", [Stop.SHUTDOWN, Stop.LOST])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError("a")])
async def test_at_shutdown_or_without_a_lease_the_task_is_given_back(
    why: Stop, error: BaseException
) -> None:
    run = a_run(Options(max_attempts=1))
    run.stop(why, "x")
    assert isinstance(await ended(run, raises(error)), Release)
    done = Done(1)
    assert await ended(run, gives(done)) is done


async def test_a_timeout_is_a_failed_attempt() -> None:
    run = a_run(Options(max_attempts=2))
    run.stop(Stop.TIMEOUT, "too long")
    assert isinstance(await ended(run, raises(TimeoutError("too long"))), Retry)


async def test_a_cancel_that_was_dealt_with_is_over() -> None:
    async def run_it() -> tuple[Outcome, int]:
        run = a_run()
        run.target = asyncio.current_task()

        async def wait(_: Run) -> Outcome:
            await asyncio.Event().wait()
            raise AssertionError

        asyncio.get_running_loop().call_soon(run.stop, Stop.CANCELLED, "enough")
        outcome = await ended(run, wait)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return outcome, task.cancelling()

    outcome, left = await asyncio.create_task(run_it())
    assert isinstance(outcome, Cancel)
    assert left == 0


def broken(attempt: int) -> float:
    raise ZeroDivisionError("in the backoff")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (-1, "-1"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("soon", "str"),
        (None, "NoneType"),
        (broken, "ZeroDivisionError: in the backoff"),
    ],
)
async def test_a_backoff_that_answers_nonsense_fails_the_task_and_says_so(
    works: WorkRegistry, answer: Any, told: str
) -> None:
    backoff = answer if callable(answer) else lambda attempt: answer

    @works.register("demo", backoff=backoff)
    async def demo() -> None: ...

    run = a_run(Options(max_attempts=9), works=works.lookup("demo"))
    for call_next in (
        raises(ValueError("the first cause")),
        gives(Retry(reason="the first cause")),
    ):
        outcome = await ended(run, call_next)
        assert isinstance(outcome, Fail)
        assert "backoff of demo" in outcome.reason
        assert told in outcome.reason
        assert "the first cause" in outcome.reason
        assert outcome.error is not None


async def test_a_backoff_of_ones_own_is_asked_for_each_attempt(works: WorkRegistry) -> None:
    @works.register("demo", backoff=lambda attempt: timedelta(minutes=attempt))
    async def demo() -> None: ...

    run = a_run(Options(max_attempts=9), works=works.lookup("demo"), attempt=3)
    outcome = await ended(run, gives(Retry()))
    assert isinstance(outcome, Retry)
    assert outcome.after == 180.0


@pytest.mark.parametrize("garbage", [None, "done", 7, Done, Retry, ValueError("a value")])
async def test_what_is_no_outcome_is_a_failed_attempt(garbage: object) -> None:
    failed = await ended(a_run(Options(max_attempts=1)), gives(garbage))
    assert isinstance(failed, Fail)
    assert "which is no outcome" in failed.reason
    assert isinstance(await ended(a_run(Options(max_attempts=2)), gives(garbage)), Retry)


@pytest.mark.parametrize(
    ("left", "waited", "runs"), [(None, 99, True), (5, 4.9, True), (5, 5, False), (-1, 0, False)]
)
async def test_no_attempt_begins_after_the_deadline(
    fake_clock: FakeClock, left: float | None, waited: float, runs: bool
) -> None:
    run = a_run(clock=fake_clock, expires_in=left)
    fake_clock.advance(waited)
    outcome = await ExpiryMiddleware(clock=fake_clock).on_execute(run, gives(Done("ran")))
    if runs:
        assert outcome == Done("ran")
    else:
        assert isinstance(outcome, Cancel)
        assert outcome.reason == "expired"
