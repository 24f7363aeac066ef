"""Whatever a work or a middleware hands over, the attempt is recorded and the slot comes back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import Clock, SystemClock
from rota.core.events import Event, Finished
from rota.core.outcome import Again, Cancel, Done, Fail, Outcome, Release, Retry
from rota.core.run import ExecuteNext, Run, Stop
from rota.core.task import Ending, Stored
from rota.errors import MiddlewareOrderError, TaskCancelled, TaskFailed
from rota.middleware.retry import RetryMiddleware
from rota.middleware.timeout import TimeoutMiddleware
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from tests.conftest import Database
from tests.middleware.parts import House, a_run
from tests.middleware.test_chain import a_storage


async def fails_and_gives_its_slot_back(scheduler: Scheduler, work: str, told: str) -> None:
    """The task fails with that reason, and the only slot there is takes another one."""
    handle = await scheduler.schedule(work)
    with pytest.raises(TaskFailed, match=told):
        await handle.result()
    assert await (await scheduler.schedule("after")).result() == "still here"
    assert (await scheduler.counts())["working"] == 0


@pytest.fixture
def after(works: WorkRegistry) -> None:
    @works.register("after")
    async def after() -> str:
        return "still here"


GARBAGE = [None, "done", 7, Done, ValueError("a value")]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.usefixtures("after")
async def test_a_middleware_that_returns_no_outcome(works: WorkRegistry, garbage: object) -> None:
    @works.register("fine")
    async def fine() -> str:
        return "well"

    async def careless(run: Run, call_next: ExecuteNext) -> Any:
        outcome = await call_next(run)
        return garbage if run.work == "fine" else outcome

    async with House(works, careless, concurrency=1) as scheduler:
        await fails_and_gives_its_slot_back(scheduler, "fine", "which is no outcome")


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_middleware_in_the_thread_that_returns_no_outcome(
    works: WorkRegistry, garbage: object
) -> None:
    @works.register("fine")
    def fine() -> str:
        return "well"

    @works.register("after")
    def after() -> str:
        return "still here"

    def careless(run: Run, call_next: Callable[[Run], Outcome]) -> Any:
        outcome = call_next(run)
        return garbage if run.work == "fine" else outcome

    async with House(works, careless, concurrency=1) as scheduler:
        await fails_and_gives_its_slot_back(scheduler, "fine", "which is no outcome")


@pytest.mark.parametrize("error", [ValueError("in mw"), SystemExit("in mw"), Fail("in mw")])
@pytest.mark.usefixtures("after")
async def test_a_middleware_that_raises(works: WorkRegistry, error: BaseException) -> None:
    @works.register("fine", max_attempts=2, backoff=lambda _: 0)
    async def fine() -> str:
        return "well"

    runs: list[int] = []

    async def broken(run: Run, call_next: ExecuteNext) -> Outcome:
        outcome = await call_next(run)
        if run.work == "fine":
            runs.append(run.claimed.attempt)
            raise error
        return outcome

    async with House(works, broken, concurrency=1) as scheduler:
        await fails_and_gives_its_slot_back(scheduler, "fine", "in mw")
    assert runs == [1, 2]


class BrokenRetry(RetryMiddleware):
    """In the place of the built-in one, and not up to it."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self._answer = answer

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Any:
        outcome = await call_next(run)
        if run.work != "fine":
            return outcome
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


class NoLimit(TimeoutMiddleware):
    """Stands where the built-in one would, so that the list is in order."""

    def __init__(self) -> None: ...

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        return await call_next(run)


@pytest.mark.parametrize("answer", [None, ValueError("broken retry"), SystemExit("broken retry")])
@pytest.mark.usefixtures("after")
async def test_even_a_retry_of_your_own_that_breaks(works: WorkRegistry, answer: object) -> None:
    @works.register("fine")
    async def fine() -> str:
        return "well"

    house = House(works, NoLimit(), BrokenRetry(answer), concurrency=1)
    async with house as scheduler:
        await fails_and_gives_its_slot_back(scheduler, "fine", "broken retry" if answer else "None")


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Retry(after=-1), "after is -1"),
        (Retry(after=float("nan")), "after is nan"),
        (Retry(after="soon"), "after must be seconds"),  # type: ignore[arg-type]
        (Release(after=-1), "after is -1"),
        (Release(after=None), "after must be seconds"),  # type: ignore[arg-type]
        (Again(after=-1), "after is -1"),
        (Again(params={"n": object()}), "params cannot be written as JSON"),
        (Again(params={"n": "\x00"}), "NUL"),
        (Done({"n": float("nan")}), "result"),
        (Fail(reason=7), "7"),  # type: ignore[arg-type]
        (Fail(reason="no\x00\ud800"), r"no\\0\\ud800"),
        (Fail(reason="long " * 10_000), "long long"),
        (Fail("told", error="not JSON"), "told"),
        (Fail("told", error=ValueError("an exception")), "told"),  # type: ignore[arg-type]
        (Fail("told", error="[1]"), "told"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, str) else "",
)
@pytest.mark.parametrize("way", ["raised", "returned"])
@pytest.mark.usefixtures("after")
async def test_an_outcome_with_impossible_fields(
    works: WorkRegistry, outcome: Outcome, told: str, way: str
) -> None:
    @works.register("odd", max_attempts=5)
    async def odd() -> Any:
        if way == "raised" and isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with House(works, concurrency=1) as scheduler:
        await fails_and_gives_its_slot_back(scheduler, "odd", told)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


