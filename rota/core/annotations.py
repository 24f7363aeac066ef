"""Reading a function: its name, its resolved annotations, its kind, its leading context."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from typing import TYPE_CHECKING, Any

from rota.core.context import BlockingContext, Context
from rota.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ContextClass = type[Context] | type[BlockingContext]

_CONTEXTS: Mapping[str, ContextClass] = {"Context": Context, "BlockingContext": BlockingContext}
_CONTEXT_NAME = re.compile(r"""['"]?(?:\w+\.)*(Context|BlockingContext)['"]?""")


def plain_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The ``def`` behind partials, methods and callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not hasattr(fn, "__qualname__") and callable(fn):
        fn = type(fn).__call__
    return typing.cast("Callable[..., Any]", getattr(fn, "__func__", fn))


def callable_name(fn: Callable[..., Any]) -> str:
    """How messages call it."""
    name = getattr(plain_function(fn), "__qualname__", repr(fn))
    return name.rpartition("<locals>.")[2]


def is_coroutine(fn: Callable[..., Any]) -> bool:
    """Whether calling it answers a coroutine; generators are refused."""
    inner = plain_function(fn)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidArgument(
            f"{callable_name(fn)} is a generator, which ends where it first yields; "
            "return its result instead",
            field="fn",
        )
    return inspect.iscoroutinefunction(inner)


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Annotations with strings resolved, also where ``Context`` exists for type checkers only."""
    inner = plain_function(fn)
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        scope = {**_CONTEXTS, **getattr(inspect.unwrap(inner), "__globals__", {})}
        return {
            name: _resolved(annotation, scope, callable_name(fn), name)
            for name, annotation in inspect.get_annotations(inner).items()
        }


def _resolved(annotation: Any, scope: dict[str, Any], function: str, name: str) -> Any:
    """One annotation by itself; a return type nobody can resolve counts as ``Any``."""
    try:
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        return typing.get_type_hints(holder, scope, include_extras=True)[name]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        text = annotation.__forward_arg__ if hasattr(annotation, "__forward_arg__") else annotation
        found = _CONTEXT_NAME.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            return _CONTEXTS[found[1]]
        if name == "return":
            return Any
        raise InvalidArgument(
            f"the annotation of {name} in {function}() cannot be resolved ({error}); "
            "import the type at run time, at module level",
            field=name,
        ) from error


def context_of(
    parameters: Sequence[inspect.Parameter],
    hints: Mapping[str, Any],
    *,
    function: str,
    coroutine: bool,
) -> ContextClass | None:
    """The class of the leading context; one elsewhere, or of the wrong kind, is refused."""
    found: ContextClass | None = None
    for index, parameter in enumerate(parameters):
        name, wanted = parameter.name, _context_class(hints.get(parameter.name))
        if index == 0:
            _check_first(parameter, hints, function=function)
        if wanted is None:
            continue
        if index or parameter.kind not in _BY_PLACE:
            raise InvalidArgument(
                f"{name} of {function}() is a {wanted.__name__} and not the first parameter; "
                "put it first",
                field=name,
            )
        found = wanted
    if found is not None:
        _check_kind(found, parameters[0].name, function=function, coroutine=coroutine)
    return found


def _context_class(hint: Any) -> ContextClass | None:
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if not isinstance(hint, type):
        return None
    if issubclass(hint, BlockingContext):
        return BlockingContext
    return Context if issubclass(hint, Context) else None


def _check_first(parameter: inspect.Parameter, hints: Mapping[str, Any], *, function: str) -> None:
    if parameter.name in hints:
        return
    if parameter.name == "ctx":
        raise InvalidArgument(
            f"ctx of {function}() has no annotation, so it counts as a param of the task; "
            "annotate it as Context (in async def) or BlockingContext (in def)",
            field="ctx",
        )
    if parameter.name in {"self", "cls"}:
        raise InvalidArgument(
            f"{function} is a method without its object; register the bound method of an instance",
            field=parameter.name,
        )


def _check_kind(found: ContextClass, name: str, *, function: str, coroutine: bool) -> None:
    fitting = Context if coroutine else BlockingContext
    if found is not fitting:
        kind = "a coroutine function" if coroutine else "a plain function, which runs in a thread"
        raise InvalidArgument(
            f"{function}() is {kind}, and its {name} is a {found.__name__}; "
            f"annotate it as {fitting.__name__}",
            field=name,
        )


_BY_PLACE = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
