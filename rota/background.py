"""The blocking face: for threads of the same service, and for services without a loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar, overload

from typing_extensions import Unpack

from rota.app.blocking import BlockingHandle, BlockingPulled
from rota.app.blocking_looking import BlockingLookingFace
from rota.app.blocking_recurring import BlockingRecurringFace
from rota.app.requests import TaskOptions, TaskSpec
from rota.app.scheduler import Scheduler
from rota.app.settings import SchedulerOptions
from rota.control.handle import TaskHandle
from rota.control.health import Health
from rota.control.tasks import CancelAnswer
from rota.core.clock import Seconds
from rota.core.ports import Repository
from rota.core.task import Attempt, Change, Task
from rota.errors import SchemaMismatch
from rota.registry import Bound, Work, WorkRegistry
from rota.storage.sync import RestoreReport

R = TypeVar("R")
T = TypeVar("T")


class Blocking(BlockingRecurringFace, BlockingLookingFace):
    """The verbs of a running ``Scheduler``, blocking; from any thread but the loop's own.

    The schedule side runs in a copy of the calling thread's context.
    """

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._scheduler = scheduler

    @overload
    def schedule(
        self, work: Bound[R], params: None = None, **options: Unpack[TaskOptions]
    ) -> BlockingHandle[R]: ...
    @overload
    def schedule(
        self,
        work: Work[..., R],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[TaskOptions],
    ) -> BlockingHandle[R]: ...
    @overload
    def schedule(
        self, work: str, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> BlockingHandle[Any]: ...
    def schedule(
        self, work: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> BlockingHandle[Any]:
        """As :meth:`Scheduler.schedule`."""
        return self._handle(self.call(self._scheduler.schedule(work, params, **options)))

    def schedule_many(
        self,
        tasks: Iterable[Bound[Any] | TaskSpec | tuple[Any, Mapping[str, Any]]],
        **options: Unpack[TaskOptions],
    ) -> list[BlockingHandle[Any]]:
        """As :meth:`Scheduler.schedule_many`."""
        handles = self.call(self._scheduler.schedule_many(tasks, **options))
        return [self._handle(handle) for handle in handles]

    @property
    def works(self) -> WorkRegistry:
        """As :attr:`Scheduler.works`."""
        return self._scheduler.works

    @property
    def running(self) -> bool:
        """As :attr:`Scheduler.running`."""
        return self._scheduler.running

    @property
    def concurrency(self) -> int:
        """As :attr:`Scheduler.concurrency`."""
        return self._scheduler.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._scheduler.concurrency = value

    @property
    def node(self) -> int:
        """As :attr:`Scheduler.node`."""
        return self._scheduler.node

    @property
    def unfit(self) -> SchemaMismatch | None:
        """As :attr:`Scheduler.unfit`."""
        return self._scheduler.unfit

    @property
    def restored(self) -> RestoreReport:
        """As :attr:`Scheduler.restored`."""
        return self._scheduler.restored

    def claim(
        self,
        queues: Sequence[str] | None = None,
        limit: int = 1,
        *,
        wait: Seconds = 0,
        lease: Seconds = 60,
    ) -> list[BlockingPulled]:
        """As :meth:`Scheduler.claim`."""
        pulled = self.call(self._scheduler.claim(queues, limit, wait=wait, lease=lease))
        return [BlockingPulled(item, self) for item in pulled]

    def changes(self, cursor: str | None = None, limit: int = 1000) -> tuple[list[Change], str]:
        """As :meth:`Scheduler.changes`."""
        return self.call(self._scheduler.changes(cursor, limit))

    def feed(self, *, on: bool) -> None:
        """As :meth:`Scheduler.feed`."""
        self.call(self._scheduler.feed(on=on))

    def handle(self, task_id: object) -> BlockingHandle[Any]:
        """As :meth:`Scheduler.handle`."""
        return self._handle(self._scheduler.handle(task_id))

    def info(self, task_id: object) -> Task:
        """As :meth:`Scheduler.info`."""
        return self.call(self._scheduler.info(task_id))

    def history(self, task_id: object) -> list[Attempt]:
        """As :meth:`Scheduler.history`."""
        return self.call(self._scheduler.history(task_id))

    def cancel(
        self,
        task_id: object = None,
        reason: str = "cancelled by the caller",
        *,
        unique: str | None = None,
        children: bool = False,
        tombstone: bool = False,
    ) -> CancelAnswer:
        """As :meth:`Scheduler.cancel`."""
        return self.call(
            self._scheduler.cancel(
                task_id, reason, unique=unique, children=children, tombstone=tombstone
            )
        )

    def schedule_soon(
        self, work: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> BlockingHandle[Any]:
        """As :meth:`Scheduler.schedule_soon`."""
        return self._handle(self.call(self._scheduler.schedule_soon(work, params, **options)))

    def flush(self) -> None:
        """As :meth:`Scheduler.flush`."""
        self.call(self._scheduler.flush())

    def health(self) -> Health:
        """As :meth:`Scheduler.health`."""
        return self.call(self._scheduler.health())

    def wake(self) -> None:
        """As :meth:`Scheduler.wake`."""
        self._loop.call_soon_threadsafe(self._scheduler.wake)

    def update(self, task_id: object, **changes: Any) -> Task:
        """As :meth:`Scheduler.update`."""
        return self.call(self._scheduler.update(task_id, **changes))

    def run_now(self, task_id: object) -> None:
        """As :meth:`Scheduler.run_now`."""
        self.call(self._scheduler.run_now(task_id))

    def restore(self, wait: Seconds = 3.0) -> RestoreReport:
        """As :meth:`Scheduler.restore`."""
        return self.call(self._scheduler.restore(wait))

    def _handle(self, handle: TaskHandle[Any]) -> BlockingHandle[Any]:
        return BlockingHandle(handle, self)


class BackgroundScheduler(Blocking):
    """A ``Scheduler`` with an event loop in a thread of its own, for services without one.

    Takes the same arguments. Coroutine works run on that loop, plain ones in threads.

    >>> works = WorkRegistry()
    >>> @works.register("double")
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> with BackgroundScheduler(works) as scheduler:
    ...     scheduler.schedule(double.bind(21)).result(timeout=10)
    42
    """

    def __init__(
        self,
        works: WorkRegistry | None = None,
        url: str | Repository | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None:
        self._thread: threading.Thread | None = None
        super().__init__(Scheduler(works, url, **options), asyncio.new_event_loop())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    @property
    def scheduler(self) -> Scheduler:
        """The asyncio face of the same scheduler, to be awaited on its own loop."""
        return self._scheduler

    def start(self) -> None:
        """Start the loop's thread and the scheduler on it; see :meth:`Scheduler.start`."""
        if self._thread is not None:
            return
        if self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="rota-loop", daemon=True)
        self._thread.start()
        try:
            self.call(self._scheduler.start())
        except BaseException:
            self._end_loop()
            raise

    def shutdown(self, timeout: Seconds | None = 30.0) -> None:
        """Stop as :meth:`Scheduler.shutdown` does, then end the loop's thread."""
        if self._thread is None:
            return
        try:
            self.call(self._scheduler.shutdown(timeout))
        finally:
            self._end_loop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def _end_loop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:  # else a start and the shutdown it met have both come here
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10.0)
