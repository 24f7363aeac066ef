"""The verbs on recurring tasks for threads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import Unpack

from rota.app.blocking import BlockingHandle, LoopCaller
from rota.app.recurring import RecurringOptions
from rota.control.recurrence import Recurring, RecurringInfo
from rota.core.recurring import Decision, Put
from rota.core.task import TaskState
from rota.triggers import Trigger

if TYPE_CHECKING:
    from rota.app.scheduler import Scheduler


class BlockingChildTask(NamedTuple):
    """A child, for which fire time, of which version of the definition, and its state."""

    task: BlockingHandle[Any]
    fire_at: datetime
    version: int | None
    state: TaskState


class BlockingRecurring:
    """A recurring task, for threads; see :class:`Recurring`."""

    __slots__ = ("_caller", "_recurring")

    def __init__(self, recurring: Recurring, caller: LoopCaller) -> None:
        self._recurring = recurring
        self._caller = caller

    def __repr__(self) -> str:
        return f"BlockingRecurring({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingRecurring) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """The recurring task's id."""
        return self._recurring.id

    @property
    def put(self) -> Put | None:
        """What adding it did; None for a handle that was only asked for."""
        return self._recurring.put

    def info(self) -> RecurringInfo:
        """As :meth:`Recurring.info`."""
        return self._caller.call(self._recurring.info())

    def change(self, **changes: Any) -> Put:
        """As :meth:`Recurring.change`."""
        return self._caller.call(self._recurring.change(**changes))

    def pause(self) -> bool:
        """As :meth:`Recurring.pause`."""
        return self._caller.call(self._recurring.pause())

    def resume(self) -> bool:
        """As :meth:`Recurring.resume`."""
        return self._caller.call(self._recurring.resume())

    def remove(self) -> None:
        """As :meth:`Recurring.remove`."""
        self._caller.call(self._recurring.remove())

    def trigger_now(self) -> BlockingHandle[Any]:
        """As :meth:`Recurring.trigger_now`."""
        return BlockingHandle(self._caller.call(self._recurring.trigger_now()), self._caller)

    def next_fire_times(self, count: int = 10) -> list[datetime]:
        """As :meth:`Recurring.next_fire_times`."""
        return self._caller.call(self._recurring.next_fire_times(count))

    def children(
        self, limit: int = 100, *, before: datetime | None = None
    ) -> list[BlockingChildTask]:
        """As :meth:`Recurring.children`."""
        found = self._caller.call(self._recurring.children(limit, before=before))
        return [
            BlockingChildTask(BlockingHandle(child.task, self._caller), *child[1:])
            for child in found
        ]

    def decisions(self, limit: int = 100, *, before: datetime | None = None) -> list[Decision]:
        """As :meth:`Recurring.decisions`."""
        return self._caller.call(self._recurring.decisions(limit, before=before))

    def outstanding(self) -> int:
        """As :meth:`Recurring.outstanding`."""
        return self._caller.call(self._recurring.outstanding())


class BlockingRecurringFace(LoopCaller):
    """Verbs on recurring tasks; a part of ``Blocking``."""

    _scheduler: Scheduler

    def add_recurring(
        self,
        recurring_id: str,
        work: Any,
        trigger: Trigger,
        params: Mapping[str, Any] | None = None,
        *,
        replace_existing: bool = True,
        **options: Unpack[RecurringOptions],
    ) -> BlockingRecurring:
        """As :meth:`Scheduler.add_recurring`."""
        added = self._scheduler.add_recurring(
            recurring_id, work, trigger, params, replace_existing=replace_existing, **options
        )
        return BlockingRecurring(self.call(added), self)

    def recurring(self, recurring_id: str) -> BlockingRecurring:
        """As :meth:`Scheduler.recurring`."""
        return BlockingRecurring(self._scheduler.recurring(recurring_id), self)

    def list_recurring(self, limit: int = 1000, *, after: str | None = None) -> list[RecurringInfo]:
        """As :meth:`Scheduler.list_recurring`."""
        return self.call(self._scheduler.list_recurring(limit, after=after))
