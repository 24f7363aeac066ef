"""The verbs on tasks that exist: look, wait, cancel, change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from rota.control.handle import TaskHandle
from rota.control.waiting import Waiters
from rota.core.clock import Clock, Seconds, instant, seconds
from rota.core.codec import SIZE_LIMIT, check_mapping, dump, load
from rota.core.duty import Offload
from rota.core.failure import reason as as_stored
from rota.core.ids import check_id
from rota.core.names import check_key, check_priority, check_queue
from rota.core.ports import Repository
from rota.core.task import Attempt, Lane, Report, Stored, Task, TaskState
from rota.core.unset import UNSET, Unset
from rota.errors import (
    InvalidArgument,
    InvalidParams,
    ResultTimeout,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    UnreadableResult,
)

#: How many children are looked at in one statement.
PAGE = 200

CancelAnswer = Literal["cancelled", "requested", "done", "failed"]


class TaskVerbs:
    """What can be said of and to a stored task; the loop never blocks on the database."""

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        waiters: Waiters,
        clock: Clock,
        stop_here: Callable[[str, str], object],
        changed: Callable[[str, list[Lane]], object],
        adopt: Callable[[str, dict[str, Any]], dict[str, Any]],
        revive: Callable[[str, Any], Any],
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._waiters = waiters
        self._clock = clock
        self._stop_here = stop_here
        self._changed = changed
        self._adopt = adopt
        self._revive = revive
        self._size_limit = size_limit

    async def info(self, task_id: str) -> Task:
        """The task as it stands; raises ``TaskNotFound``."""
        task = await self._offload.run(self._repository.get, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        return task

    async def history(self, task_id: str) -> list[Attempt]:
        """The attempts that have ended, oldest first."""
        return await self._offload.run(self._repository.attempts, task_id)

    async def find(self, unique: str) -> Task | None:
        """The unfinished task with this unique key."""
        key = check_key(unique, "unique")
        task_id = await self._offload.run(self._repository.find_key, key)
        return None if task_id is None else await self._offload.run(self._repository.get, task_id)

    async def find_key(self, unique: str) -> str:
        """The id of the unfinished task with this key; raises ``TaskNotFound``."""
        key = check_key(unique, "unique")
        task_id = await self._offload.run(self._repository.find_key, key)
        if task_id is None:
            raise TaskNotFound(f"with unique key {key!r}")
        return task_id

    async def wait(self, task_id: str, timeout: Seconds | None = None) -> Task:
        """The task once it has ended; raises ``ResultTimeout``, ``TaskNotFound``."""
        task = await self.info(task_id)
        if task.state.final:
            return task
        limit = None if timeout is None else seconds(timeout, "timeout")
        waiting = asyncio.ensure_future(self._waiters.wait(task_id))
        alarm = None
        if limit is not None:
            loop = asyncio.get_running_loop()
            alarm = self._clock.call_at(loop, self._clock.monotonic() + limit, waiting.cancel)
        try:
            await asyncio.wait([waiting])
        finally:
            if alarm is not None:
                alarm.cancel()
            waiting.cancel()
        if waiting.cancelled():
            raise ResultTimeout(
                f"task {task_id} did not end within {limit:g} s; it goes on, wait again for it"
            )
        waiting.result()
        return await self.info(task_id)

    async def result(self, task_id: str, timeout: Seconds | None = None) -> Any:
        """What the work returned; in its annotated type where the work is registered here.

        Raises ``TaskFailed``, ``TaskCancelled``, ``ResultTimeout``, ``TaskNotFound``,
        ``UnreadableResult``.
        """
        task = await self.wait(task_id, timeout)
        if task.state is TaskState.FAILED:
            raise TaskFailed(task_id, task.reason or "failed", task.error)
        if task.state is TaskState.CANCELLED:
            raise TaskCancelled(task_id, task.reason or "cancelled")
        try:
            return self._revive(task.work, task.result)
        except InvalidParams as misfit:
            raise UnreadableResult(task.id, task.work, task.result, misfit) from misfit

    async def report(self, task_id: str) -> Report | None:
        """The newest progress report of a task, also after its end."""
        stored = await self._offload.run(self._repository.reported, task_id)
        return None if stored is None else stored._replace(data=load(stored.data))

    async def children(
        self, task_id: str, limit: int = 100, *, after: str | None = None
    ) -> list[TaskHandle[Any]]:
        """Handles of what a task spawned, by id."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidArgument(f"limit is {limit!r}; it must be 1 or more", field="limit")
        last = None if after is None else check_id(after)
        rows = await self._offload.run(self._repository.children, task_id, limit, last)
        return [
            TaskHandle(child, verbs=self, created=False, state_met=str(state.public))
            for child, _, state in rows
        ]

    async def count_children(self, task_id: str) -> dict[TaskState, int]:
        """How many children a task has in each state; parked ones count as scheduled."""
        counts: dict[TaskState, int] = {}
        stored = await self._offload.run(self._repository.count_children, task_id)
        for state, count in stored.items():
            counts[state.public] = counts.get(state.public, 0) + count
        return counts

    async def cancel(
        self, task_id: str, reason: str, *, children: bool = False, tombstone: bool = False
    ) -> CancelAnswer:
        """Cancel a waiting task, ask a working one to stop, tell how a finished one ended.

        The parent goes first, so that it spawns nothing more while its children go.
        """
        if not isinstance(reason, str):
            raise InvalidArgument(
                f"reason is a {type(reason).__name__}; say in words why", field="reason"
            )
        told = as_stored(reason) or "cancelled"
        answer = await self._cancel(task_id, told, tombstone=tombstone)
        if children:
            await self._cancel_children(task_id, told)
        return answer

    async def _cancel_children(self, task_id: str, reason: str) -> None:
        after = None
        while rows := await self._offload.run(self._repository.children, task_id, PAGE, after):
            for child, _, state in rows:
                after = child
                if not state.public.final:
                    await self._cancel(child, reason, tombstone=False)
                await self._cancel_children(child, reason)

    async def _cancel(self, task_id: str, reason: str, *, tombstone: bool) -> CancelAnswer:
        met = await self._offload.run(self._repository.cancel, task_id, reason, tombstone=tombstone)
        match met:
            case None:
                raise TaskNotFound(task_id)
            case Stored.SCHEDULED | Stored.PARKED:
                self._waiters.ended([(task_id, Stored.CANCELLED)])
                self._changed(task_id, [])
                return "cancelled"
            case Stored.WORKING:
                self._stop_here(task_id, reason)
                self._changed(task_id, [])
                return "requested"
            case Stored.DONE:
                return "done"
            case Stored.FAILED:
                return "failed"
            case Stored.CANCELLED:
                return "cancelled"

    async def update(
        self,
        task_id: str,
        *,
        at: datetime | Unset = UNSET,
        delay: Seconds | Unset = UNSET,
        queue: str | Unset = UNSET,
        priority: int | Unset = UNSET,
        params: dict[str, Any] | Unset = UNSET,
        expected_version: int | None = None,
    ) -> Task:
        """Change a waiting task; what is not given stays.

        Raises ``WrongState`` for one that works or has ended, ``StaleVersion``.
        """
        changes: dict[str, object] = {}
        if not isinstance(at, Unset):
            changes["at"] = instant(at, "at")
        if not isinstance(delay, Unset):
            changes["delay"] = seconds(delay, "delay")
        if "at" in changes and "delay" in changes:
            raise InvalidArgument("at and delay exclude each other; give one", field="delay")
        if not isinstance(queue, Unset):
            changes["queue"] = check_queue(queue)
        if not isinstance(priority, Unset):
            changes["priority"] = check_priority(priority)
        if not isinstance(params, Unset):
            task = await self.info(task_id)
            fitting = self._adopt(task.work, check_mapping(params, "params"))
            changes["params"] = dump(fitting, "params", limit=self._size_limit)
        if not changes:
            return await self.info(task_id)
        task = await self._offload.run(self._repository.update, task_id, changes, expected_version)
        due_in = (task.run_at - self._clock.now()).total_seconds()
        self._changed(task_id, [Lane(task.queue, task.priority, max(0.0, due_in))])
        return task
