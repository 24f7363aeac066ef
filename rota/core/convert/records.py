"""Converters for classes with named fields: dataclasses, named tuples, typed dicts."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from rota.core.convert.shape import Converter, Misfit, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OBJECT: frozenset[type] = frozenset({dict})


def record(cls: type, fields: Mapping[str, Converter], required: frozenset[str]) -> Converter:
    """A class built from keyword arguments and read by attribute; defaults fill what is missing."""
    name = cls.__name__
    outward = [(field, item.encode, item.exact) for field, item in fields.items()]
    read = _reader(name, fields, required)

    def encode(value: Any) -> dict[str, Any]:
        # A subclass would come back as this class, without its own fields.
        if type(value) is not cls:
            raise wrong(value, f"a {name}")
        converted = {}
        for field, convert, exact in outward:
            item = getattr(value, field)
            if type(item) in exact:
                converted[field] = item
                continue
            try:
                converted[field] = convert(item)
            except Misfit as misfit:
                raise misfit.under(f".{field}")  # noqa: B904 - the same one, with its path
        return converted

    def decode(value: Any) -> Any:
        arguments = read(value)
        try:
            return cls(**arguments)
        except (ValueError, TypeError) as error:
            raise Misfit(f"was refused by {name}: {error}", f"pass a valid {name}") from error

    return Converter(name, encode, decode, _OBJECT, record=True, cls=cls)


def typed_dict(cls: type, fields: Mapping[str, Converter], required: frozenset[str]) -> Converter:
    """A dict with known keys, the same in Python and in JSON."""
    name = cls.__name__
    write = _reader(name, fields, required, outward=True)
    read = _reader(name, fields, required)
    return Converter(name, write, read, _OBJECT, record=True)


def _reader(
    name: str, fields: Mapping[str, Converter], required: frozenset[str], *, outward: bool = False
) -> Callable[[Any], dict[str, Any]]:
    """Check the keys of a dict and convert what they hold."""
    table = {
        field: (item.encode if outward else item.decode, item.exact)
        for field, item in fields.items()
    }

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(value, f"a dict like {name}" if outward else f"a JSON object like {name}")
        converted = {}
        for field, item in value.items():
            entry = table.get(field)
            if entry is None:
                raise _unknown(name, field, tuple(fields))
            if type(item) in entry[1]:
                converted[field] = item
                continue
            try:
                converted[field] = entry[0](item)
            except Misfit as misfit:
                raise misfit.under(f".{field}")  # noqa: B904
        if not required <= converted.keys():
            missing = next(field for field in fields if field in required - converted.keys())
            raise Misfit(f"is missing, and {name} needs it", "pass it").under(f".{missing}")
        return converted

    return read


def _unknown(name: str, field: object, known: tuple[str, ...]) -> Misfit:
    close = get_close_matches(str(field), known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(known) or "no fields"
    return Misfit(f"is unknown to {name}", f"{hint}it has {listed}").under(f".{field}")
