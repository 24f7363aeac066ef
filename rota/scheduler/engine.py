"""The in-process engine: timer, dispatcher and runners; knows nothing of storage."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

from rota.core.clock import Clock, Seconds, SystemClock, instant, seconds
from rota.errors import InvalidArgument, SchedulerNotRunning
from rota.scheduler.dispatcher import Dispatcher, Entry
from rota.scheduler.threads import ThreadRunner
from rota.scheduler.timer import Timer


class ScheduledCall(Entry):
    """One call the engine holds; ends in a result, an error, or cancelled."""

    __slots__ = ("_args", "_engine", "_fn", "_waiters", "cancelled", "done", "error", "result")

    def __init__(
        self,
        engine: Engine,
        due: float,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        priority: int,
    ) -> None:
        super().__init__(due, priority=priority)
        self._engine = engine
        self._fn = fn
        self._args = args
        self._waiters: list[asyncio.Future[None]] = []
        self.done = False
        self.cancelled = False
        self.result: Any = None
        self.error: BaseException | None = None

    def cancel(self) -> bool:
        """Stop it: before its time it never runs, afterwards its coroutine is cancelled.

        False if it had ended already.
        """
        if self.done:
            return False
        if self._engine.dispatcher.withdraw(self):
            self.cancelled = True
            self._end()
        elif self.task is not None:
            self.task.cancel()
        return True

    async def wait(self) -> Any:
        """Its result; raises what it raised, or ``asyncio.CancelledError`` if cancelled."""
        if not self.done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self.cancelled:
            raise asyncio.CancelledError
        if self.error is not None:
            raise self.error
        return self.result

    async def run(self) -> None:
        try:
            self.result = await self._engine.call(self._fn, self._args)
        except asyncio.CancelledError:
            self.cancelled = True
        except BaseException as error:  # noqa: BLE001 - recorded, raised again by wait()
            self.error = error
        finally:
            self._end()

    def _end(self) -> None:
        self.done = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


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
    ) -> None:
        self._concurrency = check_concurrency(concurrency)
        self._limits = limits
        self._clock: Clock = clock or SystemClock()
        self._may_start = may_start
        self._on_free = on_free
        self._timer: Timer | None = None
        self._dispatcher: Dispatcher | None = None
        self._threads: ThreadRunner | None = None

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
        """Begin, on the running event loop."""
        loop = asyncio.get_running_loop()
        self._timer = Timer(loop=loop, clock=self._clock)
        self._threads = ThreadRunner(loop=loop)
        self._dispatcher = Dispatcher(
            loop=loop,
            clock=self._clock,
            timer=self._timer,
            concurrency=self._concurrency,
            limits=self._limits,
            may_start=self._may_start,
            on_free=self._on_free,
        )

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Start nothing more, let what runs end (at most ``timeout``), then cancel it."""
        if self._dispatcher is None or self._timer is None or self._threads is None:
            return
        dispatcher, self._dispatcher = self._dispatcher, None
        self._timer.close()
        dispatcher.concurrency = 0
        try:
            async with asyncio.timeout(None if timeout is None else seconds(timeout, "timeout")):
                await dispatcher.idle()
        except TimeoutError:
            for entry in dispatcher.live():
                if entry.task is not None:
                    entry.task.cancel()
        self._threads.close()

    def call_at(
        self, when: datetime, fn: Callable[..., Any], *args: Any, priority: int = 0
    ) -> ScheduledCall:
        """Call ``fn(*args)`` at this instant (aware); the past means now."""
        wait = (instant(when, "when") - self._clock.now()).total_seconds()
        return self.call_later(max(0.0, wait), fn, *args, priority=priority)

    def call_later(
        self, delay: Seconds, fn: Callable[..., Any], *args: Any, priority: int = 0
    ) -> ScheduledCall:
        """Call ``fn(*args)`` after so many seconds."""
        due = self._clock.monotonic() + seconds(delay, "delay")
        call = ScheduledCall(self, due, fn, args, priority)
        self.dispatcher.add([call])
        return call

    async def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run the function with the runner of its kind."""
        if inspect.iscoroutinefunction(fn):
            return await fn(*args)
        ended = await self.threads.submit(lambda: fn(*args)).wait()
        if ended.error is not None:
            raise ended.error
        return ended.value


def check_concurrency(value: object) -> int:
    """A concurrency: a whole number of 1 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise InvalidArgument(
        f"concurrency is {value!r}; it must be a whole number of 1 or more", field="concurrency"
    )
