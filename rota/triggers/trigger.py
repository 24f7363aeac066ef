"""The trigger protocol, its canonical JSON, and the checks all triggers share."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from typing import Any, Protocol, runtime_checkable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rota.core.clock import instant
from rota.errors import InvalidArgument, InvalidTrigger

#: Where counting stops for a trigger that has no closed form.
COUNT_LIMIT = 10_000


@runtime_checkable
class Trigger(Protocol):
    """A pure rule: the same answer for the same instant, on every node.

    Instants are aware; answers are in UTC. A trigger that never fires again answers
    ``next`` with None.
    """

    def next(self, after: datetime) -> datetime | None:
        """The first fire time later than ``after``; None if there is none."""

    def previous(self, until: datetime) -> datetime | None:
        """The last fire time not later than ``until``; None if there is none."""

    def count(self, after: datetime, until: datetime) -> int:
        """How many fire times are later than ``after`` and not later than ``until``.

        Exact where there is a closed form; otherwise counting stops at ``COUNT_LIMIT``.
        """

    def spread(self, by: str) -> Trigger:
        """The trigger with cron's ``H`` fixed by the recurring id; others answer themselves."""

    def to_json(self) -> dict[str, Any]:
        """The canonical form that is stored, readable by :func:`from_json`."""

    def describe(self) -> str:
        """The rule in words."""


def from_json(data: dict[str, Any]) -> Trigger:
    """The trigger of a stored canonical form.

    Raises ``InvalidTrigger``, naming what is unknown, for a form of a later version.
    """
    match data:
        case {"every_seconds": _}:
            from rota.triggers.every import Every

            return Every.from_json(data)
        case {"cron": _}:
            from rota.triggers.cron import Cron

            return Cron.from_json(data)
        case {"once": _}:
            from rota.triggers.once import Once

            return Once.from_json(data)
        case {"calendar": _}:
            from rota.triggers.calendar import Calendar

            return Calendar.from_json(data)
        case {"any_of": _} | {"all_of": _}:
            from rota.triggers.combined import combined_from_json

            return combined_from_json(data)
        case {"apscheduler": _}:
            from rota.triggers.apscheduler import apscheduler_from_json

            return apscheduler_from_json(data)
        case _:
            raise InvalidTrigger(
                f"trigger {data!r} is not known to this version; upgrade rota to read it",
                field="trigger",
            )


def canonical(trigger: Trigger) -> str:
    """The trigger as stored text; equal triggers have equal text."""
    return json.dumps(trigger.to_json(), sort_keys=True, separators=(",", ":"))


def only_known(data: dict[str, Any], known: set[str], field: str = "trigger") -> None:
    """Refuse a stored form with keys a later version has added."""
    unknown = sorted(set(data) - known)
    if unknown:
        raise InvalidTrigger(
            f"{field} has {', '.join(map(repr, unknown))}, not known to this version; "
            "upgrade rota to read it",
            field=field,
        )


def utc(value: object, field: str) -> datetime:
    """An aware datetime in UTC; anything else is refused with ``InvalidTrigger``."""
    try:
        return instant(value, field)
    except InvalidArgument as error:
        raise InvalidTrigger(str(error), field=field) from None
    except OverflowError:
        raise InvalidTrigger(
            f"{field} is {value}, outside the years 1 to 9999 in UTC; take another", field=field
        ) from None


def stored_instant(value: object, field: str) -> datetime:
    """An aware datetime from stored text."""
    try:
        return utc(datetime.fromisoformat(str(value)), field)
    except ValueError:
        raise InvalidTrigger(
            f"{field} is {value!r}; write an ISO 8601 instant with its offset", field=field
        ) from None


def zone(name: str, field: str = "timezone") -> tzinfo:
    """The zone of an IANA name; UTC needs no zone database."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise InvalidTrigger(
            f"{field} {name!r} is not a known time zone; take an IANA name such as "
            "'Europe/Paris', and install tzdata where the system has no zones",
            field=field,
        ) from None


def zone_name(value: object, field: str = "timezone") -> str:
    """The IANA name of a zone given by name or as ``ZoneInfo``; unknown ones are refused."""
    name = value
    if value is UTC:
        name = "UTC"
    elif isinstance(value, ZoneInfo):
        name = value.key
    if not isinstance(name, str):
        raise InvalidTrigger(
            f"{field} {value!r} has no IANA name; take one such as 'Europe/Paris'", field=field
        )
    zone(name, field)
    return name
