"""What time it is, and waiting for it: injected everywhere, so tests can move it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from rota.errors import InvalidArgument

if TYPE_CHECKING:
    import asyncio

Seconds = float | int | timedelta

#: A hundred years: what is longer is a mistake, and leads past the last date there is.
LONGEST = 36_525 * 86_400.0


class Cancellable(Protocol):
    """Something armed that can be disarmed."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall time for instants, monotonic time for intervals, and two ways to wait.

    ``offset`` is what statements add to the database's ``now()``: 0 but in tests.
    """

    @property
    def offset(self) -> float: ...

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def call_at(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]
    ) -> Cancellable:
        """Call back on the loop's thread once ``monotonic()`` has reached ``when``."""

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Block this thread until the event is set (True) or the time is over (False)."""


class SystemClock:
    """The machine's clocks."""

    offset: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def call_at(
        self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]
    ) -> Cancellable:
        return loop.call_later(max(0.0, when - time.monotonic()), callback)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        return event.wait(timeout)


def seconds(value: Seconds, field: str) -> float:
    """A duration as float seconds; negative, over a century and non-numbers are refused by name."""
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, float):
        result = value
    elif isinstance(value, int) and not isinstance(value, bool):
        # It may be too large for a float, and for a message.
        result = float(max(min(value, 2 * LONGEST), -2 * LONGEST))
    else:
        raise InvalidArgument(
            f"{field} must be seconds or a timedelta, not {type(value).__name__}", field=field
        )
    if not result >= 0:
        raise InvalidArgument(f"{field} is {result:g}; it must be zero or more", field=field)
    if result > LONGEST:
        raise InvalidArgument(
            f"{field} is {result:g}, more than a hundred years of seconds; make it shorter",
            field=field,
        )
    return result


def instant(value: object, field: str) -> datetime:
    """An aware datetime in UTC; naive ones are refused, since they do not say which instant."""
    if not isinstance(value, datetime):
        raise InvalidArgument(
            f"{field} must be an aware datetime, not {type(value).__name__}", field=field
        )
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArgument(
            f"{field} is a naive datetime; give it a zone, for example "
            f"{field}=datetime(…, tzinfo=ZoneInfo('Europe/Paris')) or datetime.now(UTC)",
            field=field,
        )
    return value.astimezone(UTC)
