"""What a scheduler's users ask about many tasks, and do to many; a part of ``Scheduler``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from typing_extensions import Unpack

from rota.control.counting import CountingVerbs
from rota.control.finding import FindingVerbs, MatchingVerbs
from rota.control.handle import TaskHandle
from rota.control.pausing import PausingVerbs
from rota.core.clock import Seconds
from rota.core.finding import Counts, Failures, Filters, Matched, NodeInfo, Page, TaskFilter
from rota.core.ids import check_id
from rota.core.retention import Keeping
from rota.core.task import Task
from rota.errors import InvalidArgument

if TYPE_CHECKING:
    from rota.app.house import House


class LookingFace:
    """Verbs on many tasks, on queues and nodes; ``Scheduler`` gives the house they act in."""

    def _open(self) -> House:
        raise NotImplementedError

    @overload
    async def find(self, *, unique: str) -> Task | None: ...
    @overload
    async def find(
        self,
        where: TaskFilter | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = True,
        **filters: Unpack[Filters],
    ) -> Page: ...
    async def find(
        self,
        where: TaskFilter | None = None,
        *,
        unique: str | None = None,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = True,
        **filters: Any,
    ) -> Task | Page | None:
        """Tasks that fit all filters, in the order of their ids, which is that of their creation.

        ``after`` is the ``next`` of the page before; ``limit`` at most 1000. The filters
        are those of :class:`TaskFilter`, or one of these as ``where``. A page may be short,
        even empty, and still have a ``next``: no look goes through more than 100,000 tasks.

        With ``unique`` alone: the unfinished task that has this key, None if there is none.
        """
        house = self._open()
        if unique is not None and where is None and not filters:
            return await house.verbs.find(unique)
        if unique is not None or (where is not None and filters):
            raise InvalidArgument(
                "give a TaskFilter or filters, and unique= alone; "
                "TaskFilter(unique=…) joins a key with others",
                field="where",
            )
        verbs = FindingVerbs(repository=house.repository, offload=house.offload)
        chosen = TaskFilter(**filters) if where is None else where
        return await verbs.find(chosen, limit=limit, after=after, newest_first=newest_first)

    @overload
    async def counts(self) -> dict[str, int]: ...
    @overload
    async def counts(
        self, by: Literal["queue", "work"], *, since: datetime | Seconds | None = None
    ) -> dict[str, Counts]: ...
    async def counts(
        self, by: str | None = None, *, since: datetime | Seconds | None = None
    ) -> dict[str, int] | dict[str, Counts]:
        """Unfinished tasks by status: scheduled, parked, working; or all ``by`` queue or work.

        What waits is exact up to 10,000 per queue. What has ended is counted from ``since``
        (an instant, or seconds ago), by default as long as counts are kept, 30 days: to the
        minute, beyond two hours to ten minutes, a day to the hour, eight days to the day.
        """
        house = self._open()
        if by is None:
            return await house.offload.run(house.repository.counts)
        return await _counting(house).counts(by, since)

    async def failures(
        self, since: datetime | Seconds | None = None, limit: int = 50
    ) -> list[Failures]:
        """What failed, grouped by work and error, the latest group first.

        Looks at the newest 10,000 failed tasks; ``since`` is an instant, or seconds ago.
        """
        return await _counting(self._open()).failures(since, limit)

    async def keeping(self) -> Keeping:
        """How long history is kept, and whether an archive gets it first: what all nodes go by."""
        house = self._open()
        return await house.offload.run(house.repository.keeping)

    async def nodes(self) -> list[NodeInfo]:
        """All nodes that are not declared dead, the oldest first, and how much each holds."""
        return await _counting(self._open()).nodes()

    async def running_tasks(self, node: int | None = None, limit: int = 100) -> list[Task]:
        """Tasks that are worked on, of one node (its ``id``) or of all, by id."""
        return await _counting(self._open()).running(node, limit)

    async def cancel_matching(
        self,
        where: TaskFilter,
        reason: str = "cancelled by the caller",
        *,
        limit: int | None = None,
    ) -> Matched:
        """Cancel every unfinished task that fits, the newest first; see :meth:`cancel`."""
        return await _matching(self._open()).cancel(where, reason, limit=limit)

    async def reschedule_matching(
        self,
        where: TaskFilter,
        *,
        at: datetime | None = None,
        delay: Seconds | None = None,
        limit: int | None = None,
    ) -> Matched:
        """Give every waiting task that fits another time; see :meth:`update`."""
        return await _matching(self._open()).reschedule(where, at=at, delay=delay, limit=limit)

    async def retry(self, task_id: object) -> TaskHandle[Any]:
        """Let a failed or cancelled task run again, now: the same id, from attempt 1.

        Its outcome stays in its history as an attempt; its unique key is not taken
        again, and it does not expire. Raises ``TaskNotFound``, ``WrongState``.
        """
        house, checked = self._open(), check_id(task_id)
        await _matching(house).retry(checked)
        return TaskHandle(checked, verbs=house.verbs)

    async def retry_matching(self, where: TaskFilter, *, limit: int | None = None) -> Matched:
        """The same for every failed task that fits; for cancelled ones if ``state`` says so."""
        return await _matching(self._open()).retry_all(where, limit=limit)

    async def delete(self, task_id: object) -> None:
        """Remove a finished task with all that is known of it.

        Raises ``TaskNotFound``, ``WrongState`` for one that has not ended.
        """
        await _matching(self._open()).delete(check_id(task_id))

    async def delete_matching(self, where: TaskFilter, *, limit: int | None = None) -> Matched:
        """The same for every finished task that fits; what has been counted stays so."""
        return await _matching(self._open()).delete_all(where, limit=limit)

    async def pause_queue(self, queue: str, reason: str = "") -> None:
        """Start nothing more of this queue, on any node, until it is resumed; lasting.

        Within about a second; what runs goes on. Tasks may still be put in.
        """
        await _pausing(self._open()).pause_queue(queue, reason)

    async def resume_queue(self, queue: str) -> bool:
        """Go on with a queue; False when it was not paused."""
        return await _pausing(self._open()).resume_queue(queue)

    async def paused_queues(self) -> dict[str, str]:
        """The paused queues and why."""
        return await _pausing(self._open()).paused_queues()

    async def pause_work(self, work: str, reason: str = "") -> None:
        """Start nothing more of this work, on any node, until it is resumed; lasting.

        Within about a second; what runs goes on. Its due tasks are parked, where whoever
        pulls tasks may still take them.
        """
        await _pausing(self._open()).pause_work(work, reason)

    async def resume_work(self, work: str) -> bool:
        """Go on with a work; False when it was not paused."""
        return await _pausing(self._open()).resume_work(work)

    async def paused_works(self) -> dict[str, str]:
        """The paused works and why."""
        return await _pausing(self._open()).paused_works()


def _counting(house: House) -> CountingVerbs:
    return CountingVerbs(repository=house.repository, offload=house.offload, clock=house.clock)


def _matching(house: House) -> MatchingVerbs:
    return MatchingVerbs(
        repository=house.repository,
        offload=house.offload,
        waiters=house.waiters,
        stop_here=house.wires.stop,
        changed=house.wires.changed,
    )


def _pausing(house: House) -> PausingVerbs:
    return PausingVerbs(
        repository=house.repository,
        offload=house.offload,
        look=house.holdback.suspect,
        changed=house.wires.changed,
    )
