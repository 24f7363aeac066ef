"""A recurring task, as its caller holds it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rota.core.recurring import Rules
from rota.core.task import TaskState
from rota.triggers import Trigger

if TYPE_CHECKING:
    from rota.control.handle import TaskHandle
    from rota.control.recurring import RecurringVerbs
    from rota.core.recurring import Decision, Put


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringInfo:
    """A recurring task as it stands; ``broken`` says why this version cannot read it.

    ``next_fire_at`` is the first fire time that is not decided, None once it has ended;
    ``version`` counts the changes; ``runs`` the children so far.
    """

    id: str
    work: str
    params: Any
    trigger: Trigger | None
    rules: Rules | None
    queue: str
    priority: int
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    paused: bool
    version: int
    runs: int
    meta: dict[str, Any] | None = None
    broken: str | None = None


class ChildTask(NamedTuple):
    """A child, for which fire time, of which version of the definition, and its state."""

    task: TaskHandle[Any]
    fire_at: datetime
    version: int | None
    state: TaskState


class Recurring:
    """A recurring task by its id; asks the database only when a verb does.

    ``put`` says what adding it did: ``created``, ``changed``, ``same`` (it was there like
    this), ``older`` (the stored one states a higher version) or ``exists``
    (``replace_existing=False``); None for a handle that was only asked for.
    """

    __slots__ = ("_verbs", "id", "put")

    def __init__(self, recurring_id: str, *, verbs: RecurringVerbs, put: Put | None = None) -> None:
        self.id: str = recurring_id
        self.put: Put | None = put
        self._verbs = verbs

    def __repr__(self) -> str:
        return f"Recurring({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recurring) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def info(self) -> RecurringInfo:
        """The definition as it stands; raises ``RecurringNotFound``."""
        return self._verbs.info_of(await self._verbs.get(self.id))

    async def change(self, **changes: Any) -> Put:
        """Change what is given: ``work``, ``params``, ``trigger``, rules or options of its tasks.

        The rhythm goes on unless the trigger, ``start``, ``end`` or ``max_runs`` change.
        """
        return await self._verbs.change(self.id, changes)

    async def pause(self) -> bool:
        """Let it fire no more until ``resume``; False if it was paused. Children go on."""
        return await self._verbs.pause(self.id)

    async def resume(self) -> bool:
        """Go on with the next fire time; those that passed are one decision ``missed``.

        False if it was not paused.
        """
        return await self._verbs.resume(self.id)

    async def remove(self) -> None:
        """Forget the definition; its children go on, its decisions stay for a while."""
        await self._verbs.remove(self.id)

    async def trigger_now(self) -> TaskHandle[Any]:
        """Make a child now, out of rhythm, whatever ``overlap`` says, paused or not.

        It counts as unfinished child of the next fire time, not towards ``max_runs``; its
        decision is ``triggered``. Raises ``Rejected`` if a middleware refuses it.
        """
        return await self._verbs.trigger_now(self.id)

    async def next_fire_times(self, count: int = 10) -> list[datetime]:
        """The next fire times, in UTC; of a paused one those it would have if resumed now."""
        return await self._verbs.next_fire_times(self.id, count)

    async def children(
        self, limit: int = 100, *, before: datetime | None = None
    ) -> list[ChildTask]:
        """Its children, newest fire time first; ``before`` the last time of the page before."""
        return await self._verbs.children(self.id, limit, before)

    async def decisions(
        self, limit: int = 100, *, before: datetime | None = None
    ) -> list[Decision]:
        """What was decided at its fire times, newest first; also after it was removed."""
        return await self._verbs.decisions(self.id, limit, before)

    async def outstanding(self) -> int:
        """How many of its children have not ended, counted up to 10,000."""
        return await self._verbs.outstanding(self.id)
