"""The verbs on recurring tasks."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from datetime import datetime

from rota.core.clock import instant
from rota.core.codec import dump
from rota.core.duty import Offload
from rota.core.names import check_key
from rota.core.ports import Repository
from rota.core.recurring import Decision, Definition
from rota.core.request import ScheduleRequest
from rota.errors import InvalidTrigger, RecurringNotFound
from rota.triggers import Trigger


class RecurringVerbs:
    """Add, look at and remove definitions."""

    def __init__(
        self, *, repository: Repository, offload: Offload, changed: Callable[[str], object]
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._changed = changed

    async def add(
        self,
        recurring_id: str,
        request: ScheduleRequest,
        trigger: Trigger,
        *,
        start: datetime | None = None,
    ) -> None:
        """Store the definition; an existing one is changed and keeps its next fire time."""
        name = check_key(recurring_id, "id")
        now = await self._offload.run(self._repository.now)
        first = trigger.next(now if start is None else max(now, instant(start, "start")))
        if first is None:
            raise InvalidTrigger(
                f"the trigger of {name!r} ({trigger.describe()}) never fires; change it",
                field="trigger",
            )
        definition = Definition(
            id=name,
            work=request.work,
            params=dump(request.params, "params"),
            trigger=json.dumps(trigger.to_json(), sort_keys=True, separators=(",", ":")),
            options=request.options.encode(),
            queue=request.queue,
            priority=request.priority,
            next_fire_at=first,
        )
        await self._offload.run(self._repository.put_recurring, definition)
        self._changed(name)

    async def remove(self, recurring_id: str) -> None:
        """Forget the definition; children that exist go on. Raises ``RecurringNotFound``."""
        if not await self._offload.run(self._repository.remove_recurring, recurring_id):
            raise RecurringNotFound(recurring_id)
        self._changed(recurring_id)

    async def list(self) -> builtins.list[Definition]:
        """All definitions, by id."""
        return await self._offload.run(self._repository.list_recurring)

    async def decisions(self, recurring_id: str, limit: int = 100) -> builtins.list[Decision]:
        """The newest decisions first."""
        return await self._offload.run(self._repository.decisions, recurring_id, limit)
