"""The chain's two directions, its order, and what is refused at start."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rota import BlockingContext, WorkRegistry
from rota.core.duty import Offload
from rota.core.holdings import Holdings
from rota.core.outcome import Cancel, Done, Fail, Outcome
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.run import ExecuteNext, Run
from rota.core.task import Inserted
from rota.errors import InvalidArgument, MiddlewareOrderError, TaskCancelled, TaskFailed
from rota.middleware.chain import (
    Middleware,
    as_middleware,
    blocking_layers,
    check_order,
    compose_execute,
    compose_schedule,
)
from rota.middleware.expiry import ExpiryMiddleware
from rota.middleware.finisher import Finisher
from rota.middleware.inserter import Inserter
from rota.middleware.retry import RetryMiddleware
from rota.middleware.storage import StorageMiddleware
from rota.middleware.timeout import TimeoutMiddleware
from rota.storage.memory import MemoryRepository
from rota.testing.clock import FakeClock
from tests.middleware.parts import House


class Noting(Middleware):
    """Writes down when each hook begins and ends."""

    def __init__(self, name: str, book: list[str]) -> None:
        self.name, self.book = name, book

    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        self.book.append(f"{self.name} down")
        answer = await call_next(request)
        self.book.append(f"{self.name} stored")
        return answer

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        self.book.append(f"{self.name} up")
        outcome = await call_next(run)
        self.book.append(f"{self.name} ended")
        return outcome


@pytest.mark.parametrize("many", [False, True])
async def test_a_request_travels_down_the_list_and_a_run_travels_up(
    works: WorkRegistry, many: bool
) -> None:
    book: list[str] = []

    @works.register("note")
    async def note() -> None:
        book.append("work")

    async def request_only(request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        book.append("2 down")
        try:
            return await call_next(request)
        finally:
            book.append("2 stored")

    async def run_only(run: Run, call_next: ExecuteNext) -> Outcome:
        book.append("3 up")
        try:
            return await call_next(run)
        finally:
            book.append("3 ended")

    house = House(works, Noting("1", book), request_only, run_only, Noting("4", book))
    async with house as scheduler:
        if many:
            (handle,) = await scheduler.schedule_many([note.bind()], delay=60)
        else:
            handle = await scheduler.schedule(note.bind(), delay=60)
        assert book == ["1 down", "2 down", "4 down", "4 stored", "2 stored", "1 stored"]
        book.clear()
        await scheduler.run_now(handle.id)
        await handle.result()
    assert book == ["4 up", "3 up", "1 up", "work", "1 ended", "3 ended", "4 ended"]


async def test_built_in_ones_stand_between_yours_and_the_clock(works: WorkRegistry) -> None:
    house = House(works, Noting("own", []))
    async with house as scheduler:
        assert scheduler._house is not None
        kinds = [type(item) for item in scheduler._house.chain]
    assert kinds == [
        Noting,
        TimeoutMiddleware,
        RetryMiddleware,
        ExpiryMiddleware,
        StorageMiddleware,
    ]


def a_storage(clock: FakeClock) -> StorageMiddleware:
    repository, offload = MemoryRepository(clock=clock), Offload(name="rota-unused")
    return StorageMiddleware(
        repository=repository,
        inserter=Inserter(store=repository, clock=clock, offload=offload),
        finisher=Finisher(
            store=repository, clock=clock, holdings=Holdings(), on_written=lambda *_: None
        ),
        offload=offload,
        clock=clock,
    )


class NoAlarms:
    def at(self, when: float, callback: Callable[[], object], /) -> Any:
        raise AssertionError("never armed")


async def test_an_order_that_would_break_a_promise_is_refused(fake_clock: FakeClock) -> None:
    own = Noting("own", [])
    timeout = TimeoutMiddleware(alarms=NoAlarms(), clock=fake_clock)
    retry, expiry = RetryMiddleware(), ExpiryMiddleware(clock=fake_clock)
    storage = a_storage(fake_clock)
    check_order([own, own, timeout, retry, expiry, storage])
    check_order([own, retry, storage])
    check_order([])
    for chain in (
        [storage, own],
        [own, storage, timeout],
        [timeout, own, retry],
        [retry, timeout],
        [expiry, retry],
        [expiry, timeout, retry, storage],
        [storage, expiry],
    ):
        with pytest.raises(MiddlewareOrderError, match="timeout, retry, expiry, storage"):
            check_order(chain)
    for chain in ([retry, RetryMiddleware()], [storage, storage], [own, timeout, timeout]):
        with pytest.raises(MiddlewareOrderError, match="twice"):
            check_order(chain)


async def test_the_scheduler_refuses_a_wrong_chain_at_start(
    works: WorkRegistry, fake_clock: FakeClock
) -> None:
    own = Noting("own", [])
    for chain in (
        [a_storage(fake_clock)],
        [RetryMiddleware(), RetryMiddleware()],
        [RetryMiddleware(), own],
    ):
        with pytest.raises(MiddlewareOrderError):
            await House(works, *chain).scheduler.start()


async def test_what_is_no_middleware_is_refused_by_name(works: WorkRegistry) -> None:
    def wrong(task: object, call_next: object) -> None: ...

    for item, told in (
        (Noting, r"Noting is a class; list an instance, Noting\(\)"),
        (wrong, r"wrong must take \(request, call_next\).*not \(task"),
        (lambda: None, "must take"),
        (7, "neither"),
        ("name", "neither"),
        (dict.fromkeys, "must take"),
    ):
        with pytest.raises(InvalidArgument, match=told) as caught:
            await House(works, item).scheduler.start()
        assert caught.value.field == "middleware"


def test_a_function_without_a_signature_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="does not show its parameters"):
        as_middleware(iter)


async def test_functions_of_every_make_are_taken(works: WorkRegistry) -> None:
    book: list[str] = []

    class Called:
        async def __call__(self, run: Run, call_next: ExecuteNext) -> Outcome:
            book.append("object")
            return await call_next(run)

        async def method(self, run: Run, call_next: ExecuteNext) -> Outcome:
            book.append("method")
            return await call_next(run)

    async def configured(run: Run, call_next: ExecuteNext, *, name: str) -> Outcome:
        book.append(name)
        return await call_next(run)

    @works.register("quiet")
    async def quiet() -> None: ...

    partial = functools.partial(configured, name="partial")
    async with House(works, Called(), Called().method, partial) as scheduler:
        await (await scheduler.schedule(quiet.bind())).result()
    assert book == ["partial", "method", "object"]


class Session(Middleware):
    """Not async: runs in the worker's thread."""

    def __init__(self, name: str, book: list[tuple[str, str]]) -> None:
        self.name, self.book = name, book

    def on_execute(self, run: Run, call_next: Callable[[Run], Outcome]) -> Outcome:  # type: ignore[override]
        self.book.append((f"{self.name} opened", threading.current_thread().name))
        try:
            return call_next(run)
        finally:
            self.book.append((f"{self.name} closed", threading.current_thread().name))


