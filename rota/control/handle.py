"""A scheduled task, as its caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from rota.control.tasks import CancelAnswer, TaskVerbs
    from rota.core.clock import Seconds
    from rota.core.task import Attempt, Report, Task, TaskState

R = TypeVar("R", default=Any)


class TaskHandle(Generic[R]):
    """A task by its id; ``R`` is the type of its result.

    ``created`` is False when an existing task was met (``on_conflict="return"``). Two
    handles of one task are equal.
    """

    __slots__ = ("_verbs", "created", "id", "state_met")

    def __init__(
        self, task_id: str, *, verbs: TaskVerbs, created: bool = True, state_met: str = "scheduled"
    ) -> None:
        self.id: str = task_id
        self.created: bool = created
        self.state_met: str = state_met  #: the state an existing task was met in
        self._verbs = verbs

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r}, created={self.created})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def info(self) -> Task:
        """The task as it stands now."""
        return await self._verbs.info(self.id)

    async def history(self) -> list[Attempt]:
        """Its attempts that have ended, oldest first."""
        return await self._verbs.history(self.id)

    async def wait(self, timeout: Seconds | None = None) -> Task:
        """The task once it has ended, however; ``ResultTimeout`` after so many seconds."""
        return await self._verbs.wait(self.id, timeout)

    async def result(self, timeout: Seconds | None = None) -> R:
        """What the work returned; survives retries, and which node runs it does not matter.

        In the type the work is annotated to return, where it is registered; else as JSON
        gives it. Raises ``TaskFailed``, ``TaskCancelled``, ``ResultTimeout``, or
        ``UnreadableResult`` if another version of the work stored what does not fit here.
        """
        return cast("R", await self._verbs.result(self.id, timeout))

    async def cancel(
        self, reason: str = "cancelled by the caller", *, children: bool = False
    ) -> CancelAnswer:
        """Cancel it: ``cancelled`` if it waited, ``requested`` if it runs, else how it ended.

        With ``children`` everything it spawned, and what that spawned, is cancelled too.
        """
        return await self._verbs.cancel(self.id, reason, children=children)

    async def report(self) -> Report | None:
        """Its newest progress report, also after its end."""
        return await self._verbs.report(self.id)

    async def children(
        self, limit: int = 100, *, after: str | None = None
    ) -> list[TaskHandle[Any]]:
        """What it spawned, by id; ``after`` the last id of the page before."""
        return await self._verbs.children(self.id, limit, after=after)

    async def count_children(self) -> dict[TaskState, int]:
        """How many children it has in each state."""
        return await self._verbs.count_children(self.id)

    async def update(self, **changes: Any) -> Task:
        """Change it while it waits: ``at``, ``delay``, ``queue``, ``priority``, ``params``."""
        return await self._verbs.update(self.id, **changes)
