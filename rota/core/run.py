"""One attempt on its way through the execute side of the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

from rota.core.backoff import Backoff, BackoffFunction
from rota.core.codec import load
from rota.core.context import BlockingContext, Context, Token, request_stop
from rota.core.options import Options, decode_options
from rota.core.outcome import Outcome
from rota.core.task import Claimed
from rota.errors import ExternalStateChange


class Stop(Enum):
    """Why a run was told to stop."""

    CANCELLED = "cancelled"  #: somebody cancelled the task
    CHANGED = "changed"  #: its row was changed from outside
    SHUTDOWN = "shutdown"  #: this scheduler is going down
    LOST = "lost"  #: the lease was lost: nothing that comes of it counts
    TIMEOUT = "timeout"  #: it ran longer than its timeout


class ResultForm(Protocol):
    """How a result is written as JSON and read back."""

    def to_json(self, value: Any, path: str) -> Any: ...

    def from_json(self, value: Any, path: str) -> Any: ...


class Arguments(Protocol):
    """How a work's stored params become arguments, as its function's signature has it."""

    @property
    def result(self) -> ResultForm: ...

    @property
    def wants_context(self) -> bool: ...

    def adopt(self, params: Mapping[str, Any]) -> dict[str, Any]: ...

    def decode(self, params: dict[str, Any]) -> dict[str, Any]: ...


class WorkDefaults(Protocol):
    """What a work was registered with; None where it did not say."""

    @property
    def queue(self) -> str | None: ...

    @property
    def priority(self) -> int | None: ...

    @property
    def max_attempts(self) -> int | None: ...

    @property
    def backoff(self) -> Backoff | BackoffFunction | None: ...

    @property
    def timeout(self) -> float | None: ...

    @property
    def expires(self) -> float | None: ...

    @property
    def max_rescues(self) -> int | None: ...

    @property
    def store_result(self) -> bool | None: ...


class Runnable(Protocol):
    """A registered function, as the other rooms need it."""

    @property
    def id(self) -> str: ...

    @property
    def fn(self) -> Callable[..., Any]: ...

    @property
    def runner(self) -> str: ...

    @property
    def signature(self) -> Arguments: ...

    @property
    def options(self) -> WorkDefaults: ...


class Run:
    """An attempt being run: what was claimed, its context, and how to stop it.

    Middleware may read everything here, keep its own notes in ``notes``, and call
    ``stop``.
    """

    __slots__ = (
        "_context",
        "_make_context",
        "_notes",
        "_options",
        "_params",
        "claimed",
        "lingering",
        "node",
        "received",
        "settled",
        "started",
        "stop_reason",
        "stopped",
        "target",
        "works",
    )

    def __init__(  # noqa: PLR0917 - one for each task: named ones would cost a dictionary
        self,
        claimed: Claimed,
        node: int,
        works: Sequence[Runnable],
        make_context: Callable[[Run], Context | BlockingContext],
        started: float,
        received: float,
    ) -> None:
        self.claimed: Claimed = claimed
        self.node: int = node
        self.works: Sequence[Runnable] = works
        self.started: float = started  #: on the monotonic clock
        self.received: float = received  #: when its claim was answered, on the same clock
        self.settled: bool = False  #: its outcome is out: what comes later is dropped
        self.stopped: Stop | None = None
        self.stop_reason: str = ""
        self.target: asyncio.Task[Any] | None = None  #: what a stop cancels
        self.lingering: asyncio.Future[Any] | None = None  #: goes on after the outcome
        self._make_context = make_context
        self._context: Context | BlockingContext | None = None
        self._options: Options | None = None
        self._params: dict[str, Any] | None = None
        self._notes: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return self.claimed.id

    @property
    def work(self) -> str:
        """The task's work id."""
        return self.claimed.work

    @property
    def token(self) -> Token:
        """The right to run this attempt."""
        return Token(self.node, self.claimed.batch)

    @property
    def options(self) -> Options:
        if self._options is None:
            self._options = decode_options(self.claimed.options)
        return self._options

    @property
    def context(self) -> Context | BlockingContext:
        """What the work sees of its attempt; made when somebody looks, on the event loop."""
        if self._context is None:
            self._context = self._make_context(self)
            if self.stopped is not None:
                request_stop(self._context, self.stop_reason)
        return self._context

    @context.setter
    def context(self, context: Context | BlockingContext) -> None:
        self._context = context

    @property
    def completed(self) -> bool:
        """Whether the work has called ``ctx.complete``, committed or not; any thread."""
        return self._context is not None and self._context.completed

    @property
    def params(self) -> dict[str, Any]:
        """The stored params, as JSON gave them."""
        if self._params is None:
            text = self.claimed.params
            self._params = {} if text == "{}" else load(text)
        return self._params

    @property
    def notes(self) -> dict[str, Any]:
        """A place for middleware to leave something for another."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    def stop(self, why: Stop, reason: str, *, cause: ExternalStateChange | None = None) -> None:
        """Tell the run to stop: coroutines are cancelled, threads see ``ctx.cancelled``.

        Once its outcome is settled nothing is left to stop: a cancel would hit its writing.
        """
        if self.stopped is not None or self.settled:
            return
        self.stopped = why
        self.stop_reason = reason
        if self._context is not None:
            request_stop(self._context, reason)
        if self.target is not None:
            self.target.cancel(cause)


#: What ``on_execute`` gets as ``call_next``: the rest of the chain, down to the work.
ExecuteNext = Callable[[Run], Awaitable[Outcome]]
