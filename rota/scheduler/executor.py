"""Run claimed tasks through the execute side of the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from rota.core.annotations import plain_function
from rota.core.clock import Clock
from rota.core.codec import SIZE_LIMIT
from rota.core.context import (
    BlockingContext,
    Context,
    Desk,
    request_stop,
    same_attempt,
)
from rota.core.eventlog import attempt_started
from rota.core.failure import to_json
from rota.core.outcome import RAISABLE, Done, Fail, Ignore, Outcome, Release
from rota.core.run import ExecuteNext, Run, Runnable, Stop
from rota.core.task import Claimed
from rota.errors import InvalidParams, MiddlewareOrderError
from rota.scheduler.dispatcher import Entry
from rota.scheduler.engine import Engine

#: A layer of the chain that runs in the worker's thread.
BlockingLayer = Callable[[Run, Callable[[Run], Outcome]], Outcome]

_OUTCOMES = (Done, *RAISABLE)
_NOTHING = Done()


class Route(NamedTuple):
    """How tasks of one work id run here: the works in order, and the chain around them."""

    works: Sequence[Runnable]
    execute: ExecuteNext


class Held(Entry):
    """A claimed task this node holds: waits for its time and a slot, then runs."""

    __slots__ = ("claimed", "executor", "node", "received", "route", "running")

    def __init__(
        self, claimed: Claimed, node: int, received: float, route: Route, executor: Executor
    ) -> None:
        Entry.__init__(self, received + claimed.due_in, claimed.priority, claimed.queue, claimed.id)
        self.running: Run | None = None
        self.claimed: Claimed = claimed
        self.node: int = node
        self.received: float = received
        self.route: Route = route
        self.executor: Executor = executor

    def run(self) -> Coroutine[Any, Any, None]:
        return self.executor.execute(self)


class Executor:
    """Makes a ``Run`` of each entry that gets a slot, and knows which are on.

    Used on the event loop's thread only.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        desk: Desk | None = None,
        load_params: Callable[[str], Awaitable[str | None]] | None = None,
        blocking_layers: Sequence[BlockingLayer] = (),
        on_start: Callable[[Run], object] | None = None,
        may_start: Callable[[Held], bool] = lambda _: True,
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._desk = desk
        self._load_params = load_params
        self._layers = blocking_layers
        self._on_start = on_start
        self._may_start = may_start
        self._size_limit = size_limit
        self._runs: dict[str, Run] = {}

    @property
    def runs(self) -> dict[str, Run]:
        """The attempts that are on, by task id."""
        return self._runs

    async def execute(self, held: Held) -> None:
        """Run one attempt from its context to its outcome, unless it was handed back meanwhile."""
        if not self._may_start(held):
            return
        claimed = held.claimed
        # In the order of its arguments: to name them, where a class is called, costs a dictionary.
        run = Run(
            claimed,
            held.node,
            held.route.works,
            self._make_context,
            self._clock.monotonic(),
            held.received,
        )
        held.running = run
        run.target = held.task
        runs = self._runs
        runs[claimed.id] = run
        if self._on_start is not None:
            self._on_start(run)
        attempt_started(run)
        try:
            await held.route.execute(run)
        finally:
            held.lingering = run.lingering
            if runs.get(claimed.id) is run:
                del runs[claimed.id]

    def stop(self, task_id: str, why: Stop, reason: str, *, batch: int | None = None) -> bool:
        """Tell the attempt of this task to stop; False if it does not run here."""
        run = self._runs.get(task_id)
        if run is None or (batch is not None and run.claimed.batch != batch):
            return False
        run.stop(why, reason)
        return True

    def call_work(self, run: Run) -> Awaitable[Outcome]:
        """The innermost of the chain: the function itself, or the next registry's."""
        if len(run.works) == 1 and (run.claimed.params or self._load_params is None):
            return self._call(run, run.works[0])
        return self._call_in_turn(run)

    async def _call_in_turn(self, run: Run) -> Outcome:
        if not run.claimed.params and self._load_params is not None:
            params = await self._load_params(run.id)
            if params is None:
                return Release(after=1.0)
            run.claimed = run.claimed._replace(params=params)
        for work in run.works:
            outcome = await self._call(run, work)
            if not isinstance(outcome, Ignore):
                return outcome
        return Ignore()

    async def _call(self, run: Run, work: Runnable) -> Outcome:
        runner = work.runner
        if runner == "process":
            return await self._call_in_process(run, work)
        try:
            arguments = work.signature.decode(run.params)
        except InvalidParams as error:
            return Fail(f"params do not fit {work.id}: {error}", error=to_json(error))
        try:
            if runner != "coroutine":
                value = await self._call_in_thread(run, work, arguments)
            else:
                if self._layers:
                    self._refuse_layers(work)
                if work.signature.wants_context:
                    value = await work.fn(_context_for(run, work), **arguments)
                else:
                    value = await work.fn(**arguments)
        except RAISABLE as raised:
            return raised
        if value is None:
            return _NOTHING
        outcome = value if isinstance(value, _OUTCOMES) else Done(value)
        return _as_json(work, outcome) if isinstance(outcome, Done) else outcome

    def _make_context(self, run: Run) -> Context | BlockingContext:
        kind = _context_kind(run.works[0])
        return kind(run.claimed, token=run.token, clock=self._clock, desk=self._desk)

    def _refuse_layers(self, work: Runnable) -> None:
        """The start refuses this, too, but works may be registered later."""
        if self._layers:
            raise MiddlewareOrderError(
                f"{work.id!r} does not run in a thread, where alone a middleware whose on_execute "
                "is not async can be around it; make that middleware async"
            )

    async def _call_in_process(self, run: Run, work: Runnable) -> Outcome:
        """Params go there and results come back in their JSON form."""
        self._refuse_layers(work)
        plain = plain_function(work.fn)
        location = f"{plain.__module__}:{plain.__qualname__}"
        return await self._engine.processes.run(
            location,
            run.params,
            work=work.id,
            size_limit=self._size_limit,
            keep_result=run.options.store_result,
        )

    async def _call_in_thread(self, run: Run, work: Runnable, arguments: dict[str, Any]) -> Any:
        function = self._thread_function(run, work, arguments)
        call = self._engine.threads.submit(function)
        told = False
        while True:
            try:
                ended = await call.wait()
                break
            except asyncio.CancelledError:
                # A thread cannot be cancelled: it is told, and what it answers counts. Told
                # once more with its outcome out, it is the loop that ends, and nobody listens.
                request_stop(run.context, run.stop_reason or "cancelled")
                if run.stopped is None or (told and run.settled):
                    run.lingering = call.goes_on()
                    raise
                told = True
        if ended.error is not None:
            raise ended.error
        return ended.value

    def _thread_function(
        self, run: Run, work: Runnable, arguments: dict[str, Any]
    ) -> Callable[[], Any]:
        call = partial(work.fn, **arguments) if arguments else work.fn
        if work.signature.wants_context or self._layers:
            context = _context_for(run, work)  # on the loop, before the thread can look
            if work.signature.wants_context:
                call = partial(work.fn, context, **arguments)
        return _around(self._layers, run, call) if self._layers else call


