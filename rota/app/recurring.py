"""What a scheduler's users say of recurring tasks; a part of ``Scheduler``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from rota.app.requests import TaskOptions
from rota.control.recurrence import Recurring, RecurringInfo
from rota.core.names import check_key
from rota.core.rulebook import RuleOptions
from rota.triggers import Trigger

if TYPE_CHECKING:
    from rota.app.house import House


class RecurringOptions(TaskOptions, RuleOptions, total=False):
    """The rules of a recurring task, and the options of its children."""


class RecurringFace:
    """Verbs on recurring tasks; ``Scheduler`` gives the house they act in."""

    def _open(self) -> House:
        raise NotImplementedError

    async def add_recurring(
        self,
        recurring_id: str,
        work: Any,
        trigger: Trigger,
        params: Mapping[str, Any] | None = None,
        *,
        replace_existing: bool = True,
        **options: Unpack[RecurringOptions],
    ) -> Recurring:
        """Have a work run again and again; each fire time makes one child task.

        The options are the rules of :class:`RuleOptions` and those of
        :class:`TaskOptions` that concern the children. Adding it again changes what
        differs and keeps its rhythm, unless the trigger, ``start``, ``end`` or
        ``max_runs`` differ; ``replace_existing=False`` leaves one that exists as it is.
        Raises an ``InvalidArgument`` that names the field, ``InvalidTrigger`` for a
        trigger that never fires, ``UnknownWork``.
        """
        return await self._open().recurring.add(
            recurring_id, work, trigger, params, options, replace=replace_existing
        )

    def recurring(self, recurring_id: str) -> Recurring:
        """A handle for a recurring task known by its id; does not ask the database."""
        return Recurring(check_key(recurring_id, "id"), verbs=self._open().recurring)

    async def list_recurring(
        self, limit: int = 1000, *, after: str | None = None
    ) -> list[RecurringInfo]:
        """Recurring tasks by id; ``after`` the last id of the page before.

        One this version cannot read is listed with the reason as ``broken``.
        """
        return await self._open().recurring.listed(limit, after)
