"""Puts the rooms together: one object per duty, collaborators by keyword."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from rota.app.blocking import BlockingHandle, LoopCaller
from rota.app.chains import Routes, build_chain, end_of_chain
from rota.app.holdback import Holdback
from rota.app.requests import Requests, may_be_claimed
from rota.app.settings import Settings
from rota.app.soon import Soon
from rota.app.switchboard import Switchboard
from rota.app.unstarted import WatchedIntake
from rota.app.watching import Watch
from rota.control.attempts import AttemptDesk
from rota.control.firing import Firing
from rota.control.handle import TaskHandle
from rota.control.pulling import Pulling
from rota.control.recurring import RecurringVerbs
from rota.control.tasks import TaskVerbs
from rota.control.waiting import Waiters
from rota.core.backoff import Backoff
from rota.core.clock import Clock, seconds
from rota.core.duty import Duty, Offload
from rota.core.holdings import Holdings
from rota.core.options import decode_options
from rota.core.ports import Repository
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.task import Claimed, Inserted, NewTask, Stored
from rota.middleware.bulk import in_turns, store_each, store_through
from rota.middleware.chain import Middleware, blocking_layers, compose_schedule
from rota.middleware.expiry import ExpiryMiddleware
from rota.middleware.finisher import Finisher
from rota.middleware.inserter import Inserter
from rota.middleware.retry import RetryMiddleware
from rota.middleware.storage import StorageMiddleware
from rota.middleware.timeout import TimeoutMiddleware
from rota.registry import WorkRegistry
from rota.scheduler.dispatcher import GIVE_WAY_EVERY
from rota.scheduler.engine import Engine
from rota.scheduler.executor import Executor, Held
from rota.scheduler.lazy import ParamsLoader
from rota.storage.keeper import Keeper
from rota.storage.memory.repository import MemoryRepository
from rota.storage.nodelife import NodeLife
from rota.storage.sync import Sync
from rota.storage.transactions import after_commit, run_in

#: How a handle names the state that was met; looked up faster than made.
_MET = {state: str(state.public) for state in Stored}


class House:
    """All parts of one running scheduler; the ``switchboard`` has the wires between them.

    Made on the event loop that will run it; ``Scheduler`` is its face and decides when
    what starts and stops. ``on_unfit`` is called on the loop when it is to leave by itself.
    """

    keeping: type[Keeper] = Keeper

    def __init__(
        self,
        *,
        works: WorkRegistry,
        repository: Repository,
        settings: Settings,
        clock: Clock,
        on_unfit: Callable[[], object] = lambda: None,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.process: int = os.getpid()
        self.works = works
        self.repository = repository
        self.settings = settings
        self.clock = clock
        self.closing = False
        self.on_unfit = on_unfit
        self.wires: Switchboard = Switchboard(self)
        self.holdback: Holdback = Holdback(self)
        self.offload: Offload = Offload(name="rota-reader")
        self.holdings: Holdings = Holdings()
        self.life: NodeLife = NodeLife(
            repository=repository,
            clock=clock,
            name=settings.name,
            heartbeat=settings.heartbeat,
            lease=settings.lease,
            on_dead=self.wires.dying,
            on_joined=self.wires.joined,
            holding=lambda: bool(self.holdings),
            on_cancels=self.wires.cancels,
            on_may_start=self.wires.may_start,
            on_unfit=self.wires.unfit,
            watch=self.wires.watch,
        )
        self.engine: Engine = Engine(
            concurrency=settings.concurrency,
            limits=settings.limits,
            clock=clock,
            may_start=lambda: not self.closing and self.life.may_start and self.life.unfit is None,
            on_free=self.wires.freed,
            give_way_every=1 if repository.embedded else GIVE_WAY_EVERY,
        )
        self.engine.start()
        self._build_chain()
        self._build_intake()
        self._build_verbs()
        self.listener: Duty = Duty(name="rota-listener", step=self.wires.listen, clock=clock)

    def _build_chain(self) -> None:
        """The two group committers, the chain around them, and what runs inside it."""
        repository, clock, settings = self.repository, self.clock, self.settings
        self.finisher: Finisher = Finisher(
            store=repository,
            clock=clock,
            holdings=self.holdings,
            on_written=self.wires.written,
            begin=repository.now,  # so that the first outcome meets an open connection
        )
        self.inserter: Inserter = Inserter(
            store=repository,
            clock=clock,
            offload=self.offload,
            patience=settings.start_timeout,
            direct=type(repository) is MemoryRepository,
            begin=repository.now,
        )
        self.storage: StorageMiddleware = StorageMiddleware(
            repository=repository,
            inserter=self.inserter,
            finisher=self.finisher,
            offload=self.offload,
            clock=clock,
            run_in=run_in,
            follow=self._follow,
            size_limit=settings.size_limit,
        )
        builtin = [
            TimeoutMiddleware(alarms=self.engine.timer, clock=clock),
            RetryMiddleware(),
            ExpiryMiddleware(clock=clock),
            self.storage,
        ]
        self.chain: list[Middleware] = build_chain(settings.middleware, builtin, self.works)
        self.send: ScheduleNext = compose_schedule(self.chain[:-1], self._put_in)
        self.requests: Requests = Requests(
            works=self.works,
            defaults=settings.defaults,
            queue_defaults=settings.queue_defaults,
            allow_unknown=settings.allow_unknown,
        )
        self.executor: Executor = Executor(
            engine=self.engine,
            clock=clock,
            desk=self._desk(),
            load_params=ParamsLoader(
                bodies=lambda ids: self.offload.run(repository.bodies, ids)
            ).load,
            blocking_layers=blocking_layers(self.chain),
            on_start=self.wires.started if settings.on_event else None,
            may_start=self._may_run,
            size_limit=settings.size_limit,
        )
        self.routes: Routes = Routes(
            works=self.works, chain=self.chain, call_work=self.executor.call_work
        )

    def _build_intake(self) -> None:
        """What brings tasks in."""
        settings = self.settings
        self.intake: WatchedIntake = WatchedIntake(
            engine=self.engine,
            executor=self.executor,
            loop=self.loop,
            clock=self.clock,
            route=self.routes.find,
            works=self._wanted,
            held_back=self.holdback.holds,
            put=self.finisher.put,
            round_trip=lambda: self.sync.round_trip,
            admit=settings.should_restore,
        )
        self.keeper: Keeper = self.keeping(
            repository=self.repository, clock=self.clock, archive=settings.archive or None
        )
        self.sync: Sync = Sync(
            repository=self.repository,
            life=self.life,
            holdings=self.holdings,
            intake=self.intake,
            clock=self.clock,
            queues=settings.queues,
            look_ahead=settings.look_ahead,
            poll=settings.poll,
            gate=self._may_claim,
            alone=self.routes.alone,
            lazy=settings.lazy_params,
            on_lanes=self.wires.rescued,
            on_expired=self.wires.expired,
            on_rescued=self.wires.took_back,
            on_glance=self.wires.glanced,
            hears=self.wires.hears,
            writing=self.finisher.batches,
            keeper=self.keeper,
        )
        self.watch: Watch = Watch(
            loop=self.loop,
            turned=lambda: self.wires.loop_seen,
            clock=self.clock,
            claimer=self.sync.duty,
            finisher=self.finisher.duty,
            lease=settings.lease,
            stall_after=settings.stall_after,
            hand_back=self.intake.hand_back,
        )

    def _may_run(self, held: Held) -> bool:
        return self.intake.starts(held)

    def _wanted(self) -> list[str]:
        """The works whose parked tasks are to be taken."""
        return [work for work in self.works.ids() if not self.holdback.holds(work)]

    def _may_claim(self) -> bool:
        return not (self.closing or self.finisher.full or self.watch.standing)

    def _build_verbs(self) -> None:
        """What users say of and to tasks."""
        repository, offload, clock = self.repository, self.offload, self.clock
        self.waiters: Waiters = Waiters(
            clock=clock, states=lambda ids: offload.run(repository.states, ids)
        )
        self.verbs: TaskVerbs = TaskVerbs(
            repository=repository,
            offload=offload,
            waiters=self.waiters,
            clock=clock,
            stop_here=self.wires.stop,
            changed=self.wires.changed,
            adopt=self.requests.adopt,
            revive=self.requests.revive,
            size_limit=self.settings.size_limit,
        )
        self.firing: Firing = Firing(
            repository=repository,
            offload=offload,
            clock=clock,
            through=partial(store_each, self.chain[:-1]),
            row=self.storage.row,
            tell=self.wires.tell,
        )
        self.recurring: RecurringVerbs = RecurringVerbs(
            repository=repository,
            offload=offload,
            reader=self.firing.reader,
            changed=self.wires.recurring_changed,
            make=self.requests.make,
            send=self._spawn,
            handle=self._known,
        )
        self.pulling: Pulling = Pulling(
            repository=repository,
            offload=offload,
            clock=clock,
            tell=self.wires.tell,
            ended=self.waiters.ended,
            child_ended=self.firing.ended,
            backoff=self._backoff,
            with_follow_up=self.storage.with_follow_up,
        )
        self.soon: Soon = Soon(store=self.store, on_error=self.settings.on_error)

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

    async def store(self, request: ScheduleRequest) -> Inserted:
        """Send one request down the chain, and tell who waits for work."""
        return await self.send(request)

    async def _put_in(self, request: ScheduleRequest) -> Inserted:
        """The clock end: a middleware may have changed the queue, so who waits is told here."""
        try:
            answer = await self.storage.on_schedule(request, end_of_chain)
        except asyncio.CancelledError:
            # It is stored all the same, soon: who waits for work is told now and again then.
            self.wires.nudge(self.wires.lanes_of([request]))
            raise
        self._entered([request], [answer], request.connection)
        return answer

    async def store_many(self, parts: Iterable[Sequence[ScheduleRequest]]) -> list[Inserted]:
        """Send all of them down the chain to one transaction; one rejection refuses all."""
        return await store_through(self.chain[:-1], parts, self._put_in_many)

    async def _put_in_many(self, parts: Iterable[Sequence[ScheduleRequest]]) -> list[Inserted]:
        rows, answers, connection = await self.storage.store_many(parts)
        self._entered(rows, answers, connection)
        return answers

    def _entered(
        self,
        tasks: Sequence[ScheduleRequest | NewTask],
        answers: Sequence[Inserted],
        connection: object | None,
    ) -> None:
        """Tell who waits for work: now, or once the caller's transaction has committed."""
        both = zip(tasks, answers, strict=True)
        entered = [task for task, answer in both if may_be_claimed(task, answer)]
        if not entered:
            return
        if connection is None:
            self.wires.tell_soon(entered)
        else:
            lanes = self.wires.lanes_of(entered)
            after_commit(
                connection, lambda: self.loop.call_soon_threadsafe(self.wires.nudge, lanes)
            )

    def handle(self, answer: Inserted) -> TaskHandle[Any]:
        """What the caller of ``schedule`` gets."""
        return TaskHandle(
            answer.id,
            verbs=self.verbs,
            created=answer.created,
            state_met=_MET[answer.state],
        )

    async def handles(self, answers: Sequence[Inserted]) -> list[TaskHandle[Any]]:
        """A handle for each; with many of them the loop gets its turns in between."""
        handles: list[TaskHandle[Any]] = []
        for some in in_turns(answers):
            if handles:
                await asyncio.sleep(0)
            handles += map(self.handle, some)
        return handles

    def _desk(self) -> AttemptDesk:
        """What contexts ask things of."""
        caller = LoopCaller(self.loop)
        return AttemptDesk(
            repository=self.repository,
            offload=self.offload,
            make=self.requests.make,
            store=self._spawn,
            blocking=lambda handle: BlockingHandle(handle, caller),
            wait_for=caller.call,
            transactional=lambda work_id: work_id in self.routes.alone(),
            run_in=run_in,
            with_follow_up=self.storage.with_follow_up,
            as_json=self._as_json,
            size_limit=self.settings.size_limit,
        )

    async def _spawn(self, request: ScheduleRequest) -> TaskHandle[Any]:
        return self.handle(await self.store(request))

    def _known(self, task_id: str, state: Stored) -> TaskHandle[Any]:
        return TaskHandle(task_id, verbs=self.verbs, created=False, state_met=str(state.public))

    async def _follow(self, request: ScheduleRequest) -> ScheduleRequest:
        """A follow-up on its way through the chain, up to the storage end."""
        came: list[ScheduleRequest] = []

        async def end(parts: Iterable[Sequence[ScheduleRequest]]) -> list[Inserted]:
            # It is inserted with the finish.
            came.extend(request for part in parts for request in part)
            return [Inserted(one.id, created=True, state=Stored.SCHEDULED) for one in came]

        await store_through(self.chain[:-1], [[request]], end)
        return came[0]

    def _as_json(self, work_id: str, result: Any) -> Any:
        """A result as it is stored, by what the work's function is annotated with."""
        work = self.works.find(work_id)
        return result if work is None else work.signature.result.to_json(result, "result")

    def _backoff(self, claimed: Claimed) -> float:
        """Seconds until the next attempt of a pulled task."""
        work = self.works.find(claimed.work)
        own = work.options.backoff if work is not None else None
        if callable(own):
            return seconds(own(claimed.attempt), "backoff")
        return (decode_options(claimed.options).backoff or Backoff()).delay(claimed.attempt)
