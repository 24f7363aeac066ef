"""What commands print: JSON with the API's names, or text that is safe on a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import click

from rota.core.task import Attempt, Task


def answer(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """One of the two, on stdout."""
    click.echo(json.dumps(plain(facts), ensure_ascii=False) if as_json else text)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: ISO instants, seconds, objects by their fields' names."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {
                field.name: plain(getattr(value, field.name))
                for field in fields(value)
                if not field.name.startswith("_")
            }
        case _:
            return value


def task_facts(task: Task) -> dict[str, Any]:
    """A task's fields and its status."""
    return {**plain(task), "status": task.status}


def attempt_facts(attempt: Attempt) -> dict[str, Any]:
    """An attempt's fields but for the task's id."""
    facts: dict[str, Any] = plain(attempt)
    del facts["task_id"]
    return facts


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
