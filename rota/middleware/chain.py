"""The chain between the caller and the clock: its two directions and its order."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, cast

from rota.core.outcome import Outcome
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.run import ExecuteNext, Run
from rota.core.task import Inserted
from rota.errors import InvalidArgument, MiddlewareOrderError


class Middleware:
    """Something around scheduling, running, or both; override the hook you need.

    A chain is listed from the caller to the clock. A request travels down that list
    when it is scheduled; a run travels up it when it is executed, so the last in the
    list is the innermost while scheduling and the outermost while executing.

    ``on_execute`` may be a plain (not async) method: it then runs in the worker's
    thread, right around a plain function, and is refused at start if a coroutine
    work is registered.
    """

    #: Where a built-in belongs; the user's own stand before all of them.
    place: ClassVar[int] = 0

    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        """Change the request, refuse it (raise ``Rejected``) or pass it on."""
        return await call_next(request)

    def on_execute(self, run: Run, call_next: ExecuteNext) -> Awaitable[Outcome] | Any:
        """Do something around the run; returns the outcome."""
        return call_next(run)


class Occasional(Middleware):
    """A built-in that has nothing to do for most runs, and leaves itself out of those."""

    def around(self, call_next: ExecuteNext) -> ExecuteNext:
        """``on_execute`` with its ``call_next``, or that alone, as the run needs it."""
        raise NotImplementedError


class _Hook(Middleware):
    """A plain function in the place of a middleware."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<middleware {self.name}>"


def as_middleware(item: object) -> Middleware:
    """A middleware from what the user listed: an instance, or a function for one hook.

    A function is known by its first parameter: ``request`` for the schedule side,
    ``run`` for the execute side.
    """
    if isinstance(item, Middleware):
        return item
    if inspect.isclass(item) and issubclass(item, Middleware):
        raise InvalidArgument(
            f"middleware {item.__name__} is a class; list an instance, {item.__name__}()",
            field="middleware",
        )
    if not callable(item):
        raise InvalidArgument(
            f"middleware {item!r} is neither a Middleware nor a function", field="middleware"
        )
    name = getattr(item, "__qualname__", repr(item))
    first = _first_parameter(item, name)
    hook = _Hook(name)
    if first == "request":
        hook.on_schedule = item  # type: ignore[method-assign]
    elif first == "run":
        hook.on_execute = item  # type: ignore[method-assign]
    else:
        raise InvalidArgument(
            f"middleware {name} must take (request, call_next) to be around scheduling "
            f"or (run, call_next) to be around running, not ({first}, …)",
            field="middleware",
        )
    return hook


def _first_parameter(item: Callable[..., Any], name: str) -> str:
    try:
        return next(iter(inspect.signature(item).parameters), "")
    except ValueError as error:
        raise InvalidArgument(
            f"middleware {name} does not show its parameters; "
            "wrap it in a function of (request, call_next) or (run, call_next)",
            field="middleware",
        ) from error


def check_order(chain: Sequence[Middleware]) -> None:
    """Refuse a chain that would break a promise.

    The order, from the caller to the clock: the user's own, timeout, retry, expiry,
    storage. Storage must stand at the clock end: what stands outside it while
    running could change an outcome that is already written.
    """
    names = " ▶ ".join(_name(item) for item in chain)
    places = [item.place for item in chain]
    builtin = [place for place in places if place]
    if len(builtin) != len(set(builtin)):
        raise MiddlewareOrderError(f"a built-in middleware stands twice in {names}; list it once")
    if places != sorted(places, key=lambda place: place or 0):
        raise MiddlewareOrderError(
            f"the chain {names} is out of order; from the caller to the clock it must be: "
            "your own, timeout, retry, expiry, storage"
        )


def compose_schedule(chain: Sequence[Middleware], store: ScheduleNext) -> ScheduleNext:
    """The schedule side as one callable that ends in ``store``."""
    call = store
    for item in reversed(chain):
        if _overrides(item, "on_schedule"):
            call = _bind(item.on_schedule, call)
    own = [item for item in chain if not item.place and _overrides(item, "on_schedule")]
    return _expecting_answer(call, own) if own else call


def compose_execute(chain: Sequence[Middleware], work: ExecuteNext) -> ExecuteNext:
    """The asynchronous execute side as one callable around ``work``."""
    call = work
    for item in chain:
        if _overrides(item, "on_execute") and not is_blocking(item):
            # A subclass may have more to do than the built-in: it is never left out.
            if isinstance(item, Occasional) and "around" in vars(type(item)):
                call = item.around(call)
            else:
                call = _bind(item.on_execute, call)
    return call


def blocking_layers(chain: Sequence[Middleware]) -> list[Callable[[Run, Any], Any]]:
    """The layers that run in the worker's thread, caller to clock."""
    return [
        cast("Callable[[Run, Any], Any]", item.on_execute)
        for item in chain
        if _overrides(item, "on_execute") and is_blocking(item)
    ]


def is_blocking(item: Middleware) -> bool:
    """Whether its ``on_execute`` is a plain function, to be called in the worker's thread."""
    return _overrides(item, "on_execute") and not _is_async(item.on_execute)


def _is_async(hook: Callable[..., Any]) -> bool:
    called = getattr(hook, "__call__", None)  # noqa: B004 - an object whose call is async
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(called)


def _overrides(item: Middleware, hook: str) -> bool:
    return hook in vars(item) or getattr(type(item), hook) is not getattr(Middleware, hook)


def _bind(hook: Callable[[Any, Any], Any], call_next: Any) -> Any:
    """The hook with its ``call_next`` filled in; no frame of its own on the hot path."""

    def call(subject: Any) -> Any:
        return hook(subject, call_next)

    return call


def _expecting_answer(call: ScheduleNext, own: Sequence[Middleware]) -> ScheduleNext:
    """Say so where a middleware forgot to return what came back."""

    async def send(request: ScheduleRequest) -> Inserted:
        answer = await call(request)
        if not isinstance(answer, Inserted):
            names = ", ".join(map(_name, own))
            raise TypeError(
                f"on_schedule returned {answer!r} for task {request.id} (it may be stored); "
                f"return what call_next returned, in one of: {names}"
            )
        return answer

    return send


def _name(item: Middleware) -> str:
    return item.name if isinstance(item, _Hook) else type(item).__name__
