"""A registered function: callable as it was written, and bindable to checked params."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from rota.core.annotations import plain_function
from rota.core.context import BlockingContext, Context
from rota.core.signature import Signature
from rota.errors import InvalidArgument
from rota.registry.options import Runner, WorkOptions

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Work(Generic[P, R]):
    """A function under its work id; ``P`` are its parameters without the context.

    Calling it calls the function, context and all. ``id`` is the one it was registered
    with; a registry that includes its registry under a prefix knows it by a longer one
    (``WorkRegistry.id_of``).
    """

    id: str
    aliases: tuple[str, ...]
    fn: Callable[..., Any]
    options: WorkOptions
    signature: Signature
    runner: Runner

    def __post_init__(self) -> None:
        # Into __dict__, since the dataclass is frozen: help() and inspect see the function.
        for name in functools.WRAPPER_ASSIGNMENTS:
            if name != "__annotations__" and hasattr(self.fn, name):
                self.__dict__[name] = getattr(self.fn, name)
        self.__dict__["__wrapped__"] = self.fn

    def __repr__(self) -> str:
        return f"<Work {self.id!r}: {self.location}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here and now; no task, no middleware."""
        return self.fn(*args, **kwargs)

    @property
    def location(self) -> str:
        """Where the function stands, as ``module:qualname``."""
        plain = plain_function(self.fn)
        return f"{plain.__module__}:{plain.__qualname__}"

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """Params for a task of this work, without the context.

        Raises ``InvalidParams`` if they do not fit the function; type checkers say so before.
        """
        signature = self.signature
        return Bound(self, signature.encode(signature.arguments(args, kwargs)))


@dataclass(frozen=True, slots=True)
class Bound(Generic[R_co]):
    """A work with params: what ``schedule`` takes. ``params`` are JSON already, and checked."""

    work: Work[..., R_co]
    params: dict[str, Any]


class CoroutineWork(Work[P, R]):
    """A coroutine work that does not look at its context."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The coroutine, to be awaited."""
        answer: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)
        return answer


class ContextWork(Work[P, R]):
    """A coroutine work whose first parameter is its context."""

    def __call__(
        self, ctx: Context, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """The coroutine, to be awaited."""
        answer: Coroutine[Any, Any, R] = self.fn(ctx, *args, **kwargs)
        return answer


class PlainWork(Work[P, R]):
    """A plain function that does not look at its context."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns."""
        answer: R = self.fn(*args, **kwargs)
        return answer


class BlockingContextWork(Work[P, R]):
    """A plain function whose first parameter is its context."""

    def __call__(self, ctx: BlockingContext, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns."""
        answer: R = self.fn(ctx, *args, **kwargs)
        return answer


def make_work(
    fn: Callable[..., Any],
    *,
    id: str,  # noqa: A002
    aliases: tuple[str, ...],
    options: WorkOptions,
) -> Work[..., Any]:
    """Compile the function and decide its runner; refuses what could not run."""
    if isinstance(fn, Work):
        fn = fn.fn
    if not callable(fn):
        raise InvalidArgument(
            f"work {id!r} is a {type(fn).__name__}, not a function; register a def or async def",
            field="fn",
        )
    signature = Signature.of(fn)
    runner = _runner(fn, signature, options)
    if options.transactional and not signature.wants_context:
        kind = "Context" if signature.coroutine else "BlockingContext"
        raise InvalidArgument(
            f"{signature.function}() is transactional and has no context to complete through; "
            f"take ctx: {kind} as its first parameter",
            field="transactional",
        )
    kinds = _KINDS[signature.coroutine, signature.wants_context]
    return kinds(id=id, aliases=aliases, fn=fn, options=options, signature=signature, runner=runner)


_KINDS: dict[tuple[bool, bool], type[Work[..., Any]]] = {
    (True, True): ContextWork,
    (True, False): CoroutineWork,
    (False, True): BlockingContextWork,
    (False, False): PlainWork,
}


def _runner(fn: Callable[..., Any], signature: Signature, options: WorkOptions) -> Runner:
    name, asked = signature.function, options.runner
    if signature.coroutine:
        if asked in {"thread", "process"}:
            raise InvalidArgument(
                f"{name}() is a coroutine function and runs on the event loop; "
                f"write it as a plain def for runner={asked!r}",
                field="runner",
            )
        return "coroutine"
    if asked == "coroutine":
        raise InvalidArgument(
            f"{name}() is a plain function and would block the event loop; "
            "write it as async def, or leave runner out",
            field="runner",
        )
    if asked == "process":
        _check_process(fn, signature)
        return "process"
    return "thread"


def _check_process(fn: Callable[..., Any], signature: Signature) -> None:
    """Another process finds the function by ``module:qualname`` or not at all."""
    name = signature.function
    if signature.wants_context:
        raise InvalidArgument(
            f"{name}() takes a context, which cannot follow it into another process; "
            "drop the parameter, or leave runner out",
            field="runner",
        )
    qualname = getattr(fn, "__qualname__", "<no name>")
    if hasattr(fn, "__self__") or "<" in qualname or not getattr(fn, "__module__", None):
        raise InvalidArgument(
            f"{name}() cannot be imported by another process (a lambda, closure, method "
            "or object); define it with def at the top level of a module",
            field="runner",
        )


AsyncWithContext = Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]
AsyncWithout = Callable[P, Coroutine[Any, Any, R]]
PlainWithContext = Callable[Concatenate[BlockingContext, P], R]
PlainWithout = Callable[P, R]
