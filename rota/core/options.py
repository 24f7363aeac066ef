"""What a task carries about how it is to be run, resolved once and stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from rota.core.backoff import Backoff
from rota.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A task to be inserted in the transaction that finishes another."""

    work: str
    params: str = "{}"  #: JSON text
    queue: str = "default"
    priority: int = 0
    delay: float = 0.0
    options: str = "{}"  #: JSON text of its own options

    def to_json(self) -> dict[str, Any]:
        return {
            "work": self.work,
            "params": self.params,
            "queue": self.queue,
            "priority": self.priority,
            "delay_seconds": self.delay,
            "options": self.options,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Self | None:
        if data is None:
            return None
        return cls(
            work=data["work"],
            params=data["params"],
            queue=data["queue"],
            priority=data["priority"],
            delay=data["delay_seconds"],
            options=data["options"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The resolved run options of one task; see :meth:`Scheduler.schedule` for each."""

    max_attempts: int | None = 1
    backoff: Backoff | None = None
    timeout: float | None = None
    max_rescues: int | None = 5
    store_result: bool = True
    on_done: FollowUp | None = None
    on_failed: FollowUp | None = None

    def encode(self) -> str:
        """Compact JSON of what differs from the defaults."""
        data: dict[str, Any] = {}
        if self.max_attempts != 1:
            data["max_attempts"] = self.max_attempts
        if self.backoff is not None:
            data["backoff"] = self.backoff.to_json()
        if self.timeout is not None:
            data["timeout_seconds"] = self.timeout
        if self.max_rescues != 5:
            data["max_rescues"] = self.max_rescues
        if not self.store_result:
            data["store_result"] = False
        for name in ("on_done", "on_failed"):
            follow = getattr(self, name)
            if follow is not None:
                data[name] = follow.to_json()
        return json.dumps(data, separators=(",", ":"))


@lru_cache(maxsize=1024)
def decode_options(text: str | None) -> Options:
    """The options of stored JSON; cached, since most tasks of a work share one text.

    Keys this version does not know are passed over: a newer node may have written them.
    Raises ``InvalidArgument`` for what it cannot read all the same, and for None: the task's
    body is gone.
    """
    if text is None:
        raise InvalidArgument(
            "the task's row in rota_body is gone, and with it its params and options; "
            "look into the database's backups, and schedule it again",
            field="options",
        )
    try:
        return _decoded(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidArgument(
            f"stored options cannot be read ({type(error).__name__}: {error}); "
            "if a later version wrote them, upgrade rota here",
            field="options",
        ) from error


def options_or_default(text: str) -> Options:
    """As :func:`decode_options`, the defaults for what cannot be read.

    For rescue and for listings: one damaged row must not stand in the way of all others.
    """
    try:
        return decode_options(text)
    except InvalidArgument:
        return Options()


def _decoded(data: dict[str, Any]) -> Options:
    backoff = data.get("backoff")
    return Options(
        max_attempts=_number(data, "max_attempts", 1),
        backoff=Backoff.from_json(backoff) if backoff else None,
        timeout=_number(data, "timeout_seconds", None),
        max_rescues=_number(data, "max_rescues", 5),
        store_result=data.get("store_result", True),
        on_done=FollowUp.from_json(data.get("on_done")),
        on_failed=FollowUp.from_json(data.get("on_failed")),
    )


def _number(data: dict[str, Any], key: str, default: int | None) -> Any:
    value = data.get(key, default)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{key} is {value!r}, which is no number")
