"""One fire time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from rota.triggers.trigger import only_known, stored_instant, utc


@dataclass(frozen=True, slots=True)
class Once:
    """Once, at ``at``; alone it is a task, combined it adds an instant to a rule.

    Kept in UTC: two spellings of one instant are equal.
    """

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    def next(self, after: datetime) -> datetime | None:
        return self.at if self.at > utc(after, "after") else None

    def previous(self, until: datetime) -> datetime | None:
        return self.at if self.at <= utc(until, "until") else None

    def count(self, after: datetime, until: datetime) -> int:
        return int(utc(after, "after") < self.at <= utc(until, "until"))

    def spread(self, by: str) -> Self:  # noqa: ARG002 - an instant is not spread
        return self

    def to_json(self) -> dict[str, Any]:
        return {"once": self.at.isoformat()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        only_known(data, {"once"})
        return cls(stored_instant(data["once"], "once"))

    def describe(self) -> str:
        return f"once, at {self.at.isoformat()}"
