"""Puts the rooms together: one object per duty, collaborators by keyword."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from rota.app.requests import Requests
from rota.app.settings import Settings
from rota.control.firing import Firing
from rota.control.tasks import TaskVerbs
from rota.control.waiting import Waiters
from rota.core.clock import Clock
from rota.core.context import Token
from rota.core.duty import Duty, Offload
from rota.core.events import Died, Event, Finished, Started, TookBack
from rota.core.holdings import Holdings
from rota.core.ports import Repository, Signals
from rota.core.request import ScheduleRequest
from rota.core.run import Run, Stop
from rota.core.task import CancelNotice, Ending, Inserted, Lane, Rescued, Stored
from rota.errors import MiddlewareOrderError, SchedulerNotRunning
from rota.middleware.bulk import store_through
from rota.middleware.chain import (
    Middleware,
    as_middleware,
    blocking_layers,
    check_order,
    compose_execute,
    compose_schedule,
    is_blocking,
)
from rota.middleware.expiry import ExpiryMiddleware
from rota.middleware.finisher import Finisher, Written
from rota.middleware.inserter import Inserter
from rota.middleware.retry import RetryMiddleware
from rota.middleware.storage import StorageMiddleware
from rota.middleware.timeout import TimeoutMiddleware
from rota.registry import WorkRegistry
from rota.scheduler.engine import Engine
from rota.scheduler.executor import Executor, Held, Route
from rota.scheduler.intake import Intake
from rota.storage.nodelife import NodeLife
from rota.storage.sync import Sync

log = logging.getLogger("rota")

#: How often held tasks are looked over on the loop.
LOOK_OVER = 0.25


class House:
    """All parts of one running scheduler, and the wires between them.

    Made on the event loop that will run it; ``Scheduler`` is its face and decides when
    what starts and stops.
    """

    def __init__(
        self,
        *,
        works: WorkRegistry,
        repository: Repository,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.works = works
        self.repository = repository
        self.settings = settings
        self.clock = clock
        self.closing = False
        self.offload = Offload(name="rota-reader")
        self.holdings = Holdings()
        self.life = NodeLife(
            repository=repository,
            clock=clock,
            name=settings.name,
            heartbeat=settings.heartbeat,
            lease=settings.lease,
            on_dead=lambda node: self.loop.call_soon_threadsafe(self._died, node),
            on_cancels=lambda notices: self.loop.call_soon_threadsafe(self._cancels, notices),
        )
        self.engine = Engine(
            concurrency=settings.concurrency,
            limits=settings.limits,
            clock=clock,
            may_start=lambda: self.life.may_start,
            on_free=self._freed,
        )
        self.engine.start()
        self.finisher = Finisher(
            store=repository, clock=clock, holdings=self.holdings, on_written=self._written
        )
        self.inserter = Inserter(
            store=repository, clock=clock, offload=self.offload, patience=settings.start_timeout
        )
        self.storage = StorageMiddleware(
            repository=repository,
            inserter=self.inserter,
            finisher=self.finisher,
            offload=self.offload,
            clock=clock,
            size_limit=settings.size_limit,
        )
        self.chain = self._chain(settings.middleware)
        self.send = compose_schedule(self.chain, _end_of_chain)
        self.executor = Executor(
            engine=self.engine,
            clock=clock,
            blocking_layers=blocking_layers(self.chain),
            on_start=self._started if settings.on_event else None,
        )
        self._routes: dict[str, Route | None] = {}
        self._routes_version = -1
        self._execute = compose_execute(self.chain, self.executor.call_work)
        self.intake = Intake(
            engine=self.engine,
            executor=self.executor,
            loop=self.loop,
            clock=clock,
            route=self.route,
            works=works.ids,
            put=self.finisher.put,
            round_trip=lambda: self.sync.round_trip,
            admit=settings.should_restore,
        )
        self.sync = Sync(
            repository=repository,
            life=self.life,
            holdings=self.holdings,
            intake=self.intake,
            clock=clock,
            queues=settings.queues,
            look_ahead=settings.look_ahead,
            poll=settings.poll,
            gate=lambda: not self.closing and not self.finisher.full,
            on_lanes=self._rescued,
            on_expired=self._expired,
            on_rescued=self._took_back,
        )
        self.waiters = Waiters(
            clock=clock, states=lambda ids: self.offload.run(repository.states, ids)
        )
        self.requests = Requests(
            works=works,
            defaults=settings.defaults,
            queue_defaults=settings.queue_defaults,
            allow_unknown=settings.allow_unknown,
        )
        self.verbs = TaskVerbs(
            repository=repository,
            offload=self.offload,
            waiters=self.waiters,
            clock=clock,
            stop_here=lambda task_id, reason: self.executor.stop(task_id, Stop.CANCELLED, reason),
            changed=self._changed,
            adopt=self.requests.adopt,
            revive=self.requests.revive,
        )
        self.firing = Firing(
            repository=repository, offload=self.offload, clock=clock, schedule=self.store
        )
        self._signals: Signals | None = None
        self.listener = Duty(name="rota-listener", step=self._listen, clock=clock)

    @property
    def duties(self) -> Sequence[Duty]:
        """The threads, in the order of starting; stopping goes the other way."""
        return (
            self.life.duty,
            self.finisher.duty,
            self.inserter.duty,
            self.listener,
            self.sync.duty,
        )

    @property
    def signals(self) -> Signals:
        if self._signals is None:
            raise SchedulerNotRunning("the scheduler is not running; start it first")
        return self._signals

    def open_signals(self) -> None:
        """Begin to hear other nodes; blocks on the database."""
        self._signals = self.repository.signals(self.life.id)

    def route(self, work_id: str) -> Route | None:
        """How tasks of this work run here; None if nobody knows it."""
        if self._routes_version != self.works.version:
            self._routes_version = self.works.version
            self._routes = {}
        try:
            return self._routes[work_id]
        except KeyError:
            works = self.works.lookup(work_id)
            route = Route(works, self._execute) if works else None
            self._routes[work_id] = route
            return route

    async def store(self, request: ScheduleRequest) -> Inserted:
        """Send one request down the chain, and tell who waits for work."""
        answer = await self.send(request)
        if answer.created:
            self.tell([self._lane(request)])
        return answer

    async def store_many(self, requests: Sequence[ScheduleRequest]) -> list[Inserted]:
        """Send all of them down the chain to one transaction; one rejection refuses all."""
        ready, answers = await store_through(self.chain[:-1], requests, self.storage.store_many)
        self.tell(
            self.lanes_of(
                [request for request, answer in zip(ready, answers, strict=True) if answer.created]
            )
        )
        return answers

    def tell(self, lanes: Sequence[Lane]) -> None:
        """Something was put into these lanes: wake our claimer, and the other nodes."""
        self.sync.hint(lanes)
        soon = [lane for lane in lanes if lane.due_in <= self.settings.poll]
        if soon and self._signals is not None:
            self._signals.announce(lanes=soon)

    def _lane(self, request: ScheduleRequest) -> Lane:
        due_in = request.delay
        if request.at is not None:
            due_in = max(0.0, (request.at - self.clock.now()).total_seconds())
        return Lane(request.queue, request.priority, due_in)

    def lanes_of(self, requests: Sequence[ScheduleRequest]) -> list[Lane]:
        """One lane for each (queue, priority), with the earliest time."""
        lanes: dict[tuple[str, int], Lane] = {}
        for request in requests:
            lane = self._lane(request)
            known = lanes.get(lane[:2])
            if known is None or lane.due_in < known.due_in:
                lanes[lane[:2]] = lane
        return list(lanes.values())

    def look_over(self) -> None:
        """Hand back what waits too long for a slot; let the dispatcher look again."""
        if self.closing:
            return
        if self.intake.give_back_late():
            log.debug("handed back tasks that found no slot in time")
        self.engine.dispatcher.wake()
        self.clock.call_at(self.loop, self.clock.monotonic() + LOOK_OVER, self.look_over)

    def emit(self, event: Event) -> None:
        """Tell the service's listener; its errors are its own."""
        if self.settings.on_event is not None:
            try:
                self.settings.on_event(event)
            except Exception:
                log.exception("the on_event listener raised")

    def _chain(self, own: Sequence[object]) -> list[Middleware]:
        """The user's middleware and the built-in ones, from the caller to the clock."""
        chain = [as_middleware(item) for item in own]
        builtin: list[Middleware] = [
            TimeoutMiddleware(alarms=self.engine.timer, clock=self.clock),
            RetryMiddleware(),
            ExpiryMiddleware(clock=self.clock),
            self.storage,
        ]
        given = {item.place for item in chain}
        if StorageMiddleware.place in given:
            raise MiddlewareOrderError(
                "the storage middleware is put at the clock end by the scheduler; "
                "take it out of middleware="
            )
        chain += [item for item in builtin if item.place not in given]
        check_order(chain)
        blocking = [item for item in chain if is_blocking(item)]
        coroutines = [work.id for work in self.works if work.runner != "thread"]
        if blocking and coroutines:
            raise MiddlewareOrderError(
                f"{blocking[0]!r} has an on_execute that is not async, which can only run in "
                f"a worker's thread, but {coroutines[0]!r} does not run in one; make it async"
            )
        return chain

    def _listen(self) -> float:
        heard = self.signals.wait(self.settings.poll)
        if heard is None:
            return 0.0
        if heard.everything:
            if not self.sync.lanes.active:
                self.sync.look()
        elif heard.lanes:
            self.sync.hint(heard.lanes)
        if heard.tasks or heard.everything:
            self.loop.call_soon_threadsafe(self.waiters.look)
            self.life.duty.wake()
        if heard.everything:
            self.loop.call_soon_threadsafe(self.firing.wake)
        return 0.0

    def _freed(self) -> None:
        if self.intake.hungry():
            self.sync.duty.wake()

    def _written(self, written: Sequence[Written]) -> None:
        """Outcomes are in the database; called by the finisher's thread."""
        back = [
            Lane(item.finish.queue, item.finish.priority, item.finish.delay)
            for item in written
            if item.state is Stored.SCHEDULED and item.finish.ending is not Ending.RELEASE
        ]
        if back:
            self.tell(back)
        if self.settings.on_event is not None or self.waiters.ids:
            self.loop.call_soon_threadsafe(self._ended, written)

    def _ended(self, written: Sequence[Written]) -> None:
        self.waiters.ended(
            [(item.finish.id, item.state) for item in written if item.state is not None]
        )
        if self.settings.on_event is not None:
            for node, finish, state in written:
                self.emit(
                    Finished(
                        finish.id, finish.attempt, Token(node, finish.batch), finish.ending, state
                    )
                )

    def _started(self, run: Run) -> None:
        claimed = run.claimed
        late = run.started - run.received - claimed.due_in
        self.emit(Started(claimed.id, claimed.work, claimed.attempt, run.token, late))

    def _died(self, node: int) -> None:
        """What ran under the dead incarnation does not count any more."""
        self.holdings.clear()
        for entry in self.engine.dispatcher.holding():
            if isinstance(entry, Held) and entry.node == node:
                self.engine.dispatcher.withdraw(entry)
        for run in list(self.executor.runs.values()):
            if run.token.node == node:
                run.stop(Stop.LOST, "the lease was lost")
        self.sync.lanes.forget()
        self.sync.look()
        self.emit(Died(node))

    def _cancels(self, notices: Sequence[CancelNotice]) -> None:
        for notice in notices:
            self.executor.stop(notice.id, Stop.CANCELLED, notice.reason, batch=notice.batch)

    def _rescued(self, lanes: Sequence[Lane]) -> None:
        if lanes and self._signals is not None:
            self._signals.announce(lanes=lanes)

    def _took_back(self, rescued: Sequence[Rescued]) -> None:
        if self.settings.on_event is not None:
            event = TookBack(tuple(item.id for item in rescued))
            self.loop.call_soon_threadsafe(self.emit, event)
        lost = [(item.id, Stored.FAILED) for item in rescued if item.lost]
        if lost:
            self.loop.call_soon_threadsafe(self.waiters.ended, lost)

    def _expired(self, ids: Sequence[str]) -> None:
        self.loop.call_soon_threadsafe(
            self.waiters.ended, [(task_id, Stored.CANCELLED) for task_id in ids]
        )

    def _changed(self, task_id: str, lanes: list[Lane]) -> None:
        if lanes:
            self.tell(lanes)
        if self._signals is not None:
            self._signals.announce(tasks=[task_id])


async def _end_of_chain(request: ScheduleRequest) -> Inserted:
    raise MiddlewareOrderError(f"no storage at the clock end took task {request.id}")
