"""What a scheduler was made with, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any, Literal, TypedDict

from rota.core.archiving import Archive
from rota.core.clock import Clock, Seconds, seconds
from rota.core.codec import SIZE_LIMIT
from rota.core.events import Listener
from rota.core.names import check_queue
from rota.core.request import ScheduleRequest
from rota.core.retention import Retention
from rota.core.task import Claimed
from rota.errors import InvalidArgument
from rota.scheduler.engine import check_concurrency


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The checked settings; see :class:`rota.Scheduler` for each."""

    concurrency: int = 50
    queues: Sequence[str] | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    middleware: Sequence[object] = ()
    name: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    queue_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allow_unknown: bool = False
    should_restore: Callable[[Claimed], bool] | None = None
    heartbeat: float = 5.0
    lease: float = 30.0
    look_ahead: float = 1.0
    poll: float = 5.0
    start_timeout: float = 30.0
    stall_after: float = 300.0
    size_limit: int = SIZE_LIMIT
    on_event: Listener | None = None
    on_error: Callable[[ScheduleRequest, Exception], object] | None = None
    lazy_params: bool = False
    retention: Retention | None = None
    archive: Archive | Literal[False] | None = None
    storage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client_only(self) -> bool:
        """Whether this scheduler only schedules."""
        return self.queues is not None and not self.queues


class SchedulerOptions(TypedDict, total=False):
    """The options of :class:`rota.Scheduler`, for who passes them on."""

    concurrency: int
    queues: Sequence[str] | Mapping[str, int | None] | None
    middleware: Sequence[object]
    name: str | None
    defaults: Mapping[str, Any] | None
    queue_defaults: Mapping[str, Mapping[str, Any]] | None
    allow_unknown: bool
    should_restore: Callable[[Claimed], bool] | None
    lease: Seconds
    heartbeat: Seconds
    look_ahead: Seconds
    poll: Seconds
    start_timeout: Seconds
    stall_after: Seconds
    size_limit: int
    schema: str | None
    poll_only: bool
    synchronous: str | None
    lazy_params: bool
    retention: Retention | None
    archive: Archive | Literal[False] | None
    on_event: Listener | None
    on_error: Callable[[ScheduleRequest, Exception], object] | None
    clock: Clock | None


def check_queues(
    queues: Sequence[str] | Mapping[str, int | None] | None,
) -> tuple[Sequence[str] | None, dict[str, int]]:
    """The queues to serve (None: all) and the limits of those that have one."""
    if queues is None:
        return None, {}
    if isinstance(queues, str):
        raise InvalidArgument(
            f"queues is the text {queues!r}; give a list of names, [{queues!r}]", field="queues"
        )
    names = [check_queue(name) for name in queues]
    limits = (
        {name: check_concurrency(limit) for name, limit in queues.items() if limit is not None}
        if isinstance(queues, Mapping)
        else {}
    )
    return names, limits


def check_span(value: Seconds, name: str, least: float) -> float:
    """A duration in seconds, not shorter than ``least``."""
    span = seconds(value, name)
    if span < least:
        raise InvalidArgument(f"{name} is {value}; it must be {least:g} s or more", field=name)
    return span


def check_retention(value: object) -> Retention | None:
    """A ``Retention``, or None for what has been said already."""
    if value is None or isinstance(value, Retention):
        return value
    raise InvalidArgument(
        f"retention {value!r} is a {type(value).__name__}; "
        "give Retention(done=timedelta(days=7), failed=timedelta(days=30))",
        field="retention",
    )


def check_archive(value: object) -> Archive | Literal[False] | None:
    """What can be called with a batch; False for no archive, None for what has been said."""
    if value is None or value is False:
        return value
    if not callable(value):
        raise InvalidArgument(
            f"archive {value!r} cannot be called; give a function that takes a list of finished "
            "tasks, or ArchiveFile(path)",
            field="archive",
        )
    if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
        raise InvalidArgument(
            f"archive {value!r} is a coroutine function, which nobody would await; give a plain "
            "one, it has a thread of its own",
            field="archive",
        )
    return value
