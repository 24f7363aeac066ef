"""The verbs on recurring tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from rota.control.defining import define, never_fires, overlay, refuse_options
from rota.control.handle import TaskHandle
from rota.control.planning import pass_over, upcoming
from rota.control.reading import Reader, Reading, Unreadable, child_request
from rota.control.recurrence import ChildTask, Recurring, RecurringInfo
from rota.core.clock import instant
from rota.core.codec import load
from rota.core.duty import Offload
from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.recurring import Decision, Definition, Fire, Put, Rules
from rota.core.request import ScheduleRequest
from rota.core.rulebook import RuleOptions, make_rules, said_of
from rota.core.task import Stored
from rota.errors import InvalidArgument, InvalidTrigger, RecurringNotFound

#: A resume that lost to somebody else's change is tried so many times.
RESUMES = 20

RULES = frozenset(RuleOptions.__annotations__)
#: Resolves work, params and options of a task; ``Requests.make``.
Make = Callable[[Any, Mapping[str, Any] | None, Mapping[str, Any]], ScheduleRequest]


class RecurringVerbs:
    """What can be said of and to definitions; the loop never blocks on the database."""

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        reader: Reader,
        changed: Callable[[str], object],
        make: Make,
        send: Callable[[ScheduleRequest], Awaitable[TaskHandle[Any]]],
        handle: Callable[[str, Stored], TaskHandle[Any]],
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._reader = reader
        self._changed = changed
        self._make = make
        self._send = send
        self._handle = handle

    async def add(
        self,
        recurring_id: object,
        work: object,
        trigger: object,
        params: Mapping[str, Any] | None,
        said: Mapping[str, Any],
        *,
        replace: bool,
    ) -> Recurring:
        """Store the definition, or change the one that exists."""
        rules, options = split(said)
        refuse_options(options)
        request = self._make(work, params, options)
        put = await self._offload.run(
            self.put, recurring_id, request, trigger, rules, replace=replace
        )
        return Recurring(str(recurring_id), verbs=self, put=put)

    def put(
        self,
        recurring_id: object,
        request: ScheduleRequest,
        trigger: Any,
        rules: Rules,
        *,
        replace: bool = True,
    ) -> Put:
        """The same in a thread: one call of several statements."""
        definition = define(recurring_id, request, trigger, rules, self._repository.now())
        if definition.next_fire_at is None:
            stored = self._repository.get_recurring(definition.id)
            if stored is None or not _same_rhythm(stored, definition):
                raise never_fires(definition.id, trigger, rules)
        put = self._repository.put_recurring(definition, replace=replace)
        if put in {Put.CREATED, Put.CHANGED}:
            self._changed(definition.id)
        return put

    async def change(self, recurring_id: str, changes: Mapping[str, Any]) -> Put:
        """Change what is given, keep the rest."""
        changes = dict(changes)
        work, params = changes.pop("work", None), changes.pop("params", None)
        trigger = changes.pop("trigger", None)
        definition = await self.get(recurring_id)
        reading = self.read(definition)
        given = {name: value for name, value in changes.items() if name in RULES}
        known = dict(said_of(reading.rules))
        if given.get("overlap") == "allow":
            del known["max_instances"]
        rules = make_rules(**{**known, **given})
        options = {name: value for name, value in changes.items() if name not in RULES}
        refuse_options(options)
        if work is None:
            # It is stored already: whether this node knows it does not matter.
            options["allow_unknown"] = True
            work, params = definition.work, load(definition.params) if params is None else params
        request = overlay(definition, reading, self._make(work, params, options), options)
        return await self._offload.run(
            self.put, recurring_id, request, trigger or reading.trigger, rules
        )

    async def get(self, recurring_id: str) -> Definition:
        """The stored definition; raises ``RecurringNotFound``."""
        found = await self._offload.run(self._repository.get_recurring, recurring_id)
        if found is None:
            raise RecurringNotFound(recurring_id)
        return found

    def read(self, definition: Definition) -> Reading:
        """Its parts; raises ``InvalidTrigger`` for one this version cannot read."""
        try:
            return self._reader.read(definition)
        except Unreadable as error:
            raise InvalidTrigger(
                f"recurring task {definition.id!r} cannot be read by this version ({error}); "
                "upgrade rota, or add it again",
                field="trigger",
            ) from error

    def info_of(self, definition: Definition) -> RecurringInfo:
        """What is shown of a definition, readable or not."""
        reading, broken = None, None
        try:
            reading = self._reader.read(definition)
        except Unreadable as error:
            broken = str(error)
        return RecurringInfo(
            id=definition.id,
            work=definition.work,
            params=definition.params if reading is None else load(definition.params),
            trigger=None if reading is None else reading.trigger,
            rules=None if reading is None else reading.rules,
            queue=definition.queue,
            priority=definition.priority,
            next_fire_at=definition.next_fire_at,
            last_fire_at=definition.last_fire_at,
            paused=definition.paused,
            version=definition.version,
            runs=definition.runs,
            meta=None if reading is None else load(definition.meta),
            broken=broken,
        )

    async def listed(self, limit: int, after: str | None) -> list[RecurringInfo]:
        """Definitions by id, those after ``after``."""
        found = await self._offload.run(self._repository.list_recurring, _page(limit), after)
        return [self.info_of(definition) for definition in found]

    async def remove(self, recurring_id: str) -> None:
        """Forget the definition."""
        if not await self._offload.run(self._repository.remove_recurring, recurring_id):
            raise RecurringNotFound(recurring_id)
        self._changed(recurring_id)

    async def pause(self, recurring_id: str) -> bool:
        """Whether it was not paused before."""
        paused = await self._offload.run(self._repository.pause_recurring, recurring_id)
        if paused is None:
            raise RecurringNotFound(recurring_id)
        self._changed(recurring_id)
        return paused

    async def resume(self, recurring_id: str) -> bool:
        """Whether it was paused; what came due meanwhile is recorded as missed."""
        for _ in range(RESUMES):
            definition = await self.get(recurring_id)
            if not definition.paused:
                return False
            reading = self.read(definition)
            now = await self._offload.run(self._repository.now)
            missed = pass_over(definition, reading.trigger, reading.rules, now)
            if await self._offload.run(
                self._repository.resume_recurring,
                recurring_id,
                definition.next_fire_at,
                missed.following,
                missed.fire,
            ):
                self._changed(recurring_id)
                return True
        raise InvalidArgument(
            f"recurring task {recurring_id!r} is changed all the time by somebody else; "
            "resume it again",
            field="id",
        )

    async def trigger_now(self, recurring_id: str) -> TaskHandle[Any]:
        """A child out of rhythm, through the whole chain."""
        definition = await self.get(recurring_id)
        reading = self.read(definition)
        now = await self._offload.run(self._repository.now)
        fire = Fire(
            recurring=recurring_id,
            expected=None,
            following=None,
            fire_at=now,
            decision="triggered",
        )
        return await self._send(child_request(definition, reading, fire, new_id()))

    async def next_fire_times(self, recurring_id: str, count: int) -> list[datetime]:
        """The next fire times that are not decided."""
        definition = await self.get(recurring_id)
        reading = self.read(definition)
        now = await self._offload.run(self._repository.now)
        return await self._offload.run(
            upcoming, definition, reading.trigger, reading.rules, now, _page(count)
        )

    async def children(
        self, recurring_id: str, limit: int, before: datetime | None
    ) -> list[ChildTask]:
        """Its children, newest fire time first."""
        until = None if before is None else instant(before, "before")
        found = await self._offload.run(
            self._repository.children_of, recurring_id, _page(limit), until
        )
        return [
            ChildTask(
                self._handle(child.task, child.state),
                child.fire_at,
                child.version,
                child.state.public,
            )
            for child in found
        ]

    async def decisions(
        self, recurring_id: str, limit: int, before: datetime | None
    ) -> list[Decision]:
        """What was decided, newest first."""
        until = None if before is None else instant(before, "before")
        return await self._offload.run(
            self._repository.decisions, recurring_id, _page(limit), until
        )

    async def outstanding(self, recurring_id: str) -> int:
        """How many children have not ended."""
        return await self._offload.run(self._repository.outstanding, recurring_id)


def split(said: Mapping[str, Any]) -> tuple[Rules, dict[str, Any]]:
    """The rules among what was said, checked, and the options of the tasks."""
    rules = {name: value for name, value in said.items() if name in RULES}
    options = {name: value for name, value in said.items() if name not in RULES}
    return make_rules(**rules), options


def _same_rhythm(stored: Definition, given: Definition) -> bool:
    """Whether putting ``given`` leaves the fire times of what is stored alone."""
    if stored.trigger != given.trigger:
        return False
    old, new = Rules.decode(stored.rules), Rules.decode(given.rules)
    return (old.start, old.end, old.max_runs) == (new.start, new.end, new.max_runs)


def _page(limit: int) -> int:
    if type(limit) is not int or not 0 < limit <= 10_000:
        raise InvalidArgument(
            f"limit is {limit!r}; it must be a whole number from 1 to 10000", field="limit"
        )
    return limit
