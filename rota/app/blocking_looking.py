"""The verbs on many tasks for threads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from typing_extensions import Unpack

from rota.app.blocking import BlockingHandle, LoopCaller
from rota.core.clock import Seconds
from rota.core.finding import Counts, Failures, Filters, Matched, NodeInfo, Page, TaskFilter
from rota.core.retention import Keeping
from rota.core.task import Task

if TYPE_CHECKING:
    from rota.app.scheduler import Scheduler


class BlockingLookingFace(LoopCaller):
    """As the verbs of the same names of ``Scheduler``."""

    _scheduler: Scheduler

    @overload
    def find(self, *, unique: str) -> Task | None: ...
    @overload
    def find(
        self,
        where: TaskFilter | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = True,
        **filters: Unpack[Filters],
    ) -> Page: ...
    def find(self, where: TaskFilter | None = None, **how: Any) -> Task | Page | None:
        """As :meth:`Scheduler.find`."""
        found: Task | Page | None = self.call(self._scheduler.find(where, **how))
        return found

    @overload
    def counts(self) -> dict[str, int]: ...
    @overload
    def counts(
        self, by: Literal["queue", "work"], *, since: datetime | Seconds | None = None
    ) -> dict[str, Counts]: ...
    def counts(
        self,
        by: Literal["queue", "work"] | None = None,
        *,
        since: datetime | Seconds | None = None,
    ) -> dict[str, int] | dict[str, Counts]:
        """As :meth:`Scheduler.counts`."""
        if by is None:
            return self.call(self._scheduler.counts())
        return self.call(self._scheduler.counts(by, since=since))

    def failures(self, since: datetime | Seconds | None = None, limit: int = 50) -> list[Failures]:
        """As :meth:`Scheduler.failures`."""
        return self.call(self._scheduler.failures(since, limit))

    def keeping(self) -> Keeping:
        """As :meth:`Scheduler.keeping`."""
        return self.call(self._scheduler.keeping())

    def nodes(self) -> list[NodeInfo]:
        """As :meth:`Scheduler.nodes`."""
        return self.call(self._scheduler.nodes())

    def running_tasks(self, node: int | None = None, limit: int = 100) -> list[Task]:
        """As :meth:`Scheduler.running_tasks`."""
        return self.call(self._scheduler.running_tasks(node, limit))

    def cancel_matching(
        self,
        where: TaskFilter,
        reason: str = "cancelled by the caller",
        *,
        limit: int | None = None,
    ) -> Matched:
        """As :meth:`Scheduler.cancel_matching`."""
        return self.call(self._scheduler.cancel_matching(where, reason, limit=limit))

    def reschedule_matching(
        self,
        where: TaskFilter,
        *,
        at: datetime | None = None,
        delay: Seconds | None = None,
        limit: int | None = None,
    ) -> Matched:
        """As :meth:`Scheduler.reschedule_matching`."""
        return self.call(
            self._scheduler.reschedule_matching(where, at=at, delay=delay, limit=limit)
        )

    def retry(self, task_id: object) -> BlockingHandle[Any]:
        """As :meth:`Scheduler.retry`."""
        return BlockingHandle(self.call(self._scheduler.retry(task_id)), self)

    def retry_matching(self, where: TaskFilter, *, limit: int | None = None) -> Matched:
        """As :meth:`Scheduler.retry_matching`."""
        return self.call(self._scheduler.retry_matching(where, limit=limit))

    def delete(self, task_id: object) -> None:
        """As :meth:`Scheduler.delete`."""
        self.call(self._scheduler.delete(task_id))

    def delete_matching(self, where: TaskFilter, *, limit: int | None = None) -> Matched:
        """As :meth:`Scheduler.delete_matching`."""
        return self.call(self._scheduler.delete_matching(where, limit=limit))

    def pause_queue(self, queue: str, reason: str = "") -> None:
        """As :meth:`Scheduler.pause_queue`."""
        self.call(self._scheduler.pause_queue(queue, reason))

    def resume_queue(self, queue: str) -> bool:
        """As :meth:`Scheduler.resume_queue`."""
        return self.call(self._scheduler.resume_queue(queue))

    def paused_queues(self) -> dict[str, str]:
        """As :meth:`Scheduler.paused_queues`."""
        return self.call(self._scheduler.paused_queues())

    def pause_work(self, work: str, reason: str = "") -> None:
        """As :meth:`Scheduler.pause_work`."""
        self.call(self._scheduler.pause_work(work, reason))

    def resume_work(self, work: str) -> bool:
        """As :meth:`Scheduler.resume_work`."""
        return self.call(self._scheduler.resume_work(work))

    def paused_works(self) -> dict[str, str]:
        """As :meth:`Scheduler.paused_works`."""
        return self.call(self._scheduler.paused_works())
