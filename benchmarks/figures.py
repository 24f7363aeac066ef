"""From measured values to the figures of a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def part(values: Sequence[float], share: float) -> float:
    """The value that this share of all values stays below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def in_ms(values: Sequence[float], *, prefix: str = "") -> dict[str, float]:
    """The 50th and 99th percentile of seconds, in milliseconds."""
    return {
        f"{prefix}p50_ms": round(part(values, 0.5) * 1000, 2),
        f"{prefix}p99_ms": round(part(values, 0.99) * 1000, 2),
    }


def medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each figure the median of the rounds, and in ``spread`` the least and the most.

    What is no number is taken from the last round.
    """
    figures: dict[str, Any] = dict(rounds[-1])
    spread: dict[str, list[float]] = {}
    for key, last in rounds[-1].items():
        values = [one[key] for one in rounds if _is_number(one.get(key))]
        if _is_number(last) and values:
            figures[key] = round(statistics.median(values), 3)
            spread[key] = [min(values), max(values)]
    return {**figures, "rounds": len(rounds), "spread": spread}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
