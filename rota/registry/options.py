"""A work's own options, checked when it is registered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from rota.core.backoff import Backoff, BackoffFunction
from rota.core.clock import Seconds, seconds
from rota.core.codec import check_mapping, dump
from rota.core.names import check_priority, check_queue
from rota.core.shown import shown
from rota.core.unset import UNSET
from rota.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Where a work's function runs.
Runner = Literal["coroutine", "thread", "process"]

RUNNERS: tuple[Runner, ...] = ("coroutine", "thread", "process")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """What a registration said; None where it said nothing.

    Durations are float seconds. ``given`` names what was said, which tells an option set
    to None ("no limit") from one left to the queue and the scheduler.
    """

    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    backoff: Backoff | BackoffFunction | None = None
    timeout: float | None = None
    expires: float | None = None
    runner: Runner | None = None
    max_rescues: int | None = None
    store_result: bool | None = None
    transactional: bool = False
    meta: dict[str, Any] | None = None
    given: frozenset[str] = frozenset()
    _said: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def checked(cls, **options: Any) -> Self:
        """Check what was said; ``InvalidArgument.field`` names the wrong option.

        ``UNSET`` says nothing, nor does None where it has no meaning of its own.
        """
        said = {
            name: value
            for name, value in options.items()
            if value is not UNSET and (value is not None or name in _NULLABLE)
        }
        checked: dict[str, Any] = {name: _CHECKS[name](value) for name, value in said.items()}
        return cls(**checked, given=frozenset(said), _said=MappingProxyType(checked))

    def said(self) -> Mapping[str, Any]:
        """Only the options that were given, for merging over those of queue and scheduler."""
        return self._said


def _max_attempts(value: Any) -> int | None:
    return _count(value, "max_attempts", 1)


def _max_rescues(value: Any) -> int | None:
    return _count(value, "max_rescues", 0)


def _count(value: Any, name: str, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise InvalidArgument(
        f"{name} is {shown(value)}; it must be a whole number from {least}, or None for no limit",
        field=name,
    )


def _backoff(value: Any) -> Backoff | BackoffFunction | None:
    if value is None or isinstance(value, Backoff):
        return value
    if callable(value) and not isinstance(value, type):
        return cast("BackoffFunction", value)
    raise InvalidArgument(
        f"backoff is a {type(value).__name__}; pass Backoff(first=…, factor=…, max=…), or a "
        "function from the attempt's number to seconds",
        field="backoff",
    )


def _timeout(value: Any) -> float | None:
    return _span(value, "timeout")


def _expires(value: Any) -> float | None:
    if isinstance(value, datetime):
        raise InvalidArgument(
            "expires of a work is an instant, which would be the same for all its tasks; "
            "pass seconds or a timedelta here, and instants to schedule()",
            field="expires",
        )
    return _span(value, "expires")


def _span(value: Seconds | None, name: str) -> float | None:
    if value is None:
        return None
    span = seconds(value, name)
    if span == 0:
        raise InvalidArgument(
            f"{name} is 0, which no run could meet; pass seconds, or None for no {name}", field=name
        )
    return span


def _runner(value: Any) -> Runner:
    for one in RUNNERS:
        if value == one:
            return one
    raise InvalidArgument(
        f"runner is {shown(value)}; it must be one of {', '.join(map(repr, RUNNERS))}",
        field="runner",
    )


def _store_result(value: Any) -> bool:
    return _flag(value, "store_result")


def _transactional(value: Any) -> bool:
    return _flag(value, "transactional")


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidArgument(
        f"{name} is a {type(value).__name__}; it must be True or False", field=name
    )


def _meta(value: Any) -> dict[str, Any]:
    meta = dict(check_mapping(value, "meta"))
    dump(meta, "meta")
    return meta


#: Where None says "no limit".
_NULLABLE = frozenset({"max_attempts", "backoff", "timeout", "expires", "max_rescues"})

_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "queue": check_queue,
    "priority": check_priority,
    "max_attempts": _max_attempts,
    "backoff": _backoff,
    "timeout": _timeout,
    "expires": _expires,
    "runner": _runner,
    "max_rescues": _max_rescues,
    "store_result": _store_result,
    "transactional": _transactional,
    "meta": _meta,
}
