"""The in-process engine: timer, dispatcher and runners; knows nothing of storage."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import FunctionType
from typing import Any, Self

from rota.core.clock import Clock, Seconds, SystemClock, instant, seconds
from rota.errors import InvalidArgument, SchedulerNotRunning
from rota.scheduler.dispatcher import GIVE_WAY_EVERY, Dispatcher, Entry
from rota.scheduler.processes import ProcessRunner
from rota.scheduler.threads import ThreadRunner
from rota.scheduler.timer import Timer


class ScheduledCall(Entry):
    """One call the engine holds; ends in a result, an error, or cancelled."""

    __slots__ = (
        "_args",
        "_dispatcher",
        "_fn",
        "_threads",
        "_waiters",
        "cancelled",
        "done",
        "error",
        "result",
    )

    def __init__(  # noqa: PLR0917 - one for each call: see `Engine._hold`
        self,
        due: float,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        priority: int,
        dispatcher: Dispatcher,
        threads: ThreadRunner | None,
    ) -> None:
        Entry.__init__(self, due, priority)
        self._dispatcher = dispatcher
        self._threads = threads
        self._fn = fn
        self._args = args
        self._waiters: list[asyncio.Future[None]] | None = None
        self.done: bool = False
        self.cancelled: bool = False
        self.result: Any = None
        self.error: BaseException | None = None

    def cancel(self) -> bool:
        """Stop it: before its time it never runs, afterwards its coroutine is cancelled.

        A thread cannot be cancelled: its result is dropped, and it keeps the slot until
        it ends. False if the call had ended already.
        """
        if self.done:
            return False
        if self._dispatcher.withdraw(self):
            self.dropped()
        else:
            self._dispatcher.cancel(self)
        return True

    def dropped(self) -> None:
        self.cancelled = True
        self._end()

    async def wait(self) -> Any:
        """Its result; raises what it raised, or ``asyncio.CancelledError`` if cancelled."""
        if not self.done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters = [*(self._waiters or ()), waiter]
            await waiter
        if self.cancelled:
            raise asyncio.CancelledError
        if self.error is not None:
            raise self.error
        return self.result

    async def run(self) -> None:
        try:
            if _is_async(self._fn):
                self.result = await self._fn(*self._args)
            else:
                self.result = await self._call_in_thread()
        except asyncio.CancelledError:
            self.cancelled = True
        except BaseException as error:  # noqa: BLE001 - recorded, raised again by wait()
            self.error = error
        finally:
            self._end()

    async def _call_in_thread(self) -> Any:
        assert self._threads is not None  # noqa: S101 - the engine runs, so it has them
        call = self._threads.submit(partial(self._fn, *self._args))
        try:
            ended = await call.wait()
        except asyncio.CancelledError:
            self.lingering: asyncio.Future[object] | None = call.goes_on()
            raise
        if ended.error is not None:
            raise ended.error
        return ended.value

    def _end(self) -> None:
        self.done = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class Engine:
    """Calls functions at their time, at most ``concurrency`` at once; nothing is stored.

    Coroutine functions run on the event loop, plain ones in daemon threads.

    >>> async def main():
    ...     async with Engine(concurrency=10) as engine:
    ...         return await engine.call_later(0.01, max, 3, 7).wait()
    >>> asyncio.run(main())
    7
    """

    def __init__(
        self,
        *,
        concurrency: int = 50,
        limits: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        may_start: Callable[[], bool] = lambda: True,
        on_free: Callable[[], object] = lambda: None,
        give_way_every: int = GIVE_WAY_EVERY,
    ) -> None:
        self._concurrency = check_concurrency(concurrency)
        self._limits = limits
        self._clock: Clock = clock or SystemClock()
        self._may_start = may_start
        self._on_free = on_free
        self._give_way_every = give_way_every
        self._timer: Timer | None = None
        self._dispatcher: Dispatcher | None = None
        self._threads: ThreadRunner | None = None
        self._processes: ProcessRunner | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def timer(self) -> Timer:
        if self._timer is None:
            raise SchedulerNotRunning("the engine is not running; call start() first")
        return self._timer

    @property
    def dispatcher(self) -> Dispatcher:
        if self._dispatcher is None:
            raise SchedulerNotRunning("the engine is not running; call start() first")
        return self._dispatcher

    @property
    def threads(self) -> ThreadRunner:
        if self._threads is None:
            raise SchedulerNotRunning("the engine is not running; call start() first")
        return self._threads

    @property
    def processes(self) -> ProcessRunner:
        if self._processes is None:
            raise SchedulerNotRunning("the engine is not running; call start() first")
        return self._processes

    @property
    def concurrency(self) -> int:
        """How many runs may be on at once; may be set at any time, on the loop's thread."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = check_concurrency(value)
        if self._dispatcher is not None:
            self._dispatcher.concurrency = value
            self._dispatcher.wake()

    def start(self) -> None:
        """Begin, on the running event loop; a second time it does nothing."""
        if self._dispatcher is not None:
            return
        loop = asyncio.get_running_loop()
        self._timer = Timer(loop=loop, clock=self._clock)
        self._threads = ThreadRunner(loop=loop)
        self._processes = ProcessRunner(loop=loop, clock=self._clock)
        self._dispatcher = Dispatcher(
            loop=loop,
            clock=self._clock,
            timer=self._timer,
            concurrency=self._concurrency,
            limits=self._limits,
            may_start=self._may_start,
            on_free=self._on_free,
            give_way_every=self._give_way_every,
        )

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Start nothing more, let what runs end (at most ``timeout``), then cancel it.

        What had not started is cancelled.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        if self._dispatcher is None or self._timer is None or self._threads is None:
            return
        dispatcher, self._dispatcher = self._dispatcher, None
        self._timer.close()
        dispatcher.concurrency = 0
        for entry in dispatcher.holding():
            if dispatcher.withdraw(entry):
                entry.dropped()
        try:
            if not await self._ended_within(dispatcher, limit):
                for entry in dispatcher.live():
                    dispatcher.cancel(entry)
        finally:
            self._threads.close()
            if self._processes is not None:
                await self._processes.close()

    async def _ended_within(self, dispatcher: Dispatcher, limit: float | None) -> bool:
        idle = asyncio.ensure_future(dispatcher.idle())
        alarm = None
        if limit is not None:
            loop = asyncio.get_running_loop()
            alarm = self._clock.call_at(loop, self._clock.monotonic() + limit, idle.cancel)
        try:
            await asyncio.wait([idle])
        finally:
            if alarm is not None:
                alarm.cancel()
            idle.cancel()
        return not idle.cancelled()

    def call_at(
        self, when: datetime, fn: Callable[..., Any], *args: Any, priority: int = 0
    ) -> ScheduledCall:
        """Call ``fn(*args)`` at this instant (aware); the past means now."""
        wait = (instant(when, "when") - self._clock.now()).total_seconds()
        # `max` would take a tenth of the whole.
        return self._hold(wait if wait > 0.0 else 0.0, fn, args, priority)  # noqa: FURB136

    def call_later(
        self, delay: Seconds, fn: Callable[..., Any], *args: Any, priority: int = 0
    ) -> ScheduledCall:
        """Call ``fn(*args)`` after so many seconds."""
        return self._hold(seconds(delay, "delay"), fn, args, priority)

    def _hold(
        self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], priority: int
    ) -> ScheduledCall:
        dispatcher = self._dispatcher or self.dispatcher
        now = self._clock.monotonic()
        # In the order of its arguments: to name them, where a class is called, costs a dictionary.
        call = ScheduledCall(now + delay, fn, args, priority, dispatcher, self._threads)
        dispatcher.add_one(call, now)
        return call


def _is_async(fn: Callable[..., Any]) -> bool:
    """As ``inspect`` says, which takes its time for what most often is an ``async def``."""
    plain = type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE
    return bool(plain) or inspect.iscoroutinefunction(fn)


def check_concurrency(value: object) -> int:
    """A concurrency: a whole number of 1 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise InvalidArgument(
        f"concurrency is {value!r}; it must be a whole number of 1 or more", field="concurrency"
    )
