"""Converters for pydantic and msgspec classes; neither is imported unless such a class is met."""

from __future__ import annotations

import re
from typing import Any

from rota.core.convert.shape import JSON_TYPES, Converter, Misfit, NoForm, wrong

_OBJECT: frozenset[type] = frozenset({dict})
_PLACE = re.compile(r"^(?P<fact>.*) - at `(?:key in )?\$(?P<path>.*)`$", re.DOTALL)


def foreign(cls: type) -> Converter | None:
    """The converter of a pydantic model or a msgspec struct; None for any other class."""
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__}
    if ("pydantic", "BaseModel") in bases:
        return _pydantic(cls)
    if ("msgspec", "Struct") in bases:
        return _msgspec(cls)
    return None


def _pydantic(cls: Any) -> Converter:
    name = cls.__name__
    if not hasattr(cls, "model_validate"):
        raise NoForm(f"{name} is a model of pydantic 1", "use pydantic 2, or a dataclass")
    rooted = any(base.__name__ == "RootModel" for base in cls.__mro__)

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            raise wrong(value, f"a {name}")
        return value.model_dump(mode="json", by_alias=True, round_trip=True)

    def decode(value: Any) -> Any:
        try:
            return cls.model_validate(value)
        except ValueError as error:
            raise _first_error(error, name) from error

    return Converter(name, encode, decode, JSON_TYPES if rooted else _OBJECT, record=True)


def _first_error(error: Any, name: str) -> Misfit:
    """Pydantic's first complaint, without the value it shows."""
    first = error.errors(include_url=False, include_input=False)[0]
    misfit = Misfit(f"does not fit {name}: {first['msg']}", f"pass a valid {name}")
    for step in reversed(first["loc"]):
        misfit.under(f"[{step}]" if isinstance(step, int) else f".{step}")
    return misfit


def _msgspec(cls: Any) -> Converter:
    import msgspec  # type: ignore[import-not-found, unused-ignore]

    name = cls.__name__

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            raise wrong(value, f"a {name}")
        return msgspec.to_builtins(value, str_keys=True)

    def decode(value: Any) -> Any:
        try:
            return msgspec.convert(value, cls, str_keys=True)
        except msgspec.ValidationError as error:
            raise _placed(str(error), name) from error

    listed = cls.__struct_config__.array_like
    kinds = frozenset({list}) if listed else _OBJECT
    return Converter(name, encode, decode, kinds, record=True)


def _placed(message: str, name: str) -> Misfit:
    """Msgspec's message, with the path it ends on moved to where ours stands."""
    found = _PLACE.match(message)
    fact, place = (found["fact"], found["path"]) if found else (message, "")
    return Misfit(f"does not fit {name}: {fact}", f"pass a valid {name}").under(place)
