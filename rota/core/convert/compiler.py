"""Which converter an annotation gets."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import MutableSet as AbstractMutableSet
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from rota.core.convert import choices, containers, records
from rota.core.convert.foreign import foreign
from rota.core.convert.plain import ANYTHING, path, plain
from rota.core.convert.shape import JSON_TYPES, Converter, NoForm
from rota.core.outcome import RAISABLE, Done


def converter(annotation: Any) -> Converter:
    """Compile the annotation; raises :class:`NoForm` for a type that has no JSON form.

    An unannotated parameter (``inspect.Parameter.empty``) takes whatever JSON can say.
    """
    return _Compiler().compile(annotation)


def result_converter(annotation: Any) -> Converter:
    """The converter of a return type; outcomes are left out, the unknown counts as Any."""
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    plain_members = [one for one in members if one not in (*RAISABLE, Done)]
    try:
        return converter(Union[tuple(plain_members)]) if plain_members else ANYTHING  # noqa: UP007
    except NoForm:
        return ANYTHING


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


class _Compiler:
    """One run over a type; remembers what it is inside of, since types may contain themselves."""

    def __init__(self) -> None:
        self._open: dict[Any, list[Converter]] = {}

    def compile(self, annotation: Any) -> Converter:
        if annotation is inspect.Parameter.empty:
            return ANYTHING
        found = plain(annotation)
        if found is not None:
            return found
        if hasattr(annotation, "__supertype__"):
            return self.compile(annotation.__supertype__)
        if type(annotation).__name__ == "TypeAliasType":
            return self._once(annotation, lambda: self.compile(annotation.__value__))
        origin = typing.get_origin(annotation)
        if origin is Annotated or origin in _MARKS or getattr(origin, "__name__", "") == "ReadOnly":
            return self.compile(typing.get_args(annotation)[0])
        if origin is not None:
            return self._generic(annotation, origin, typing.get_args(annotation))
        if annotation in _BARE:
            return self._generic(annotation, annotation, ())
        if isinstance(annotation, type):
            return self._class(annotation)
        raise _no_form(annotation)

    def _generic(self, annotation: Any, origin: Any, args: tuple[Any, ...]) -> Converter:
        if origin is Literal:
            return choices.literal(args)
        if _is_union(annotation):
            return self._union(args)
        if origin is tuple:
            return self._tuple(args)
        if origin in _SETS:
            return containers.collected(self._item(args), _SETS[origin])
        if origin in _LISTS:
            name, accept = _LISTS[origin]
            return containers.listed(name, self._item(args), accept=accept)
        if origin in _MAPPINGS:
            key, item = args or (str, Any)
            return containers.mapped(self.compile(str if key is Any else key), self.compile(item))
        raise _no_form(annotation)

    def _item(self, args: tuple[Any, ...]) -> Converter:
        return self.compile(args[0]) if args else ANYTHING

    def _union(self, args: tuple[Any, ...]) -> Converter:
        rest = [arg for arg in args if arg is not NoneType]
        if len(rest) == 1:
            return containers.nullable(self.compile(rest[0]))
        members = choices.united([self.compile(arg) for arg in rest])
        return containers.nullable(members) if len(rest) < len(args) else members

    def _tuple(self, args: tuple[Any, ...]) -> Converter:
        if not args:
            # Bare ``tuple`` and ``tuple[()]`` look alike here; the empty one says nothing.
            return containers.tupled(ANYTHING)
        if len(args) == 2 and args[1] is Ellipsis:
            return containers.tupled(self.compile(args[0]))
        return containers.fixed([self.compile(arg) for arg in args])

    def _class(self, cls: type) -> Converter:
        if issubclass(cls, Enum):
            return choices.enumerated(cls)
        if issubclass(cls, PurePath):
            return path(cls)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._once(cls, lambda: self._typed_dict(cls))
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._once(cls, lambda: self._named_tuple(cls))
        made = foreign(cls)
        if made is not None:
            return made
        if dataclasses.is_dataclass(cls):
            return self._once(cls, lambda: self._dataclass(cls))
        raise _no_form(cls)

    def _dataclass(self, cls: Any) -> Converter:
        hints = _hints(cls)
        own = [field for field in dataclasses.fields(cls) if field.init]
        items = {field.name: self._field(cls, field.name, hints) for field in own}
        required = frozenset(
            field.name
            for field in own
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        return records.record(cls, items, required)

    def _named_tuple(self, cls: Any) -> Converter:
        hints = _hints(cls)
        items = {name: self._field(cls, name, hints) for name in cls._fields}
        return records.record(cls, items, frozenset(items) - cls._field_defaults.keys())

    def _typed_dict(self, cls: Any) -> Converter:
        hints = _hints(cls)
        required = set(cls.__required_keys__)
        for name, hint in hints.items():
            # Under ``from __future__ import annotations`` the class itself does not know.
            mark = typing.get_origin(hint)
            if mark is Required:
                required.add(name)
            elif mark is NotRequired:
                required.discard(name)
        items = {name: self._field(cls, name, hints) for name in hints}
        return records.typed_dict(cls, items, frozenset(required))

    def _field(self, cls: type, name: str, hints: Mapping[str, Any]) -> Converter:
        try:
            return self.compile(hints.get(name, inspect.Parameter.empty))
        except NoForm as refusal:
            raise NoForm(f"{cls.__name__}.{name}: {refusal.fact}", refusal.remedy) from None

    def _once(self, key: Any, build: Callable[[], Converter]) -> Converter:
        """Build it; where it meets itself while being built, refer to the finished one."""
        if key in self._open:
            return _later(key, self._open[key])
        self._open[key] = finished = []
        try:
            finished.append(build())
        finally:
            del self._open[key]
        return finished[0]


def _later(key: Any, finished: list[Converter]) -> Converter:
    return Converter(
        key.__name__,
        lambda value: finished[0].encode(value),  # noqa: PLW0108 - not built yet
        lambda value: finished[0].decode(value),  # noqa: PLW0108
        frozenset({dict}) if isinstance(key, type) else JSON_TYPES,
        record=isinstance(key, type),
    )


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise NoForm(
            f"an annotation of {cls.__name__} cannot be resolved ({error})",
            "import the name at run time, at module level",
        ) from error


def _no_form(annotation: Any) -> NoForm:
    name = getattr(annotation, "__qualname__", None) if isinstance(annotation, type) else None
    return NoForm(
        f"{name or annotation} has no JSON form rota knows",
        "use a dataclass, TypedDict, pydantic model or msgspec Struct, "
        "or pass an id and load the object in the work",
    )


_MARKS = (Required, NotRequired)
_SETS: dict[Any, Any] = {
    set: set,
    frozenset: frozenset,
    AbstractSet: set,
    AbstractMutableSet: set,
}
_LISTS: dict[Any, tuple[str, tuple[type, ...]]] = {
    list: ("list", (list,)),
    Sequence: ("Sequence", (list, tuple)),
    MutableSequence: ("list", (list,)),
}
_MAPPINGS = (dict, Mapping, MutableMapping)
_BARE = (list, tuple, set, frozenset, dict, *_MAPPINGS, *_LISTS, *_SETS)
