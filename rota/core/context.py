"""What a running work can ask about its attempt, and say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from rota.core.codec import load
from rota.errors import SchedulerNotRunning

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rota.core.clock import Clock, Seconds
    from rota.core.task import Claimed, Task

R_co = TypeVar("R_co", covariant=True)

log: logging.Logger = logging.getLogger("rota.work")


class Token(NamedTuple):
    """The right to run one attempt: names one claim for ever; put it into your own writes."""

    node: int
    batch: int


class Child(Protocol[R_co]):
    """A spawned task, to be awaited or cancelled by whoever spawned it."""

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> bool: ...

    async def info(self) -> Task: ...

    async def result(self, timeout: Seconds | None = None) -> R_co: ...

    async def cancel(self, reason: str = ..., *, children: bool = ...) -> Any: ...


class BlockingChild(Protocol[R_co]):
    """The same for threads."""

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> bool: ...

    def info(self) -> Task: ...

    def result(self, timeout: Seconds | None = None) -> R_co: ...

    def cancel(self, reason: str = ..., *, children: bool = ...) -> Any: ...


class Desk(Protocol):
    """What a running attempt can have done for it; given by the scheduler that runs it."""

    async def report(self, facts: Facts, n: int, data: Any) -> None: ...

    async def spawn(
        self, facts: Facts, work: Any, params: Any, key: str | None, options: Mapping[str, Any]
    ) -> Child[Any]: ...

    async def complete(self, facts: Facts, connection: object, result: Any) -> None: ...

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the scheduler's loop and block this thread for its result."""

    def blocking(self, child: Child[Any]) -> BlockingChild[Any]: ...


class Facts:
    """What is known of an attempt from its claim; shared by both faces."""

    __slots__ = (
        "_claimed",
        "_clock",
        "_deadline",
        "_desk",
        "_logger",
        "_reports",
        "_stop",
        "completed",
        "token",
    )

    def __init__(
        self, claimed: Claimed, *, token: Token, clock: Clock, desk: Desk | None = None
    ) -> None:
        self._claimed = claimed
        self._desk = desk
        self._reports = 0
        self.completed: bool = False  #: ``complete`` was called, committed or not
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
        """A logger whose records carry task, work, queue, attempt and node."""
        if self._logger is None:
            extra = {
                "task_id": self.task_id,
                "work": self.work,
                "queue": self.queue,
                "attempt": self.attempt,
                "node": self.token.node,
            }
            self._logger = logging.LoggerAdapter(log, extra)
        return self._logger

    def _at_the_desk(self) -> Desk:
        if self._desk is None:
            raise SchedulerNotRunning(
                "this context belongs to no scheduler; report, spawn and complete need a "
                "running one"
            )
        return self._desk

    def _next_report(self) -> int:
        self._reports += 1
        return self._reports


class Context(Facts):
    """What a coroutine work sees of its attempt; asked for by annotating the first parameter."""

    __slots__ = ()

    async def report(self, data: Any) -> None:
        """Keep this as the task's progress, readable by others while it runs.

        ``data`` is JSON; a later report replaces it. A report says that the work gets on:
        losses of its node are counted anew. Raises ``LeaseLost`` when this attempt does
        not count any more.
        """
        await self._at_the_desk().report(self, self._next_report(), data)

    async def spawn(
        self,
        work: Any,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        **options: Any,
    ) -> Child[Any]:
        """Schedule a child of this task, if and only if this attempt still counts.

        With a ``key`` a repeated attempt finds the child of the first instead of making
        another. Options as in ``schedule``. Raises ``LeaseLost``.
        """
        return await self._at_the_desk().spawn(self, work, params, key, options)

    async def complete(self, *, connection: object, result: Any = None) -> None:
        """Finish this task inside your own transaction: your writes and this commit together.

        For works registered ``transactional=True``. ``connection`` is a SQLAlchemy
        connection or session, or psycopg's. Raises ``LeaseLost`` inside the transaction
        when the attempt does not count any more: roll back. If you roll back, what the
        function returns or raises counts, as ever.
        """
        await self._at_the_desk().complete(self, connection, result)


class BlockingContext(Facts):
    """The same for plain functions, which run in threads."""

    __slots__ = ("_stopped",)

    def __init__(
        self, claimed: Claimed, *, token: Token, clock: Clock, desk: Desk | None = None
    ) -> None:
        super().__init__(claimed, token=token, clock=clock, desk=desk)
        self._stopped = threading.Event()

    def report(self, data: Any) -> None:
        """As :meth:`Context.report`."""
        desk = self._at_the_desk()
        desk.wait_for(desk.report(self, self._next_report(), data))

    def spawn(
        self,
        work: Any,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        **options: Any,
    ) -> BlockingChild[Any]:
        """As :meth:`Context.spawn`."""
        desk = self._at_the_desk()
        return desk.blocking(desk.wait_for(desk.spawn(self, work, params, key, options)))

    def complete(self, *, connection: object, result: Any = None) -> None:
        """As :meth:`Context.complete`."""
        desk = self._at_the_desk()
        desk.wait_for(desk.complete(self, connection, result))

    def wait(self, seconds: float) -> bool:
        """Sleep at most so long; True at once when the run is asked to stop."""
        return self._clock.wait(self._stopped, seconds) or self.cancelled


def request_stop(context: Facts, reason: str) -> None:
    """Tell the run to stop, whichever face it sees."""
    context._stop = reason  # noqa: SLF001 - the engine's side of the same object
    if isinstance(context, BlockingContext):
        context._stopped.set()  # noqa: SLF001


def same_attempt(
    context: Facts, kind: type[Context | BlockingContext]
) -> Context | BlockingContext:
    """The attempt as a work of the other kind sees it, with all that was said of it so far."""
    other: Context | BlockingContext = object.__new__(kind)
    for name in Facts.__slots__:
        setattr(other, name, getattr(context, name))
    if isinstance(other, BlockingContext):
        other._stopped = threading.Event()  # noqa: SLF001 - of the same class
        if other.cancelled:
            other._stopped.set()  # noqa: SLF001
    return other


def set_deadline(context: Facts, when: float) -> None:
    """Say until when, on the monotonic clock, the run may take."""
    context._deadline = when  # noqa: SLF001


def _from_micros(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1_000_000, UTC)
