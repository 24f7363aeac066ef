"""A fixed interval, anchored: no drift, and its phase survives downtime."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from rota.core.clock import Seconds, seconds
from rota.errors import InvalidArgument, InvalidTrigger
from rota.triggers.trigger import only_known, stored_instant, utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(milliseconds=1)
_LONGEST = timedelta(days=36_525)
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@dataclass(frozen=True, slots=True, init=False)
class Every:
    """Every so many seconds (or ``timedelta``), counted from ``anchor``.

    Fire times are ``anchor + n · interval`` whatever happened in between: lateness
    never adds up. Without an anchor they count from 1970-01-01 UTC, so every node and
    every restart agrees on them. The anchor sets the phase, before it as after it.
    The interval is rounded to the microsecond; from 1 ms to 100 years.

    >>> Every(60).next(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC))
    datetime.datetime(2026, 1, 1, 12, 1, tzinfo=datetime.timezone.utc)
    """

    interval: timedelta
    anchor: datetime

    def __init__(self, interval: Seconds, anchor: datetime = _EPOCH) -> None:
        object.__setattr__(self, "interval", interval_of(interval, "interval"))
        object.__setattr__(self, "anchor", utc(anchor, "anchor"))

    def next(self, after: datetime) -> datetime | None:
        return self._at(self._number(after, "after") + 1)

    def previous(self, until: datetime) -> datetime | None:
        return self._at(self._number(until, "until"))

    def count(self, after: datetime, until: datetime) -> int:
        return max(0, self._number(until, "until") - self._number(after, "after"))

    def spread(self, by: str) -> Self:  # noqa: ARG002 - an interval is not spread
        return self

    def _number(self, when: datetime, field: str) -> int:
        """The number of the last fire time not later; 0 is the anchor."""
        return (utc(when, field) - self.anchor) // self.interval

    def _at(self, number: int) -> datetime | None:
        try:
            return self.anchor + number * self.interval
        except OverflowError:
            return None

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"every_seconds": plain_seconds(self.interval)}
        if self.anchor != _EPOCH:
            data["anchor"] = self.anchor.isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        only_known(data, {"every_seconds", "anchor"})
        if "anchor" in data:
            return cls(data["every_seconds"], stored_instant(data["anchor"], "anchor"))
        return cls(data["every_seconds"])

    def describe(self) -> str:
        words = f"every {in_words(self.interval)}"
        if self.anchor == _EPOCH:
            return words
        return f"{words}, counted from {self.anchor.isoformat()}"


def interval_of(value: Seconds, field: str) -> timedelta:
    """An interval that can be repeated; zero, negative, NaN and huge ones are refused."""
    try:
        length = value if isinstance(value, timedelta) else timedelta(seconds=seconds(value, field))
    except InvalidArgument as error:
        raise InvalidTrigger(str(error), field=field) from None
    except OverflowError:
        length = timedelta.max
    if length < _SHORTEST:
        raise InvalidTrigger(f"{field} is {value!r}; it must be 0.001 s or more", field=field)
    if length > _LONGEST:
        raise InvalidTrigger(f"{field} is {value!r}; it must be 100 years or less", field=field)
    return length


def plain_seconds(interval: timedelta) -> int | float:
    """Seconds as JSON writes them best: an int where they are whole."""
    whole, rest = divmod(interval, timedelta(seconds=1))
    return interval.total_seconds() if rest else whole


def in_words(interval: timedelta) -> str:
    """``minute``, ``90 seconds``, ``1 hour 0.5 seconds``."""
    for unit, length in _UNITS:
        many, rest = divmod(interval, timedelta(seconds=length))
        if many and not rest:
            return unit if many == 1 else f"{many} {unit}s"
    left, parts = interval, []
    for unit, length in _UNITS[:-1]:
        many, left = divmod(left, timedelta(seconds=length))
        if many:
            parts.append(f"{many} {unit}{'s' * (many > 1)}")
    if left:
        parts.append(f"{left.total_seconds():g} second{'s' * (left != timedelta(seconds=1))}")
    return " ".join(parts)
