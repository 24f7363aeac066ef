"""A fixed interval, anchored: no drift, and its phase survives downtime."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from rota.core.clock import Seconds, instant, seconds
from rota.errors import InvalidTrigger

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many seconds (or ``timedelta``), counted from ``anchor``.

    Fire times are ``anchor + n · interval`` whatever happened in between: lateness
    never adds up. Without an anchor they count from 1970-01-01 UTC, so every node and
    every restart agrees on them.

    >>> Every(60).next(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC))
    datetime.datetime(2026, 1, 1, 12, 1, tzinfo=datetime.timezone.utc)
    """

    interval: Seconds
    anchor: datetime = _EPOCH

    def __post_init__(self) -> None:
        if seconds(self.interval, "interval") < 0.001:
            raise InvalidTrigger(
                f"interval is {self.interval!r}; it must be 0.001 s or more", field="interval"
            )
        instant(self.anchor, "anchor")

    @property
    def _step(self) -> timedelta:
        return timedelta(seconds=seconds(self.interval, "interval"))

    def next(self, after: datetime) -> datetime | None:
        anchor = instant(self.anchor, "anchor")
        count = (instant(after, "after") - anchor) // self._step
        return anchor + (count + 1) * self._step

    def previous(self, until: datetime) -> datetime | None:
        following = self.next(until)
        return None if following is None else following - self._step

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"every_seconds": seconds(self.interval, "interval")}
        if self.anchor != _EPOCH:
            data["anchor"] = instant(self.anchor, "anchor").isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        anchor = data.get("anchor")
        return cls(
            data["every_seconds"], _EPOCH if anchor is None else datetime.fromisoformat(anchor)
        )

    def describe(self) -> str:
        return f"every {self._step}"
