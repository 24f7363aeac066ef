"""Converters for single values: numbers, text, times, ids, and what has no annotation."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode, b64encode
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import PurePath
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rota.core.convert.shape import JSON_TYPES, NOTHING, Convert, Converter, Misfit, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT: frozenset[type] = frozenset({str})


def _none(value: Any) -> None:
    if value is not None:
        raise wrong(value, "None")


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise wrong(value, "a bool")


def _int(value: Any) -> int:
    if isinstance(value, int) and value is not True and value is not False:
        return int(value)
    raise wrong(value, "an int")


def _float(value: Any) -> float:
    if not isinstance(value, (float, int)) or value is True or value is False:
        raise wrong(value, "a float")
    try:
        number = float(value)
    except OverflowError as error:
        raise Misfit("is an int too large for a float", "annotate it as int") from error
    if math.isfinite(number):
        return number
    raise Misfit(f"is {number}, which JSON has no form for", "pass a finite number or None")


def _str(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # an enum's own __str__ may say something else
    raise wrong(value, "a str")


def _bytes_out(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return b64encode(value).decode("ascii")
    raise wrong(value, "bytes")


def _bytes_in(value: Any) -> bytes:
    if type(value) is not str:
        raise wrong(value, "base64 text")
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Misfit("is not base64", "pass base64 text") from error


def _datetime_out(value: Any) -> str:
    if not isinstance(value, datetime):
        raise wrong(value, "a datetime")
    return _aware(value).isoformat()


def _aware(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise Misfit(
            "is a datetime without a time zone, which names no instant",
            "pass an aware one, such as datetime.now(UTC)",
        )
    return value


def _date_out(value: Any) -> str:
    if isinstance(value, datetime):
        raise wrong(value, "a date", "pass value.date(), or annotate it as datetime")
    if not isinstance(value, date):
        raise wrong(value, "a date")
    return value.isoformat()


def _time_out(value: Any) -> str:
    if not isinstance(value, time):
        raise wrong(value, "a time")
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Misfit(
            "is a time whose zone has no offset without a date",
            "pass a time without a zone, and the zone's name beside it",
        )
    return value.isoformat()


def _timedelta_out(value: Any) -> float:
    if not isinstance(value, timedelta):
        raise wrong(value, "a timedelta")
    return value.total_seconds()


def _timedelta_in(value: Any) -> timedelta:
    if type(value) not in {int, float}:
        raise wrong(value, "a number of seconds")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise Misfit("is too long for a timedelta", "pass fewer seconds") from error


def _uuid_out(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise wrong(value, "a UUID")


def _decimal_out(value: Any) -> str:
    if not isinstance(value, Decimal):
        raise wrong(value, "a Decimal")
    return str(_finite(value))


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise Misfit(f"is {value}, not a number", "pass a finite Decimal or None")
    return value


def _decimal_in(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is not str:
        raise wrong(value, "a decimal number as text")
    try:
        return _finite(Decimal(value))
    except InvalidOperation as error:
        raise Misfit("is not a decimal number", "pass text such as '12.50'") from error


def _parsed(parse: Callable[[str], Any], wanted: str) -> Convert:
    """Decode text with a parser that raises ``ValueError``."""

    def decode(value: Any) -> Any:
        if type(value) is not str:
            raise wrong(value, wanted)
        try:
            return parse(value)
        except ValueError as error:
            raise Misfit(f"is not {wanted}", f"pass {wanted}") from error

    return decode


def _text(name: str, encode: Convert, decode: Convert) -> Converter:
    return Converter(name, encode, decode, _TEXT)


def _native(name: str, check: Convert, kind: type) -> Converter:
    return Converter(name, check, check, frozenset({kind}), frozenset({kind}))


def path(cls: type[PurePath]) -> Converter:
    """Text, as the platform writes paths."""

    def encode(value: Any) -> str:
        if isinstance(value, PurePath):
            return str(value)
        raise wrong(value, f"a {cls.__name__}")

    return _text(cls.__name__, encode, _parsed(cls, "a path as text"))


_SCALARS: frozenset[type] = frozenset({NoneType, bool, int, str})


def _json(value: Any) -> Any:
    """What JSON can say is passed as it is; ``json.dumps`` alone would not name the path."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        _json_object(value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if type(item) not in _SCALARS:
                try:
                    _json(item)
                except Misfit as misfit:
                    raise misfit.under(f"[{index}]")  # noqa: B904 - the same one, with its path
    elif not isinstance(value, (str, int)):
        raise Misfit(
            f"is a {kind.__name__}, which JSON has no form for",
            "annotate the function's parameter with its type, or pass plain values",
        )
    return value


def _json_object(value: dict[Any, Any]) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            raise Misfit(
                f"has a key of type {type(key).__name__}, and JSON only knows text",
                "use str keys, or annotate the parameter as dict with its key type",
            )
        if type(item) not in _SCALARS:
            try:
                _json(item)
            except Misfit as misfit:
                raise misfit.under(f".{key}")  # noqa: B904


def _as_is(value: Any) -> Any:
    return value


ANYTHING = Converter("Any", _json, _as_is, JSON_TYPES, _SCALARS)


def _aware_from(text: str) -> datetime:
    return _aware(datetime.fromisoformat(text))


def plain(annotation: object) -> Converter | None:
    """The converter of a type that has exactly one JSON form, if it is one of those."""
    try:
        return _PLAIN.get(annotation)
    except TypeError:
        return None  # not hashable, so not a plain type


_PLAIN: dict[object, Converter] = {
    None: _native("None", _none, NoneType),
    NoneType: _native("None", _none, NoneType),
    bool: _native("bool", _bool, bool),
    int: _native("int", _int, int),
    str: _native("str", _str, str),
    float: Converter("float", _float, _float, frozenset({float}), NOTHING),
    bytes: _text("bytes", _bytes_out, _bytes_in),
    datetime: _text("datetime", _datetime_out, _parsed(_aware_from, "an ISO 8601 datetime")),
    date: _text("date", _date_out, _parsed(date.fromisoformat, "an ISO 8601 date")),
    time: _text("time", _time_out, _parsed(time.fromisoformat, "an ISO 8601 time")),
    timedelta: Converter("timedelta", _timedelta_out, _timedelta_in, frozenset({float})),
    UUID: _text("UUID", _uuid_out, _parsed(UUID, "a UUID as text")),
    Decimal: _text("Decimal", _decimal_out, _decimal_in),
    Any: ANYTHING,
    object: ANYTHING,
}
