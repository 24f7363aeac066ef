"""The trigger protocol and its canonical JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from rota.errors import InvalidTrigger


class Trigger(Protocol):
    """A pure rule: the same answer for the same instant, on every node."""

    def next(self, after: datetime) -> datetime | None:
        """The first fire time later than ``after``; None if there is none."""

    def previous(self, until: datetime) -> datetime | None:
        """The last fire time not later than ``until``; None if there is none."""

    def to_json(self) -> dict[str, Any]:
        """The canonical form that is stored, readable by :func:`from_json`."""

    def describe(self) -> str:
        """The rule in words."""


def from_json(data: dict[str, Any]) -> Trigger:
    """The trigger of a stored canonical form; raises ``InvalidTrigger`` if it is unknown."""
    from rota.triggers.every import Every

    match data:
        case {"every_seconds": _}:
            return Every.from_json(data)
        case _:
            raise InvalidTrigger(
                f"trigger {data!r} is not known to this version; upgrade rota to read it",
                field="trigger",
            )