def _context_for(run: Run, work: Runnable) -> Context | BlockingContext:
    """The run's context with the face that this work knows."""
    context, kind = run.context, _context_kind(work)
    if type(context) is not kind:
        context = run.context = same_attempt(context, kind)
    return context


def _context_kind(work: Runnable) -> type[Context | BlockingContext]:
    return Context if work.runner == "coroutine" else BlockingContext


def _as_json(work: Runnable, done: Done) -> Outcome:
    """The result in its JSON form, or the failure that it has none."""
    try:
        return Done(work.signature.result.to_json(done.result, "result"))
    except InvalidParams as error:
        return Fail(str(error), error=to_json(error))


def _around(
    layers: Sequence[BlockingLayer], run: Run, call: Callable[[], Any]
) -> Callable[[], Outcome]:
    """The call inside the layers that run in its thread, as one function."""

    def innermost(_: Run) -> Outcome:
        try:
            value = call()
        except RAISABLE as outcome:
            return outcome
        return value if isinstance(value, _OUTCOMES) else Done(value)

    function: Callable[[Run], Outcome] = innermost
    for layer in layers:
        function = _layered(layer, function)
    return lambda: _expect_outcome(function(run))


def _expect_outcome(value: Outcome) -> Outcome:
    if isinstance(value, _OUTCOMES):
        return value
    raise TypeError(
        f"a middleware's on_execute returned {value!r}, which is no outcome; "
        "return what call_next returned"
    )


def _layered(layer: BlockingLayer, call_next: Callable[[Run], Outcome]) -> Callable[[Run], Outcome]:
    return lambda run: layer(run, call_next)


__all__ = ["BlockingLayer", "Executor", "Held", "Route"]
