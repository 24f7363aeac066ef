"""Complete a request: what is unset inherits call → work → queue → scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from rota.core.backoff import Backoff, BackoffFunction
from rota.core.clock import Seconds, instant, seconds
from rota.core.codec import check_mapping, dump
from rota.core.ids import FreshIds, check_id, new_ids
from rota.core.names import check_key, check_work
from rota.core.options import FollowUp, Options
from rota.core.request import OnConflict, ScheduleRequest, Unique
from rota.core.shown import shown
from rota.core.task import Inserted, NewTask, Stored
from rota.errors import InvalidArgument
from rota.middleware.bulk import in_turns
from rota.registry import Bound, Work, WorkOptions, WorkRegistry


class TaskOptions(TypedDict, total=False):
    """Every option of one task; what is left out inherits.

    ``at`` aware datetime or ``delay`` seconds (the database adds it to its clock) ·
    ``queue`` name · ``priority`` -100 to 100, higher first · ``max_attempts`` total, or
    None for no limit · ``backoff`` between attempts · ``timeout`` seconds one run may
    take · ``expires`` aware datetime, or seconds after its time: no attempt starts
    later · ``unique`` key among unfinished tasks · ``on_conflict`` raise, return or
    replace · ``id`` UUID of your own, as idempotency key · ``meta`` JSON object ·
    ``max_rescues`` losses of its node while alone · ``store_result`` · ``allow_unknown``
    schedule a work that is not registered here · ``on_done``, ``on_failed`` a bound work
    or :class:`TaskSpec` inserted in the transaction that finishes this task ·
    ``connection`` yours: the task is scheduled if and when your transaction commits.
    """

    at: datetime | None
    delay: Seconds | None
    queue: str
    priority: int
    max_attempts: int | None
    backoff: Backoff | BackoffFunction | None
    timeout: Seconds | None
    expires: datetime | Seconds | None
    unique: str | Unique | None
    on_conflict: OnConflict
    id: object
    meta: dict[str, Any] | None
    max_rescues: int | None
    store_result: bool
    allow_unknown: bool
    on_done: Any
    on_failed: Any
    connection: object


class TaskSpec(NamedTuple):
    """One task of a ``schedule_many``, with options of its own."""

    work: Any
    params: dict[str, Any] | None = None
    options: TaskOptions = TaskOptions()


class _Mould(NamedTuple):
    """What requests of one work with the same options have in common."""

    work: str
    adopt: Callable[[Mapping[str, Any]], dict[str, Any]]
    rest: tuple[Any, ...]  #: the request from its fourth field on
    given_id: bool


_SHARED = ("queue", "priority", "max_attempts", "backoff", "timeout", "max_rescues", "store_result")
#: What most tasks that have options say: when.
_TIMES = frozenset({"at", "delay"})
_AT = ScheduleRequest._fields.index("at")
_KNOWN = frozenset(TaskOptions.__annotations__)
_DEFAULTS = frozenset(field.name for field in fields(WorkOptions)) - {"given", "_said"}


class Requests:
    """Resolves and checks everything about a request before it enters the chain."""

    def __init__(
        self,
        *,
        works: WorkRegistry,
        defaults: Mapping[str, Any],
        queue_defaults: Mapping[str, Mapping[str, Any]],
        allow_unknown: bool,
    ) -> None:
        self._works = works
        self._defaults = _checked_defaults(defaults, "defaults")
        self._queue_defaults = {
            queue: _checked_defaults(options, f"queue_defaults[{queue!r}]")
            for queue, options in queue_defaults.items()
        }
        self._allow_unknown = allow_unknown
        self._ids = FreshIds()
        self._moulds: dict[object, _Mould] = {}
        self._moulded = -1

    def make(
        self, target: object, params: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> ScheduleRequest:
        """The request; what is wrong is named by ``InvalidArgument`` or ``UnknownWork``."""
        if not options:
            return self._cast(self._moulds_now(), target, params, options, self._ids.make())
        if options.keys() <= _TIMES:
            request = self._cast(self._moulds_now(), target, params, {}, self._ids.make())
            return _timed(request, options)
        return self._resolved(target, params, options)

    def in_parts(
        self,
        items: Sequence[Bound[Any] | TaskSpec | tuple[Any, Mapping[str, Any]]],
        options: Mapping[str, Any],
    ) -> Iterator[list[ScheduleRequest]]:
        """The requests of one call, of one connection, made part by part as they are asked for."""
        connections: set[int] = set()
        for some in in_turns(items):
            part = self.make_many(some, options)
            connections.update(id(request.connection) for request in part)
            if len(connections) > 1:
                raise InvalidArgument(
                    "connection differs between the tasks; all of one call go into one transaction",
                    field="connection",
                )
            yield part

    def make_many(
        self,
        items: Sequence[Bound[Any] | TaskSpec | tuple[Any, Mapping[str, Any]]],
        options: Mapping[str, Any],
    ) -> list[ScheduleRequest]:
        """As ``make`` for each; what those of one work share is resolved once."""
        moulds: dict[object, _Mould] = {} if options else self._moulds_now()
        requests = []
        for item, fresh in zip(items, new_ids(len(items)), strict=True):
            if isinstance(item, TaskSpec) and item.options:
                merged = {**options, **item.options}
                requests.append(self._resolved(item.work, item.params, merged))
            elif isinstance(item, tuple):
                requests.append(self._cast(moulds, item[0], item[1], options, fresh))
            else:
                requests.append(self._cast(moulds, item, None, options, fresh))
        return requests

    def _moulds_now(self) -> dict[object, _Mould]:
        """The moulds for requests without options, as long as the registry stays as it is."""
        if self._moulded != self._works.version:
            self._moulded = self._works.version
            self._moulds = {}
        return self._moulds

    def _cast(
        self,
        moulds: dict[object, _Mould],
        target: object,
        params: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        fresh: str,
    ) -> ScheduleRequest:
        """A request like the first of its work, with its own id and params."""
        key = target.work if isinstance(target, Bound) else target
        mould = moulds.get(key) if isinstance(key, (str, Work)) else None
        if mould is None:
            first = self._resolved(target, params, options)
            work = self._works.find(first.work)
            if isinstance(key, (str, Work)) and work is not None:
                adopt = work.signature.adopt
                moulds[key] = _Mould(first.work, adopt, first[3:], given_id=first.given_id)
            return first
        if not isinstance(target, Bound):
            # `adopt` makes a copy of its own.
            plain = params if type(params) is dict else dict(params or {})
            given = mould.adopt(check_mapping(plain, "params"))
        elif params is None:
            given = target.params
        else:
            return self._resolved(target, params, options)
        if mould.given_id:
            fresh = check_id(options["id"])
        return ScheduleRequest._make((fresh, mould.work, given, *mould.rest))

    def _resolved(
        self, target: object, params: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> ScheduleRequest:
        for name in options.keys() - _KNOWN:
            raise TypeError(f"{name!r} is not an option of a task; they are {sorted(_KNOWN)}")
        work_id, work, stored = self._target(target, params, options)
        said = self._merged(work, options)
        backoff = said.get("backoff")
        given = options.get("id")
        return ScheduleRequest(
            id=self._ids.make() if given is None else check_id(given),
            given_id=given is not None,
            work=work_id,
            params=stored,
            queue=said.get("queue") or "default",
            priority=said.get("priority") or 0,
            options=Options(
                max_attempts=said.get("max_attempts", 1),
                backoff=backoff if isinstance(backoff, Backoff) else None,
                timeout=said.get("timeout"),
                max_rescues=said.get("max_rescues", 5),
                store_result=said.get("store_result", True),
                on_done=self._follow_up(options.get("on_done"), "on_done"),
                on_failed=self._follow_up(options.get("on_failed"), "on_failed"),
            ),
            meta=self._meta(said, options),
            **_unique(options.get("unique")),
            on_conflict=_on_conflict(options.get("on_conflict", "raise")),
            connection=options.get("connection"),
            **_when(options, said),
        )

    def _follow_up(self, target: object, field: str) -> FollowUp | None:
        """What is to be inserted when the task ends, checked now."""
        if target is None:
            return None
        spec = target if isinstance(target, TaskSpec) else TaskSpec(target)
        request = self.make(spec.work, spec.params, spec.options)
        if request.given_id or request.unique is not None or request.at is not None:
            raise InvalidArgument(
                f"{field} cannot have id, unique or at; a follow-up is new each time, "
                "give it a delay",
                field=field,
            )
        return FollowUp(
            work=request.work,
            params=dump(request.params, "params"),
            queue=request.queue,
            priority=request.priority,
            delay=request.delay,
            options=request.options.encode(),
        )

    def adopt(self, work_id: str, params: dict[str, Any]) -> dict[str, Any]:
        """Params for a work by its id, checked if it is registered here."""
        work = self._works.find(work_id)
        return params if work is None else work.signature.adopt(params)

    def revive(self, work_id: str, result: Any) -> Any:
        """A stored result in the type the work's function is annotated with, if known here."""
        work = self._works.find(work_id)
        if work is None or result is None:
            return result
        return work.signature.result.from_json(result, "result")

    def _target(
        self, target: object, params: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[str, Work[..., Any] | None, dict[str, Any]]:
        if isinstance(target, Bound):
            if params is not None:
                raise InvalidArgument(
                    "params are bound already; pass them to bind() only", field="params"
                )
            return self._works.id_of(target.work), target.work, target.params
        if isinstance(target, Work):
            target = self._works.id_of(target)
        given = check_mapping(dict(params or {}), "params")
        work_id = check_work(target)
        if options.get("allow_unknown", self._allow_unknown):
            return work_id, self._works.find(work_id), self.adopt(work_id, given)
        work = self._works.get(work_id)
        return work_id, work, work.signature.adopt(given)

    def _merged(self, work: Work[..., Any] | None, options: Mapping[str, Any]) -> Mapping[str, Any]:
        call = {name: options[name] for name in _SHARED if name in options}
        said = WorkOptions.checked(**call).said() if call else {}
        of_work = work.options.said() if work is not None else {}
        if not (self._defaults or self._queue_defaults):
            return {**of_work, **said}
        queue = said.get("queue") or of_work.get("queue") or self._defaults.get("queue", "default")
        return {**self._defaults, **self._queue_defaults.get(queue, {}), **of_work, **said}

    @staticmethod
    def _meta(said: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any] | None:
        own = options.get("meta")
        of_work = said.get("meta")
        if own is None:
            return of_work
        return {**(of_work or {}), **check_mapping(own, "meta")}


def _checked_defaults(options: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """What the scheduler's or a queue's defaults said; a name that is no option is refused."""
    for name in sorted(options.keys() - _DEFAULTS):
        raise InvalidArgument(
            f"{name!r} in {field} is not an option; they are {', '.join(sorted(_DEFAULTS))}",
            field=f"{field}.{name}",
        )
    return WorkOptions.checked(**options).said()


def _timed(request: ScheduleRequest, options: Mapping[str, Any]) -> ScheduleRequest:
    """The request at the time that is all its options say."""
    at, delay = _nominal(options)
    # By position: `_replace` would take three times as long.
    return ScheduleRequest._make((*request[:_AT], at, delay, *request[_AT + 2 :]))


def _nominal(options: Mapping[str, Any]) -> tuple[datetime | None, float]:
    """The nominal time: an instant, or how long from now on the database's clock."""
    at, delay = options.get("at"), options.get("delay")
    if at is not None and delay is not None:
        raise InvalidArgument("at and delay exclude each other; give one of them", field="delay")
    if at is not None:
        return instant(at, "at"), 0.0
    return None, 0.0 if delay is None else seconds(delay, "delay")


def _when(options: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The nominal time and the deadline, as fields of the request."""
    at, delay = _nominal(options)
    fields: dict[str, Any] = {"at": at, "delay": delay}
    expires = options.get("expires", said.get("expires"))
    if isinstance(expires, datetime):
        fields["expires_at"] = instant(expires, "expires")
    elif expires is not None:
        fields["expires_in"] = seconds(expires, "expires")
    return fields


def _unique(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Unique):
        period = seconds(value.period, "unique.period")
        if period <= 0:
            raise InvalidArgument(
                f"unique.period is {shown(value.period)}; it must be more than zero",
                field="unique.period",
            )
        return {"unique": check_key(value.key, "unique"), "period": period}
    return {"unique": check_key(value, "unique")}


def _on_conflict(value: object) -> OnConflict:
    if value in {"raise", "return", "replace"}:
        return value
    raise InvalidArgument(
        f"on_conflict is {shown(value)}; it must be 'raise', 'return' or 'replace'",
        field="on_conflict",
    )


def may_be_claimed(task: ScheduleRequest | NewTask, answer: Inserted) -> bool:
    """Whether there is something new to claim: created, or replaced while it waited."""
    replaced = task.on_conflict == "replace" and answer.state is Stored.SCHEDULED
    return answer.claimed is None and (answer.created or replaced)
