"""The schedule side: rejecting, changing, the caller's context, many requests at once."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from rota import Every, WorkRegistry
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.task import Inserted
from rota.errors import DataRefused, Rejected
from rota.middleware.chain import Middleware
from tests.middleware.parts import House, turns

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture
def echo(works: WorkRegistry) -> Any:
    @works.register("echo")
    async def echo(n: int) -> int:
        return n

    return echo


async def refuse_odd(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
    if request.params["n"] % 2:
        raise Rejected(f"{request.params['n']} is odd; even it out")
    return await call_next(request)


async def test_what_is_rejected_is_not_stored(works: WorkRegistry, echo: Any) -> None:
    house = House(works, refuse_odd)
    async with house as scheduler:
        with pytest.raises(Rejected, match="1 is odd") as caught:
            await scheduler.schedule(echo.bind(1))
        assert caught.value.reason == "1 is odd; even it out"
        with pytest.raises(Rejected, match="7 is odd"):
            await scheduler.schedule_many([echo.bind(n) for n in (2, 4, 7, 8)])
        with pytest.raises(Rejected):
            await asyncio.to_thread(scheduler.blocking.schedule, echo.bind(3))
        with pytest.raises(Rejected):
            await asyncio.to_thread(scheduler.blocking.schedule_many, [echo.bind(3)])
        assert (house.stored, house.repository.inserts) == (0, [])
        assert await (await scheduler.schedule(echo.bind(2))).result() == 2


async def test_a_rejected_tick_leaves_its_decision_and_no_child(
    works: WorkRegistry, echo: Any
) -> None:
    rejected, stored = asyncio.Event(), asyncio.Event()

    async def refuse_first(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        assert request.recurring == "tick"
        if not rejected.is_set():
            rejected.set()
            raise Rejected("not this time; wait for the next")
        if stored.is_set():
            await asyncio.Event().wait()  # two ticks are enough
        answer = await call_next(request)
        stored.set()
        return answer

    house = House(works, refuse_first)
    async with house as scheduler:
        await scheduler.add_recurring("tick", "echo", Every(60), params={"n": 1})
        for event in (rejected, stored):
            while not event.is_set():
                house.clock.advance(5)  # type: ignore[attr-defined]
                await turns(3)
        decisions = await scheduler.recurring("tick").decisions()
        # The clock may have run ahead of the node between the two.
        told = [item for item in decisions if item.decision != "missed"]
        assert [item.decision for item in told] == ["fired", "rejected"]
        assert told[1].task is None
        assert house.stored == 1


async def test_what_a_middleware_made_of_a_request_is_what_is_stored(
    works: WorkRegistry, echo: Any
) -> None:
    when = datetime(2040, 1, 1, tzinfo=UTC)

    class Stamp(Middleware):
        async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
            return await call_next(
                request.replace(
                    params={"n": request.params["n"] * 10},
                    meta={"by": "stamp"},
                    queue="stamped",
                    priority=7,
                    at=when,
                    options=type(request.options)(max_attempts=4),
                )
            )

    async with House(works, Stamp()) as scheduler:
        one = await scheduler.schedule(echo.bind(1))
        (two,) = await scheduler.schedule_many([echo.bind(2)])
        for handle, n in ((one, 10), (two, 20)):
            info = await handle.info()
            assert info.params == {"n": n}
            assert (info.meta, info.queue, info.priority) == ({"by": "stamp"}, "stamped", 7)
            assert (info.due_at, info.max_attempts) == (when, 4)


@pytest.mark.parametrize("many", [False, True])
async def test_it_runs_in_a_copy_of_the_callers_context(
    works: WorkRegistry, echo: Any, many: bool
) -> None:
    seen: list[str] = []

    async def look(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        seen.append(VARIABLE.get())
        return await call_next(request)

    async with House(works, look) as scheduler:

        async def by_task(name: str) -> None:
            VARIABLE.set(name)
            if many:
                await scheduler.schedule_many([echo.bind(1)], delay=60)
            else:
                await scheduler.schedule(echo.bind(1), delay=60)

        def by_thread(name: str) -> None:
            VARIABLE.set(name)
            if many:
                scheduler.blocking.schedule_many([echo.bind(1)], delay=60)
            else:
                scheduler.blocking.schedule(echo.bind(1), delay=60)

        await asyncio.gather(by_task("task 1"), by_task("task 2"))
        await asyncio.to_thread(by_thread, "thread")
    assert seen == ["task 1", "task 2", "thread"]
    assert VARIABLE.get() == "unset"


class Asking(Middleware):
    """Asks somebody over a socket about every request, as an authorisation service would be."""

    def __init__(self) -> None:
        self.here, there = socket.socketpair()
        self.here.setblocking(False)
        self.thread = threading.Thread(target=self._answer, args=(there,), daemon=True)
        self.thread.start()

    @staticmethod
    def _answer(there: socket.socket) -> None:
        with there:
            while asked := there.recv(1):
                there.sendall(b"n" if asked == b"!" else b"y")

    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.here, b"!" if request.params["n"] < 0 else b"?")
        if await loop.sock_recv(self.here, 1) == b"n":
            raise Rejected("they said no; ask them")
        answer = await call_next(request)
        await asyncio.wait_for(asyncio.sleep(0), 10)
        return answer


async def test_many_requests_may_each_wait_for_something(works: WorkRegistry, echo: Any) -> None:
    asking = Asking()
    house = House(works, asking, refuse_odd)
    async with house as scheduler:
        handles = await scheduler.schedule_many([echo.bind(2 * n) for n in range(50)])
        assert await handles[-1].result() == 98
        assert [len(tasks) for tasks, _ in house.repository.inserts] == [50]
        with pytest.raises(Rejected, match="they said no"):
            await scheduler.schedule_many([echo.bind(n) for n in (2, 4, -2, 6)])
        assert len(house.repository.inserts) == 1
    asking.here.close()
    await asyncio.to_thread(asking.thread.join)


async def test_twenty_thousand_requests_make_no_task_each(works: WorkRegistry, echo: Any) -> None:
    most, passed = 0, 0

    async def count(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        nonlocal most, passed
        passed += 1
        if passed % 1000 == 0:
            await asyncio.sleep(0)
            most = max(most, len(asyncio.all_tasks()))
        return await call_next(request)

    house = House(works, count)
    async with house as scheduler:
        before = len(asyncio.all_tasks())
        bound = echo.bind(1)
        await scheduler.schedule_many([bound] * 20_000, delay=3600)
        assert passed == 20_000
        assert house.stored == 20_000
        assert len(house.repository.inserts) == 1
    assert most <= before


async def test_cancelled_or_refused_in_the_middle_each_chain_is_unwound(
    works: WorkRegistry, echo: Any
) -> None:
    inside, unwound = 0, 0
    third = asyncio.Event()

    async def count(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        nonlocal inside, unwound
        inside += 1
        try:
            if request.params["n"] == 3:
                third.set()
                await asyncio.Event().wait()
            return await call_next(request)
        finally:
            unwound += 1

    house = House(works, count)
    async with house as scheduler:
        call = asyncio.ensure_future(scheduler.schedule_many([echo.bind(n) for n in (1, 2, 3, 4)]))
        await third.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (inside, unwound) == (3, 3)
        house.repository.fail_before.append(DataRefused("no"))
        with pytest.raises(DataRefused):
            await scheduler.schedule_many([echo.bind(n) for n in (1, 2)])
        assert (inside, unwound) == (5, 5)
        assert house.stored == 0


async def test_a_middleware_that_does_not_end_cleanly_hides_no_error(
    works: WorkRegistry, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def clumsy(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        try:
            return await call_next(request)
        finally:
            await asyncio.sleep(0)

    async with House(works, clumsy, refuse_odd) as scheduler:
        with pytest.raises(Rejected, match="3 is odd"):
            await scheduler.schedule_many([echo.bind(n) for n in (2, 3)])
    assert "did not end cleanly" in caplog.text


async def test_a_forgotten_return_is_named(works: WorkRegistry, echo: Any) -> None:
    async def forgets(request: ScheduleRequest, call_next: ScheduleNext) -> None:
        await call_next(request)

    async def keeps(request: ScheduleRequest, call_next: ScheduleNext) -> None:
        return None

    async with House(works, forgets) as scheduler:
        with pytest.raises(TypeError, match=r"returned None.*forgets"):
            await scheduler.schedule(echo.bind(1))
        with pytest.raises(TypeError, match=r"returned None.*forgets"):
            await scheduler.schedule_many([echo.bind(1)])
    house = House(works, keeps)
    async with house as scheduler:
        with pytest.raises(TypeError, match=r"returned None.*keeps"):
            await scheduler.schedule(echo.bind(1))
        with pytest.raises(TypeError, match=r"returned None.*keeps"):
            await scheduler.schedule_many([echo.bind(1)])
        assert house.stored == 0


async def test_a_middleware_sees_what_the_store_says(works: WorkRegistry, echo: Any) -> None:
    seen: list[Exception] = []

    async def watch(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        try:
            return await call_next(request)
        except Exception as error:
            seen.append(error)
            raise

    house = House(works, watch)
    async with house as scheduler:
        house.repository.fail_before.append(DataRefused("a"))
        with pytest.raises(DataRefused):
            await scheduler.schedule(echo.bind(1))
        assert [type(error) for error in seen] == [DataRefused]
