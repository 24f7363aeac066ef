"""What a running work can ask about its attempt, and say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rota.core.codec import load

if TYPE_CHECKING:
    from rota.core.clock import Clock
    from rota.core.task import Claimed

log = logging.getLogger("rota.work")


class Token(NamedTuple):
    """The right to run one attempt: names one claim for ever; put it into your own writes."""

    node: int
    batch: int


class _Facts:
    """What is known of an attempt from its claim; shared by both faces."""

    __slots__ = ("_claimed", "_clock", "_deadline", "_logger", "_stop", "token")

    def __init__(self, claimed: Claimed, *, token: Token, clock: Clock) -> None:
        self._claimed = claimed
        self._clock = clock
        self._deadline: float | None = None
        self._stop: str | None = None
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None
        self.token: Token = token

    @property
    def task_id(self) -> str:
        """The task's id, the same in every attempt."""
        return self._claimed.id

    @property
    def work(self) -> str:
        """The work id the task was scheduled under."""
        return self._claimed.work

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self._claimed.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._claimed.attempt

    @property
    def run_at(self) -> datetime:
        """When this attempt became due."""
        return _from_micros(self._claimed.run_at)

    @property
    def meta(self) -> Mapping[str, Any]:
        """The task's meta; empty if it has none."""
        return load(self._claimed.meta) or {}

    @property
    def parent(self) -> str | None:
        """The id of the task that spawned this one."""
        return self._claimed.parent

    @property
    def recurring(self) -> str | None:
        """The id of the recurring task this one was fired by."""
        return self._claimed.recurring

    @property
    def fire_at(self) -> datetime | None:
        """The nominal fire time of a recurring task's child."""
        stamp = self._claimed.fire_at
        return None if stamp is None else _from_micros(stamp)

    @property
    def cancelled(self) -> bool:
        """Whether this run was asked to stop; look at it between steps in a thread."""
        return self._stop is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why it was asked to stop."""
        return self._stop

    @property
    def time_remaining(self) -> float | None:
        """Seconds until the run's timeout, never below 0; None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._clock.monotonic())

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry task, work, attempt and node."""
        if self._logger is None:
            extra = {
                "task_id": self.task_id,
                "work": self.work,
                "attempt": self.attempt,
                "node": self.token.node,
            }
            self._logger = logging.LoggerAdapter(log, extra)
        return self._logger


class Context(_Facts):
    """What a coroutine work sees of its attempt; asked for by annotating the first parameter."""

    __slots__ = ()


class BlockingContext(_Facts):
    """The same for plain functions, which run in threads."""

    __slots__ = ("_stopped",)

    def __init__(self, claimed: Claimed, *, token: Token, clock: Clock) -> None:
        super().__init__(claimed, token=token, clock=clock)
        self._stopped = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Sleep at most so long; True at once when the run is asked to stop."""
        return self._clock.wait(self._stopped, seconds) or self.cancelled


def request_stop(context: _Facts, reason: str) -> None:
    """Tell the run to stop, whichever face it sees."""
    context._stop = reason  # noqa: SLF001 - the engine's side of the same object
    if isinstance(context, BlockingContext):
        context._stopped.set()  # noqa: SLF001


def set_deadline(context: _Facts, when: float) -> None:
    """Say until when, on the monotonic clock, the run may take."""
    context._deadline = when  # noqa: SLF001


def _from_micros(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1_000_000, UTC)


ContextFactory = Callable[["Claimed"], _Facts]
