"""The scheduler that a service embeds: asyncio face of everything."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from typing_extensions import Unpack

from rota.app.house import House
from rota.app.living import move_in, move_out, restore_again, wind_down
from rota.app.requests import TaskOptions, TaskSpec
from rota.app.settings import (
    Settings,
    check_archive,
    check_queues,
    check_retention,
    check_span,
)
from rota.app.starting import Starting
from rota.app.verbs import SchedulerVerbs
from rota.control.handle import TaskHandle
from rota.core.archiving import Archive
from rota.core.clock import Clock, Seconds, SystemClock
from rota.core.codec import SIZE_LIMIT
from rota.core.events import Listener
from rota.core.ports import Repository
from rota.core.request import ScheduleRequest
from rota.core.retention import Retention
from rota.core.task import Claimed
from rota.errors import ForkedScheduler, SchedulerNotRunning, SchemaMismatch
from rota.registry import Bound, Work, WorkRegistry
from rota.scheduler.engine import check_concurrency
from rota.storage.open import open_repository
from rota.storage.sync import RestoreReport

if TYPE_CHECKING:
    from rota.background import Blocking

R = TypeVar("R")

log: logging.Logger = logging.getLogger("rota")


class Scheduler(SchedulerVerbs):
    """Schedules tasks, runs them at their time, and keeps them in a database.

    ``works`` are the functions this node can run. ``url`` names the database:
    ``sqlite:///file.db``, ``postgresql://host/name``, or None for memory, where every
    verb works and nothing survives.

    ``concurrency`` bounds what runs at once. ``queues`` are those to serve (None: all,
    ``[]``: none, a client that only schedules; a mapping gives each its own limit).
    ``middleware`` is listed from the caller to the clock. ``defaults`` and
    ``queue_defaults`` are options for tasks that do not say. ``lease`` (at least 3 s,
    30) and ``heartbeat`` (at least 1 s, 5) say how soon others take over from a node
    that froze; a process that died is noticed sooner. A node whose event loop stands claims
    nothing, hands back after a lease what has not started, and after ``stall_after`` seconds
    leaves what runs to others, too.

    ``retention`` is how long finished tasks are kept as history. ``archive`` is called with
    them before they go: a plain function of a list of :class:`ArchivedTask`, in a thread, on one
    node at a time; what it raises for is kept and comes again. Both are written in the database
    for all nodes: a start that leaves them out changes nothing, the last one that says something
    holds, and ``archive=False`` gives the archive up. A client archives nothing.

    >>> works = WorkRegistry()
    >>> @works.register("greet")
    ... async def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> async def main() -> str:
    ...     async with Scheduler(works) as scheduler:
    ...         handle = await scheduler.schedule(greet.bind("Ada"))
    ...         return await handle.result(timeout=10)
    >>> import asyncio
    >>> asyncio.run(main())
    'hello Ada'
    """

    def __init__(
        self,
        works: WorkRegistry | None = None,
        url: str | Repository | None = None,
        *,
        concurrency: int = 50,
        queues: Sequence[str] | Mapping[str, int | None] | None = None,
        middleware: Sequence[object] = (),
        name: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        queue_defaults: Mapping[str, Mapping[str, Any]] | None = None,
        allow_unknown: bool = False,
        should_restore: Callable[[Claimed], bool] | None = None,
        lease: Seconds = 30.0,
        heartbeat: Seconds = 5.0,
        look_ahead: Seconds = 1.0,
        poll: Seconds = 5.0,
        start_timeout: Seconds = 30.0,
        stall_after: Seconds = 300.0,
        size_limit: int = SIZE_LIMIT,
        schema: str | None = None,
        poll_only: bool = False,
        synchronous: str | None = None,
        lazy_params: bool = False,
        retention: Retention | None = None,
        archive: Archive | Literal[False] | None = None,
        on_event: Listener | None = None,
        on_error: Callable[[ScheduleRequest, Exception], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        served, limits = check_queues(queues)
        self._works = works if works is not None else WorkRegistry()
        self._clock: Clock = clock or SystemClock()
        self._settings = Settings(
            concurrency=check_concurrency(concurrency),
            queues=served,
            limits=limits,
            middleware=middleware,
            name=name,
            defaults=defaults or {},
            queue_defaults=queue_defaults or {},
            allow_unknown=allow_unknown,
            should_restore=should_restore,
            lease=check_span(lease, "lease", 3.0),
            heartbeat=check_span(heartbeat, "heartbeat", 1.0),
            look_ahead=check_span(look_ahead, "look_ahead", 0.05),
            poll=check_span(poll, "poll", 0.1),
            start_timeout=check_span(start_timeout, "start_timeout", 0.0),
            stall_after=check_span(stall_after, "stall_after", 1.0),
            size_limit=size_limit,
            on_event=on_event,
            on_error=on_error,
            lazy_params=lazy_params,
            retention=check_retention(retention),
            archive=check_archive(archive),
            storage={"schema": schema, "poll_only": poll_only, "synchronous": synchronous},
        )
        self._url = url
        self._house: House | None = None
        self._starting = Starting()
        self._pid = os.getpid()
        self._restored = RestoreReport()
        self._unfit: SchemaMismatch | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._grew_unfit = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    @property
    def works(self) -> WorkRegistry:
        """The functions this node knows."""
        return self._works

    @property
    def running(self) -> bool:
        """Whether it was started and not shut down."""
        return self._house is not None

    @property
    def concurrency(self) -> int:
        """How many runs may be on at once; set it at any time."""
        return self._house.engine.concurrency if self._house else self._settings.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        house = self._open()
        check_concurrency(value)
        house.loop.call_soon_threadsafe(setattr, house.engine, "concurrency", value)
        house.sync.duty.wake()

    @property
    def node(self) -> int:
        """This node's present incarnation."""
        return self._entered().life.id

    @property
    def unfit(self) -> SchemaMismatch | None:
        """Why it drains and stops by itself: the schema was changed beyond this node's code.

        None as long as they fit. Runs end as usual meanwhile; verbs raise the same.
        """
        return self._unfit if self._house is None else self._house.life.unfit

    @property
    def restored(self) -> RestoreReport:
        """What the first pass after the start found."""
        return self._restored

    @property
    def blocking(self) -> Blocking:
        """The same verbs for threads of this service, blocking."""
        from rota.background import Blocking

        return Blocking(self, self._entered().loop)

    async def start(self) -> None:
        """Open the database, join the other nodes, restore, begin to work.

        Waits up to ``start_timeout`` for a database that is away, then raises
        ``StorageUnavailable``; other ``StorageError``s at once. A ``shutdown`` meanwhile
        ends it: then it raises ``SchedulerNotRunning``.
        """
        if self._house is not None:
            self._open()
            return
        await self._starting.run(self._start)

    async def _start(self) -> None:
        repository = (
            open_repository(self._url, clock=self._clock, **self._settings.storage)
            if self._url is None or isinstance(self._url, str)
            else self._url
        )
        house = House(
            works=self._works,
            repository=repository,
            settings=self._settings,
            clock=self._clock,
            on_unfit=self._leave,
        )
        self._pid = os.getpid()
        self._unfit, self._leaving = None, None
        self._grew_unfit.clear()
        try:
            self._restored = await move_in(house, start_timeout=self._settings.start_timeout)
        except BaseException:
            await house.engine.stop(0)
            house.offload.close()
            repository.close()
            raise
        self._house = house
        if house.life.unfit is not None:
            self._leave()

    async def shutdown(self, timeout: Seconds | None = 30.0) -> None:
        """Stop claiming, let work end for ``timeout`` seconds (None: as long as it takes).

        Then what still runs is cancelled and given back without cost; what waits is given
        back at once. Outcomes are written before it returns. Calling it twice is fine.
        """
        limit = None if timeout is None else check_span(timeout, "timeout", 0.0)
        await self._starting.give_up()
        house, self._house = self._house, None
        leaving = None if self._leaving is asyncio.current_task() else self._leaving
        if house is not None:
            self._unfit = house.life.unfit
            if leaving is not None:
                leaving.cancel()  # how long runs may go on is for this call to say
            await move_out(house, timeout=limit)
        elif leaving is not None:
            await asyncio.wait([leaving])

    def _leave(self) -> None:
        """Begin to leave, since schema and code do not fit any more; on the loop, once."""
        house = self._house
        if house is not None and self._leaving is None:
            self._leaving = house.loop.create_task(self._leave_when_idle(house))
            self._grew_unfit.set()

    async def _leave_when_idle(self, house: House) -> None:
        await wind_down(house)
        await house.engine.dispatcher.idle()
        await self.shutdown()
        log.error("node %s has stopped; start it with a version that fits", house.life.name)

    @overload
    async def schedule(
        self, work: Bound[R], params: None = None, **options: Unpack[TaskOptions]
    ) -> TaskHandle[R]: ...
    @overload
    async def schedule(
        self,
        work: Work[..., R],
        params: Mapping[str, Any] | None = None,
        **options: Unpack[TaskOptions],
    ) -> TaskHandle[R]: ...
    @overload
    async def schedule(
        self, work: str, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> TaskHandle[Any]: ...
    async def schedule(
        self, work: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> TaskHandle[Any]:
        """Put one task in; returns once it is durable.

        ``work`` is a bound work (``send.bind(7)``, checked by type checkers), a work, or
        its id with ``params``. The options are those of :class:`TaskOptions`. Raises an
        ``InvalidArgument`` that names the field, ``UnknownWork``, ``DuplicateTask``,
        ``Rejected`` or ``StorageUnavailable``.
        """
        house = self._open()
        request = house.requests.make(work, params, options)
        return house.handle(await house.store(request))

    async def schedule_soon(
        self, work: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> TaskHandle[Any]:
        """Put a task in without waiting for the database; it is stored in the background.

        What cannot be right raises at once, as in ``schedule``; what the database refuses
        later is logged and given to ``on_error``. Waits only while 10,000 are under way.
        ``shutdown`` stores all of them; a crash loses those that are not stored yet.
        """
        house = self._open()
        request = house.requests.make(work, params, options)
        await house.soon.put(request)
        return TaskHandle(request.id, verbs=house.verbs)

    async def schedule_many(
        self,
        tasks: Iterable[Bound[Any] | TaskSpec | tuple[Any, Mapping[str, Any]]],
        **options: Unpack[TaskOptions],
    ) -> list[TaskHandle[Any]]:
        """Put many tasks in, all or none, in one transaction.

        Each is a bound work, a ``(work, params)`` pair, or a :class:`TaskSpec` with
        options of its own over the common ``options``. Every request passes the chain.
        """
        house = self._open()
        asked = list(tasks)
        if not asked:
            return []
        answers = await house.store_many(house.requests.in_parts(asked, options))
        return await house.handles(answers)

    async def restore(self, wait: Seconds = 3.0) -> RestoreReport:
        """Take back what dead nodes left; names what was interrupted, unknown, or in error.

        Waits up to ``wait`` seconds for nodes about to be declared dead. The first pass
        runs at every start; its report is ``restored``.
        """
        house = self._open()
        self._restored = await restore_again(house, check_span(wait, "wait", 0.0))
        return self._restored

    def _open(self) -> House:
        house = self._entered()
        if house.life.unfit is not None:
            raise _again(house.life.unfit)
        return house

    def _entered(self) -> House:
        if self._house is None:
            if self._unfit is not None:
                raise _again(self._unfit)
            raise SchedulerNotRunning(
                "the scheduler is not running; use `async with Scheduler(…)` or await start()"
            )
        if os.getpid() != self._pid:
            raise ForkedScheduler
        return self._house


def _again(error: SchemaMismatch) -> SchemaMismatch:
    """The same for another caller, whose traceback is its own."""
    return type(error)(str(error), found=error.found, needed=error.needed)
