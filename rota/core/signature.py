"""What a function takes, and its params on the way into and out of JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from rota.core.annotations import (
    ContextClass,
    callable_name,
    context_of,
    hints_of,
    is_coroutine,
)
from rota.core.convert import Converter, NoForm, converter, result_converter
from rota.errors import InvalidArgument, InvalidParams

_Entry = tuple[Converter, frozenset[type]]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One parameter a task's params may fill."""

    name: str
    annotation: Any
    converter: Converter
    required: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Signature:
    """A function as the registry sees it, compiled once.

    ``context`` is the class of the leading context parameter, or None. ``extra``
    converts what ``**kwargs`` takes. ``result`` converts what the function returns;
    a return type without a JSON form counts as ``Any``.
    """

    function: str
    parameters: tuple[Parameter, ...]
    context: ContextClass | None
    coroutine: bool
    extra: Converter | None
    returns: Any
    result: Converter
    _names: tuple[str, ...] = field(repr=False)  #: those that may be given by place
    _required: frozenset[str] = field(repr=False)
    _table: Mapping[str, _Entry] = field(repr=False)
    _reserved: str | None = field(repr=False)  #: the context's name, which ``**kwargs`` cannot take

    @classmethod
    def of(cls, fn: Callable[..., Any]) -> Signature:
        """Compile the function; ``InvalidArgument`` names the parameter that cannot be had."""
        return _compile(fn)

    @property
    def wants_context(self) -> bool:
        """Whether the first argument of a call is the context."""
        return self.context is not None

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments as a call would bind them, all by name."""
        if not args:
            return kwargs
        if len(args) > len(self._names):
            raise InvalidParams(
                f"{self.function}() got {len(args)} positional arguments; {self._takes()}",
                field="params",
            )
        placed = dict(zip(self._names, args, strict=False))
        for name in placed:
            if name in kwargs:
                raise InvalidParams(
                    f"{self.function}() got {name} twice, by place and by name; pass it once",
                    field=name,
                )
        return {**placed, **kwargs}

    def encode(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON form of Python arguments; those left to their defaults are not stored."""
        params = {}
        for name, value in kwargs.items():
            convert, exact = self._table.get(name) or self._other(name)
            params[name] = value if type(value) in exact else convert.to_json(value, name)
        if not self._required <= params.keys():
            raise self._missing(params)
        return params

    def adopt(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Params that came by work id: each a Python value or already its JSON form.

        Answers the same JSON as :meth:`encode` does for the Python values.
        """
        if type(params) is not dict and not isinstance(params, Mapping):
            raise InvalidParams(
                f"params must be a dict, not {type(params).__name__}; {self._takes()}",
                field="params",
            )
        adopted = {}
        for name, value in params.items():
            convert, exact = self._table.get(name) or self._other(name)
            adopted[name] = value if type(value) in exact else _adopted(convert, value, name)
        if not self._required <= adopted.keys():
            raise self._missing(adopted)
        return adopted

    def decode(self, params: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments for a call from stored params.

        Raises ``InvalidParams`` if they no longer fit the function as it is today.
        """
        try:
            arguments = {}
            for name, value in params.items():
                convert, exact = self._table.get(name) or self._other(name)
                arguments[name] = value if type(value) in exact else convert.from_json(value, name)
            if not self._required <= arguments.keys():
                raise self._missing(arguments)
        except InvalidParams as error:
            raise InvalidParams(
                f"stored params no longer fit {self.function}(): {error}; give new parameters "
                "a default, or register what changed under a new work id",
                field=error.field,
            ) from error
        return arguments

    def _other(self, name: object) -> _Entry:
        """What ``**kwargs`` takes, or the error for a name the function does not know."""
        if self.extra is not None and isinstance(name, str) and name != self._reserved:
            return self.extra, self.extra.exact
        close = get_close_matches(str(name), list(self._table), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InvalidParams(
            f"{self.function}() has no parameter {name!r}; {hint}{self._takes()}", field=str(name)
        )

    def _missing(self, given: Mapping[str, Any]) -> InvalidParams:
        names = [p.name for p in self.parameters if p.required and p.name not in given]
        return InvalidParams(
            f"{self.function}() needs {', '.join(names)}; {self._takes()}", field=names[0]
        )

    def _takes(self) -> str:
        shown = [
            f"{p.name}: {p.converter.name}{'' if p.required else ' (optional)'}"
            for p in self.parameters
        ]
        if self.extra is not None:
            shown.append(f"any other name: {self.extra.name}")
        return f"it takes {', '.join(shown)}" if shown else "it takes no params"


def _adopted(convert: Converter, value: Any, name: str) -> Any:
    try:
        return convert.to_json(value, name)
    except InvalidParams as as_value:
        try:
            return convert.to_json(convert.from_json(value, name), name)
        except InvalidParams as as_json:
            # The deeper path is the reading that got further.
            raise (as_json if len(as_json.field) >= len(as_value.field) else as_value) from None


def _compile(fn: Callable[..., Any]) -> Signature:
    function = callable_name(fn)
    try:
        listed = list(inspect.signature(fn).parameters.values())
    except (ValueError, TypeError) as error:
        raise InvalidArgument(
            f"{function} has no signature Python can read; wrap it in a def", field="fn"
        ) from error
    hints = hints_of(fn)
    coroutine = is_coroutine(fn)
    context = context_of(listed, hints, function=function, coroutine=coroutine)
    rest = listed[1:] if context else listed
    made = {one.name: _parameter(one, hints, function) for one in rest}
    extra = next((made.pop(one.name) for one in rest if one.kind is one.VAR_KEYWORD), None)
    returns = hints.get("return", inspect.Parameter.empty)
    return Signature(
        function=function,
        parameters=tuple(made.values()),
        context=context,
        coroutine=coroutine,
        extra=extra.converter if extra else None,
        returns=returns,
        result=result_converter(returns),
        _names=tuple(one.name for one in rest if one.kind is one.POSITIONAL_OR_KEYWORD),
        _required=frozenset(one.name for one in made.values() if one.required),
        _table={name: (one.converter, one.converter.exact) for name, one in made.items()},
        _reserved=listed[0].name if context else None,
    )


def _parameter(one: inspect.Parameter, hints: Mapping[str, Any], function: str) -> Parameter:
    """Compile one parameter; refused are those that params, which have names, cannot fill."""
    if one.kind is one.POSITIONAL_ONLY:
        raise InvalidArgument(
            f"{one.name} of {function}() is positional-only, and params go by name; "
            "remove the / from the def",
            field=one.name,
        )
    if one.kind is one.VAR_POSITIONAL:
        raise InvalidArgument(
            f"*{one.name} of {function}() takes arguments without names, and params go by name; "
            f"take a list: {one.name}: list[...]",
            field=one.name,
        )
    annotation = hints.get(one.name, one.empty)
    try:
        made = converter(annotation)
    except NoForm as refusal:
        raise InvalidArgument(
            f"{one.name} of {function}(): {refusal.fact}; {refusal.remedy}", field=one.name
        ) from refusal
    return Parameter(one.name, annotation, made, one.default is one.empty)