async def test_what_is_not_async_runs_in_the_workers_thread_around_the_function(
    works: WorkRegistry,
) -> None:
    book: list[tuple[str, str]] = []

    @works.register("plain")
    def plain(ctx: BlockingContext, fail: bool) -> str:
        book.append(("work", threading.current_thread().name))
        if fail:
            raise Cancel("not today")
        return "well"

    house = House(works, Session("outer", book), Session("inner", book), Noting("own", []))
    async with house as scheduler:
        assert await (await scheduler.schedule(plain.bind(fail=False))).result() == "well"
        first, book[:] = list(book), []
        with pytest.raises(TaskCancelled, match="not today"):
            await (await scheduler.schedule(plain.bind(fail=True))).result()
    for told in (first, book):
        assert [what for what, _ in told] == [
            "inner opened",
            "outer opened",
            "work",
            "outer closed",
            "inner closed",
        ]
        (thread,) = {name for _, name in told}
        assert thread.startswith("rota-work")


async def test_what_is_not_async_is_refused_where_a_coroutine_is_registered(
    works: WorkRegistry,
) -> None:
    @works.register("plain")
    def plain() -> None: ...

    house = House(works, Session("a", []))
    async with house as scheduler:

        @works.register("coroutine", max_attempts=9)
        async def coroutine() -> None:
            raise AssertionError("ran without its session")

        with pytest.raises(TaskFailed, match=r"coroutine.*make that middleware async"):
            await (await scheduler.schedule(coroutine.bind(), max_attempts=1)).result()
    with pytest.raises(MiddlewareOrderError, match="coroutine"):
        await House(works, Session("a", [])).scheduler.start()


async def test_a_middleware_may_replace_the_outcome(works: WorkRegistry) -> None:
    @works.register("fine")
    async def fine() -> str:
        return "result"

    async def worse(run: Run, call_next: ExecuteNext) -> Outcome:
        outcome = await call_next(run)
        assert isinstance(outcome, Done)
        return Fail(f"not good enough: {outcome.result}")

    async with House(works, worse) as scheduler:
        with pytest.raises(TaskFailed, match="not good enough: result"):
            await (await scheduler.schedule(fine.bind())).result()


async def test_a_middleware_may_keep_the_work_from_running(works: WorkRegistry) -> None:
    @works.register("never")
    async def never() -> None:
        raise AssertionError("ran")

    async def closed(run: Run, call_next: ExecuteNext) -> Outcome:
        run.notes["seen"] = run.notes.get("seen", 0) + 1
        return Cancel(f"closed for {run.work}, {run.notes['seen']}")

    async with House(works, closed) as scheduler:
        with pytest.raises(TaskCancelled, match="closed for never, 1"):
            await (await scheduler.schedule(never.bind())).result()


async def test_hooks_that_were_not_overridden_cost_nothing() -> None:
    async def end(subject: Any) -> Any: ...

    assert compose_execute([Middleware()], end) is end
    assert compose_schedule([Middleware()], end) is end
    assert blocking_layers([Middleware(), Noting("a", [])]) == []
