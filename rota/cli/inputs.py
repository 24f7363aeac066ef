"""How instants, spans, and named values are written on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from rota.core.clock import LONGEST

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")


def span_of(value: Any) -> float:
    """A duration: seconds, or numbers with s, m, h, d, w, as in ``90``, ``15m``, ``1d12h``."""
    span = value if isinstance(value, float) else read_span(str(value))
    if span is None or span > LONGEST:
        raise click.BadParameter(f"{value!r} is no duration; write 90, 15m, 2h, 7d or 1d12h")
    return span


def instant_of(value: Any) -> datetime:
    """An ISO 8601 instant with its offset."""
    return _instant(value, "")


def past_of(value: Any) -> datetime:
    """The same, or a span that is counted back from now."""
    span = read_span(value) if isinstance(value, str) else None
    if span is not None and span <= LONGEST:
        return datetime.now(UTC) - timedelta(seconds=span)
    return _instant(value, ", or how long ago, as in 2h")


def json_object(value: Any) -> dict[str, Any]:
    """One JSON object."""
    try:
        read = value if isinstance(value, dict) else json.loads(value)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise click.BadParameter(f"{value!r} is no JSON object; write it like '{{\"name\": 7}}'")
    return read


def pair_of(value: Any) -> tuple[str, Any]:
    """``name=value``; the value is JSON where it reads as such, else the text itself."""
    if isinstance(value, tuple):
        return value[0], value[1]
    name, equals, text = value.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{value!r} names no value; write name=value")
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError):
        return name, text


def _instant(value: Any, else_: str) -> datetime:
    if isinstance(value, datetime):
        return value
    fact = f"{value!r} is no instant"
    try:
        instant = datetime.fromisoformat(value)
        if instant.utcoffset() is not None:
            return instant.astimezone(UTC)
        fact = f"{value!r} does not say its offset"
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter(f"{fact}; write it like 2026-12-01T08:00+01:00 or …T07:00Z{else_}")


def read_span(text: str) -> float | None:
    """The seconds of a span's text; None if it is none.

    >>> read_span("1h30m"), read_span("90"), read_span("soon")
    (5400.0, 90.0, None)
    """
    if not (text.isascii() and _SPAN.fullmatch(text)):
        return None
    return float(sum(float(n) * _UNITS.get(unit, 1) for n, unit in _PART.findall(text)))


def given(**options: Any) -> dict[str, Any]:
    """The options that were said; what was not is left to whoever inherits it."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def merged(whole: dict[str, Any] | None, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The object given whole, with the pairs over it."""
    return {**(whole or {}), **dict(pairs)}
