"""What commands print: JSON with the API's names, or text that is safe on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from rota.core.facts import plain


def answer(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """One of the two, on stdout."""
    click.echo(json.dumps(plain(facts), ensure_ascii=False) if as_json else text)


def moment(value: datetime | None) -> str:
    """An instant to the second, in UTC."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def span(seconds: float) -> str:
    """A duration in its two largest units.

    >>> span(0.25), span(75), span(93_600)
    ('250 ms', '1 m 15 s', '1 d 2 h')
    """
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "line"), counted(20_000, "line")
    ('1 line', '20,000 lines')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown(value: object) -> str:
    """Text without what would move the cursor or end the line."""
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def lines(text: str) -> list[str]:
    """The lines of a stored text, each safe to print."""
    return [shown(line.expandtabs(4)) for line in text.splitlines()]
