"""Converters for lists, tuples, sets and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rota.core.convert.shape import NOTHING, Convert, Converter, Misfit, NoForm, wrong

_LIST: frozenset[type] = frozenset({list})
_OBJECT: frozenset[type] = frozenset({dict})


def _each(convert: Convert, exact: frozenset[type]) -> Callable[[Any], list[Any]]:
    """Convert every item; one C loop decides when none of them needs it."""

    def run(values: Any) -> list[Any]:
        if exact and exact.issuperset(map(type, values)):
            return list(values)
        converted: list[Any] = []
        try:
            for item in values:
                converted.append(convert(item))  # noqa: PERF401 - the length tells who failed
        except Misfit as misfit:
            raise misfit.under(f"[{len(converted)}]")  # noqa: B904 - the same one, with its path
        return converted

    return run


def listed(name: str, item: Converter, *, accept: tuple[type, ...]) -> Converter:
    """A JSON array of any length that comes back as a list."""
    out, back = _each(item.encode, item.exact), _each(item.decode, item.exact)

    def encode(value: Any) -> list[Any]:
        if isinstance(value, accept) and not isinstance(value, (str, bytes, bytearray)):
            return out(value)
        raise wrong(value, f"a {name}")

    def decode(value: Any) -> list[Any]:
        if type(value) is list:
            return back(value)
        raise wrong(value, "a list")

    return Converter(f"{name}[{item.name}]", encode, decode, _LIST)


def tupled(item: Converter) -> Converter:
    """A JSON array of any length that comes back as a tuple."""
    base = listed("tuple", item, accept=(tuple,))

    def decode(value: Any) -> tuple[Any, ...]:
        return tuple(base.decode(value))

    return Converter(f"tuple[{item.name}, ...]", base.encode, decode, _LIST)


def fixed(items: Sequence[Converter]) -> Converter:
    """A tuple with one type per place."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"
    size = len(items)

    def walk(value: Any, converts: Sequence[Convert]) -> list[Any]:
        if len(value) != size:
            raise Misfit(f"has {len(value)} items, not {size}", f"pass {name}")
        converted: list[Any] = []
        try:
            for convert, item in zip(converts, value, strict=True):
                converted.append(convert(item))
        except Misfit as misfit:
            raise misfit.under(f"[{len(converted)}]")  # noqa: B904
        return converted

    outward = [item.encode for item in items]
    inward = [item.decode for item in items]

    def encode(value: Any) -> list[Any]:
        if isinstance(value, tuple):
            return walk(value, outward)
        raise wrong(value, "a tuple")

    def decode(value: Any) -> tuple[Any, ...]:
        if type(value) is list:
            return tuple(walk(value, inward))
        raise wrong(value, "a list")

    return Converter(name, encode, decode, _LIST)


def collected(item: Converter, kind: type[set[Any] | frozenset[Any]]) -> Converter:
    """A JSON array without order; written sorted, so that equal sets make equal text."""
    base = listed(kind.__name__, item, accept=(set, frozenset))

    def encode(value: Any) -> list[Any]:
        encoded = base.encode(value)
        try:
            return sorted(encoded)
        except TypeError:
            return sorted(encoded, key=repr)

    def decode(value: Any) -> Any:
        try:
            return kind(base.decode(value))
        except TypeError as error:
            raise Misfit(f"has items no {kind.__name__} can hold", "use a list") from error

    return Converter(base.name, encode, decode, _LIST)


def mapped(key: Converter, item: Converter) -> Converter:
    """A JSON object with keys of the caller's; keys that are numbers are written as text."""
    key_out, key_in = _keys(key)
    exact = item.exact if str in key.exact else NOTHING

    def walk(value: Any, keys: Convert, convert: Convert) -> dict[str, Any]:
        converted = {}
        for name, one in value.items():
            try:
                new = keys(name)
            except Misfit as misfit:
                misfit.fact = f"has a key that {misfit.fact}"
                raise
            try:
                converted[new] = convert(one)
            except Misfit as misfit:
                raise misfit.under(f".{name}")  # noqa: B904
        return converted

    def simple(value: Any) -> bool:
        return bool(exact) and exact.issuperset(map(type, value.values()))

    def encode(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise wrong(value, "a mapping")
        if simple(value) and all(type(name) is str for name in value):
            return dict(value)
        return walk(value, key_out, item.encode)

    def decode(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise wrong(value, "a JSON object")
        return value if simple(value) else walk(value, key_in, item.decode)

    return Converter(f"dict[{key.name}, {item.name}]", encode, decode, _OBJECT)


def _keys(key: Converter) -> tuple[Convert, Convert]:
    if key.kinds == {str}:
        return key.encode, key.decode
    if key.kinds != {int}:
        raise NoForm(
            f"{key.name} cannot be the key of a JSON object", "use str, int, UUID or an enum as key"
        )

    def encode(value: Any) -> str:
        return str(key.encode(value))

    def decode(value: str) -> Any:
        try:
            number = int(value)
        except ValueError as error:
            raise Misfit("is not a whole number", "write the number as text") from error
        return key.decode(number)

    return encode, decode


def nullable(item: Converter) -> Converter:
    """The type, or None: by far the most frequent union, so it has no search."""
    inner_out, inner_in = item.encode, item.decode

    def encode(value: Any) -> Any:
        return None if value is None else inner_out(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner_in(value)

    none = frozenset({type(None)})
    exact = item.exact | none if item.exact else NOTHING
    return Converter(
        f"{item.name} | None", encode, decode, item.kinds | none, exact or none, item.record
    )
