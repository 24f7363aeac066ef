"""Call the loop's verbs from threads, and what those verbs answer, for threads too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from rota.control.handle import TaskHandle
from rota.control.pulled import Pulled
from rota.control.tasks import CancelAnswer
from rota.core.caller import CALLER, CallingThread
from rota.core.clock import Seconds
from rota.core.task import Attempt, Report, Task, TaskState
from rota.errors import ForkedScheduler, SchedulerNotRunning, WrongThread

R = TypeVar("R")
T = TypeVar("T")


class LoopCaller:
    """Runs coroutines on one event loop for threads that wait for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._process = os.getpid()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, in a copy of this thread's context, and wait for it.

        Raises ``WrongThread`` on the loop's own thread, which would wait for itself for ever.
        """
        if os.getpid() != self._process:
            coroutine.close()
            raise ForkedScheduler
        if _running_loop() is self._loop:
            coroutine.close()
            raise WrongThread(
                "a blocking verb was called on the event loop's own thread, which would wait "
                "for itself; await the same verb of Scheduler instead"
            )
        if self._loop.is_closed():
            coroutine.close()
            raise SchedulerNotRunning("the scheduler's event loop is closed; start it again")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        caller = CallingThread()
        future.add_done_callback(lambda _: caller.release())
        context = contextvars.copy_context()
        context.run(CALLER.set, caller)
        self._loop.call_soon_threadsafe(_begin, self._loop, coroutine, context, future)
        try:
            caller.serve()
            return future.result()
        except BaseException:
            future.cancel()
            raise


class BlockingHandle(Generic[R]):
    """A scheduled task, for threads; see :class:`TaskHandle`."""

    __slots__ = ("_caller", "_handle")

    def __init__(self, handle: TaskHandle[R], caller: LoopCaller) -> None:
        self._handle = handle
        self._caller = caller

    def __repr__(self) -> str:
        return f"BlockingHandle({self.id!r}, created={self.created})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """The task's id."""
        return self._handle.id

    @property
    def created(self) -> bool:
        """False when an existing task was met."""
        return self._handle.created

    @property
    def state_met(self) -> str:
        """The state an existing task was met in."""
        return self._handle.state_met

    def info(self) -> Task:
        """The task as it stands now."""
        return self._caller.call(self._handle.info())

    def history(self) -> list[Attempt]:
        """Its attempts that have ended, oldest first."""
        return self._caller.call(self._handle.history())

    def wait(self, timeout: Seconds | None = None) -> Task:
        """The task once it has ended; ``ResultTimeout`` after so many seconds."""
        return self._caller.call(self._handle.wait(timeout))

    def result(self, timeout: Seconds | None = None) -> R:
        """What the work returned; see :meth:`TaskHandle.result`."""
        return self._caller.call(self._handle.result(timeout))

    def cancel(
        self, reason: str = "cancelled by the caller", *, children: bool = False
    ) -> CancelAnswer:
        """See :meth:`TaskHandle.cancel`."""
        return self._caller.call(self._handle.cancel(reason, children=children))

    def update(self, **changes: Any) -> Task:
        """See :meth:`TaskHandle.update`."""
        return self._caller.call(self._handle.update(**changes))

    def report(self) -> Report | None:
        """Its newest progress report, also after its end."""
        return self._caller.call(self._handle.report())

    def children(self, limit: int = 100, *, after: str | None = None) -> list[BlockingHandle[Any]]:
        """What it spawned, by id."""
        handles = self._caller.call(self._handle.children(limit, after=after))
        return [BlockingHandle(handle, self._caller) for handle in handles]

    def count_children(self) -> dict[TaskState, int]:
        """How many children it has in each state."""
        return self._caller.call(self._handle.count_children())


class BlockingPulled:
    """A task taken by ``claim``, for threads; see :class:`Pulled`."""

    __slots__ = ("_caller", "_pulled")

    def __init__(self, pulled: Pulled, caller: LoopCaller) -> None:
        self._pulled = pulled
        self._caller = caller

    def __repr__(self) -> str:
        return f"<BlockingPulled {self.work} {self.id} attempt {self.attempt}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._pulled.id

    @property
    def work(self) -> str:
        """Its work id; it need not be registered here."""
        return self._pulled.work

    @property
    def queue(self) -> str:
        """The queue it was taken from."""
        return self._pulled.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._pulled.attempt

    @property
    def params(self) -> dict[str, Any]:
        """The params, as JSON gives them."""
        return self._pulled.params

    @property
    def meta(self) -> dict[str, Any]:
        """The task's meta; empty if it has none."""
        return self._pulled.meta

    @property
    def cancelled(self) -> bool:
        """Whether it had been asked to stop at the last ``report`` or ``extend``."""
        return self._pulled.cancelled

    @property
    def cancel_reason(self) -> str | None:
        """Why it was asked to stop."""
        return self._pulled.cancel_reason

    def report(self, data: Any) -> bool:
        """As :meth:`Pulled.report`."""
        return self._caller.call(self._pulled.report(data))

    def extend(self) -> bool:
        """As :meth:`Pulled.extend`."""
        return self._caller.call(self._pulled.extend())

    def done(self, result: Any = None) -> None:
        """As :meth:`Pulled.done`."""
        self._caller.call(self._pulled.done(result))

    def fail(self, reason: str, *, retry: bool = True, after: Seconds | None = None) -> None:
        """As :meth:`Pulled.fail`."""
        self._caller.call(self._pulled.fail(reason, retry=retry, after=after))

    def release(self, after: Seconds = 0) -> None:
        """As :meth:`Pulled.release`."""
        self._caller.call(self._pulled.release(after))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _begin(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    context: contextvars.Context,
    future: concurrent.futures.Future[T],
) -> None:
    task = loop.create_task(coroutine, context=context)
    task.add_done_callback(lambda done: _settle(done, future))


def _settle(task: asyncio.Task[T], future: concurrent.futures.Future[T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if task.cancelled():
        future.set_exception(concurrent.futures.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
