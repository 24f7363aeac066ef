"""What a scheduler's users say of and to tasks that exist; the other half of ``Scheduler``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rota.app.house import House
from rota.app.looking import LookingFace
from rota.app.probing import take_health
from rota.app.recurring import RecurringFace
from rota.control.handle import TaskHandle
from rota.control.health import Health
from rota.control.pulled import Pulled
from rota.core.clock import Seconds
from rota.core.ids import check_id
from rota.core.task import Attempt, Change, Task
from rota.errors import InvalidArgument

if TYPE_CHECKING:
    from rota.control.tasks import CancelAnswer


class SchedulerVerbs(RecurringFace, LookingFace):
    """Verbs by id, by key, and on the node itself; ``Scheduler`` gives the house they act in."""

    def _open(self) -> House:
        raise NotImplementedError

    def _entered(self) -> House:
        """As ``_open``, also while it drains because schema and code do not fit."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Wait until what ``schedule_soon`` took is stored or has failed."""
        await self._open().soon.flush()

    def wake(self) -> None:
        """Look for work now: for after a commit that nobody could tell rota of (psycopg's)."""
        house = self._open()
        asyncio.run_coroutine_threadsafe(house.wires.look_everywhere(), house.loop)

    async def claim(
        self,
        queues: Sequence[str] | None = None,
        limit: int = 1,
        *,
        wait: Seconds = 0,
        lease: Seconds = 60,
    ) -> list[Pulled]:
        """Take up to ``limit`` due tasks to run them yourself; the pull side.

        Waits up to ``wait`` seconds for the first; tries at least once. Each is yours for
        ``lease`` seconds, which ``report`` extends; then anybody may take it back, and
        until somebody has, ``done`` still counts. Their works need not be registered here.
        Whoever pulls takes back what other pullers let lapse, as every node that runs tasks
        does: with neither alive, it waits for the next that starts. Raises
        ``SchedulerNotRunning`` if the scheduler is shut down meanwhile.
        """
        house = self._open()
        return await house.pulling.claim(
            queues, limit, wait=wait, lease=lease, closing=lambda: house.closing
        )

    async def health(self) -> Health:
        """How this node is; asks the database once, for the backlog's age."""
        return await take_health(self._entered())

    def handle(self, task_id: object) -> TaskHandle[Any]:
        """A handle for a task known by its id; does not ask the database."""
        return TaskHandle(check_id(task_id), verbs=self._open().verbs)

    async def info(self, task_id: object) -> Task:
        """The task as it stands; raises ``TaskNotFound``."""
        return await self._open().verbs.info(check_id(task_id))

    async def history(self, task_id: object) -> list[Attempt]:
        """A task's attempts that have ended, oldest first."""
        return await self._open().verbs.history(check_id(task_id))

    async def cancel(
        self,
        task_id: object = None,
        reason: str = "cancelled by the caller",
        *,
        unique: str | None = None,
        children: bool = False,
        tombstone: bool = False,
    ) -> CancelAnswer:
        """Cancel a task, wherever it is; see :meth:`TaskHandle.cancel`.

        By its id, or by ``unique`` the unfinished one with that key. An unknown id raises
        ``TaskNotFound``; with ``tombstone`` it is written down as cancelled, so that a
        schedule that comes later with this id meets it.
        """
        verbs = self._open().verbs
        if (task_id is None) == (unique is None):
            raise InvalidArgument(
                "unique and a task's id exclude each other, and one is needed; give one of them",
                field="unique",
            )
        if unique is not None:
            task_id = await verbs.find_key(unique)
        return await verbs.cancel(check_id(task_id), reason, children=children, tombstone=tombstone)

    async def changes(
        self, cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[Change], str]:
        """What has happened to tasks since the cursor; and the cursor to go on from.

        Needs the change feed on (``await scheduler.feed(on=True)``). None begins at the oldest
        kept. No change is skipped and none comes twice.
        """
        house = self._open()
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidArgument(f"limit is {limit!r}; it must be 1 or more", field="limit")
        return await house.offload.run(house.repository.updated_since, cursor, limit)

    async def feed(self, *, on: bool) -> None:
        """Turn the change feed of this database on or off, for all nodes."""
        house = self._open()
        await house.offload.run(lambda: house.repository.feed(on=on))

    async def update(self, task_id: object, **changes: Any) -> Task:
        """Change a waiting task; see :meth:`TaskHandle.update`."""
        return await self._open().verbs.update(check_id(task_id), **changes)

    async def run_now(self, task_id: object) -> None:
        """Claim this very task and run it here, due or not.

        Raises ``AlreadyClaimed`` if another attempt has it, ``WrongState``, ``TaskNotFound``.
        """
        house = self._open()
        await house.offload.run(house.sync.claim_one, check_id(task_id))
