"""Threads for plain functions: as many as there are calls at once, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from rota.scheduler.threads import Call, ThreadRunner

PATIENCE = 20.0


def a_runner(*, idle: float = PATIENCE) -> ThreadRunner:
    return ThreadRunner(loop=asyncio.get_running_loop(), name="test-work", idle=idle)


async def finish(*threads: threading.Thread) -> None:
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE)
        assert not thread.is_alive()


class Crowd:
    """Calls that all wait inside at the same time until they are let go."""

    def __init__(self, size: int) -> None:
        self._inside = threading.Barrier(size + 1)
        self._go = threading.Event()

    def __call__(self) -> threading.Thread:
        self._inside.wait(PATIENCE)
        assert self._go.wait(PATIENCE)
        return threading.current_thread()

    async def gather(self) -> None:
        await asyncio.to_thread(self._inside.wait, PATIENCE)

    def let_go(self) -> None:
        self._go.set()


async def test_as_many_threads_as_calls_at_once_and_they_are_used_again() -> None:
    runner, crowd = a_runner(), Crowd(5)
    calls = [runner.submit(crowd) for _ in range(5)]
    await crowd.gather()
    crowd.let_go()
    threads = {(await call.wait()).value for call in calls}
    assert len(threads) == 5
    assert all(thread.daemon for thread in threads)
    assert {thread.name for thread in threads} == {f"test-work-{n}" for n in range(1, 6)}

    again = {(await runner.submit(threading.current_thread).wait()).value for _ in range(20)}
    assert again <= threads
    runner.close()
    await finish(*threads)


async def test_an_idle_thread_ends_and_another_takes_over_later() -> None:
    runner = a_runner(idle=0.01)
    first = (await runner.submit(threading.current_thread).wait()).value
    await finish(first)
    second = (await runner.submit(threading.current_thread).wait()).value
    assert second is not first
    await finish(second)


async def test_threads_that_end_all_the_time_lose_no_call() -> None:
    runner = a_runner(idle=0.0001)
    async with asyncio.timeout(PATIENCE):
        for n in range(200):
            assert (await runner.submit(lambda n=n: n).wait()).value == n  # type: ignore[misc]


@pytest.mark.parametrize(
    "error", [ValueError("a"), SystemExit(1), KeyboardInterrupt(), StopIteration()]
)
async def test_an_exception_of_any_kind_is_a_value_and_the_thread_lives(
    error: BaseException,
) -> None:
    def boom() -> None:
        raise error

    runner = a_runner()
    before = (await runner.submit(threading.current_thread).wait()).value
    ended = await runner.submit(boom).wait()
    assert (ended.value, ended.error) == (None, error)
    assert (await runner.submit(threading.current_thread).wait()).value is before
    runner.close()
    await finish(before)


async def test_cancelling_who_waits_does_not_touch_the_call() -> None:
    runner, crowd = a_runner(), Crowd(1)
    call = runner.submit(crowd)
    waiter = asyncio.ensure_future(call.wait())
    await crowd.gather()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    rest = call.goes_on()
    crowd.let_go()
    assert (await call.wait()).value is not None
    assert await rest == await call.wait()
    runner.close()


async def test_results_that_come_together_wake_the_loop_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    woken: list[object] = []
    wake = loop.call_soon_threadsafe
    runner, crowd = a_runner(), Crowd(8)
    calls = [runner.submit(crowd) for _ in range(8)]
    await crowd.gather()
    runner.close()

    def counted(callback: Callable[..., object], *args: object) -> asyncio.Handle:
        woken.append(callback)
        return wake(callback, *args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("test-work")]
    assert len(threads) == 8
    crowd.let_go()
    for thread in threads:  # the loop stands still until all of them are back
        thread.join(PATIENCE)
    assert len(woken) == 1
    for call in calls:
        assert (await call.wait()).error is None


async def test_a_call_runs_in_a_copy_of_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    runner = a_runner()
    variable.set("caller")
    assert (await runner.submit(change).wait()).value == "caller"
    assert (await runner.submit(change).wait()).value == "caller"
    assert variable.get() == "caller"
    runner.close()


async def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Heavy:
        def __call__(self) -> None: ...

    runner, heavy = a_runner(), Heavy()
    ghost = weakref.ref(heavy)
    call: Call | None = runner.submit(heavy)
    assert call is not None
    await call.wait()
    # A second call has been through, so the thread has let go of the first.
    await runner.submit(threading.current_thread).wait()
    del heavy
    call = None
    gc.collect()
    assert ghost() is None
    runner.close()


async def test_closing_ends_idle_threads_now_and_busy_ones_after_their_call() -> None:
    runner, crowd = a_runner(), Crowd(1)
    busy = runner.submit(crowd)
    idle = runner.submit(threading.current_thread)
    await crowd.gather()
    idle_thread = (await idle.wait()).value
    runner.close()
    await finish(idle_thread)
    crowd.let_go()
    await finish((await busy.wait()).value)


async def test_a_call_after_closing_still_has_its_thread() -> None:
    runner = a_runner()
    first = (await runner.submit(threading.current_thread).wait()).value
    runner.close()
    async with asyncio.timeout(PATIENCE):
        second = (await runner.submit(threading.current_thread).wait()).value
    await finish(first, second)


async def test_a_call_that_got_no_thread_is_not_run_behind_its_callers_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    runner = a_runner()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            runner.submit(lambda: ran.append("no thread"))
    await runner.submit(lambda: ran.append("next")).wait()
    assert ran == ["next"]
    runner.close()


def test_a_loop_closed_underneath_lets_the_threads_end() -> None:
    inside, go = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def slow() -> None:
        threads.append(threading.current_thread())
        inside.set()
        assert go.wait(PATIENCE)

    loop = asyncio.new_event_loop()
    runner = ThreadRunner(loop=loop, idle=0.01)
    runner.submit(slow)
    assert inside.wait(PATIENCE)
    loop.close()
    go.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