async def test_every_reason_and_error_can_be_stored_and_read(
    works: WorkRegistry, make_database: Callable[[str, Clock], Database]
) -> None:
    bad = "NUL \x00, half a character \ud800"
    outcomes: dict[str, BaseException] = {
        "fail": Fail(bad, error=bad),
        "cancel": Cancel(bad, error=json.dumps({"message": bad})),
        "retry": Retry(after=0, reason=bad),
        "raise": ValueError(bad),
        "unreadable": Unreadable(),
        "object": Fail(Unreadable(), error=Unreadable()),  # type: ignore[arg-type]
    }

    @works.register("odd", max_attempts=2)
    async def odd(name: str) -> None:
        raise outcomes[name]

    async with make_database("sqlite", SystemClock()).scheduler(works) as scheduler:
        for name in outcomes:
            handle = await scheduler.schedule(odd.bind(name))
            with pytest.raises((TaskFailed, TaskCancelled)):
                await handle.result(timeout=20)
            for attempt in await handle.history():
                assert attempt.reason
                assert "\x00" not in attempt.reason
                attempt.reason.encode()
        assert sum((await scheduler.counts()).values()) == 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"options": "{"}, "JSONDecodeError"),
        ({"options": '{"backoff":{"first_seconds":-1}}'}, "Error"),
        ({"params": "{"}, "JSONDecodeError"),
        ({"params": '{"other":1}'}, "params do not fit"),
        ({"params": "[]"}, "Error|params"),
    ],
)
@pytest.mark.usefixtures("after")
async def test_a_row_that_cannot_be_read(
    works: WorkRegistry, fields: dict[str, str], told: str
) -> None:
    """Written by a newer node, or by hand."""

    @works.register("demo", max_attempts=1)
    async def demo(n: int) -> None:
        raise AssertionError("ran")

    ended = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            ended.set()

    house = House(works, concurrency=1, on_event=hear)
    task = a_task(**{"params": '{"n":1}', "options": "{}", **fields})
    house.repository.insert([task])
    async with house as scheduler:
        await ended.wait()
        row = house.repository._book.rows[task.id]
        assert row.state is Stored.FAILED
        assert re.search(told, row.reason or "")
        assert await (await scheduler.schedule("after")).result() == "still here"


async def test_an_outcome_that_comes_after_others_spoke_for_the_run_is_not_written(
    fake_clock: FakeClock,
) -> None:
    storage = a_storage(fake_clock)
    run = a_run(clock=fake_clock)

    async def settled_meanwhile(run: Run) -> Outcome:
        run.settled = True  # as a shutdown does, when it has given the task back
        return Done("too late")

    assert await storage.on_execute(run, settled_meanwhile) == Done("too late")
    assert storage._finisher.unwritten == 0

    async def in_time(run: Run) -> Outcome:
        return Done("in time")

    fresh = a_run(clock=fake_clock)
    await storage.on_execute(fresh, in_time)
    await storage.on_execute(fresh, in_time)
    assert storage._finisher.unwritten == 1


async def test_a_run_whose_outcome_is_settled_is_not_cancelled_any_more() -> None:
    run, go = a_run(), asyncio.Event()
    run.target = asyncio.ensure_future(go.wait())
    run.settled = True
    run.stop(Stop.CANCELLED, "too late")
    go.set()
    assert await run.target
    assert run.stopped is None
    assert not run.context.cancelled


async def test_every_outcome_becomes_its_ending(fake_clock: FakeClock) -> None:
    storage = a_storage(fake_clock)
    run = a_run(clock=fake_clock)
    fake_clock.advance(3)
    for outcome, ending, delay in (
        (Done(1), Ending.DONE, 0.0),
        (Retry(after=2), Ending.RETRY, 2.0),
        (Retry(), Ending.RETRY, 0.0),
        (Fail(), Ending.FAILED, 0.0),
        (Cancel(), Ending.CANCELLED, 0.0),
        (Again(after=4), Ending.AGAIN, 4.0),
        (Release(after=5), Ending.RELEASE, 5.0),
    ):
        finish = storage.ending(run, outcome)
        assert (finish.ending, finish.delay, finish.ago) == (ending, delay, 3.0)
        assert (finish.id, finish.batch, finish.attempt) == (run.id, 1, 1)
    assert storage.ending(run, Fail()).reason == "failed"
    assert storage.ending(run, Cancel(recurring=True)).end_recurring


async def test_a_blocking_layer_is_never_left_out_quietly(works: WorkRegistry) -> None:
    def layer(run: Run, call_next: Callable[[Run], Outcome]) -> Outcome:
        return call_next(run)

    @works.register("coroutine")
    async def coroutine() -> None: ...

    with pytest.raises(MiddlewareOrderError, match="make it async"):
        await House(works, layer).scheduler.start()
