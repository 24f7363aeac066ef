"""The verbs that find tasks, and those that change all they find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from rota.control.waiting import Waiters
from rota.core.clock import Seconds, instant, seconds
from rota.core.duty import Offload
from rota.core.finding import Matched, Page, TaskFilter, check_limit
from rota.core.ids import check_id
from rota.core.looking import LookingStore
from rota.core.ports import Repository
from rota.core.task import Lane, Stored, Task
from rota.errors import InvalidArgument, TaskNotFound, WrongState

#: A page that is not full yet is looked for so many times on.
ROUNDS = 10
#: Tasks that one transaction changes.
CHUNK = 200

_ACTED = {Stored.SCHEDULED, Stored.PARKED}


class FindingVerbs:
    """Look through the tasks, page by page; the loop never blocks on the database."""

    def __init__(self, *, repository: LookingStore, offload: Offload) -> None:
        self._repository = repository
        self._offload = offload

    async def find(
        self, where: TaskFilter, *, limit: int, after: str | None, newest_first: bool
    ) -> Page:
        """The next page; it may be short, and still not the last, after a bounded look."""
        left, cursor = check_limit(limit), _cursor(after)
        tasks: list[Task] = []
        for _ in range(ROUNDS):
            page = await self._offload.run(
                self._repository.find, where, left, cursor, newest_first=newest_first
            )
            tasks += page.tasks
            left, cursor = left - len(page), page.next
            if cursor is None or not left:
                break
        return Page(tuple(tasks), cursor)


class MatchingVerbs:
    """Change every task that fits a filter, in chunks; each may be repeated safely.

    From the newest to the oldest, so that what is put in meanwhile is left alone.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        waiters: Waiters,
        stop_here: Callable[[str, str], object],
        changed: Callable[[str, list[Lane]], object],
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._waiters = waiters
        self._stop_here = stop_here
        self._changed = changed

    async def cancel(self, where: TaskFilter, reason: str, *, limit: int | None) -> Matched:
        """Cancel what waits, ask what works to stop."""
        fit = where.narrowed(("scheduled", "working"), "cancelled")

        async def act(ids: list[str]) -> Matched:
            met = await self._offload.run(self._repository.cancel_many, ids, reason)
            self._cancelled(met, reason)
            asked = sum(state is Stored.WORKING for state in met.values())
            done = sum(state in _ACTED for state in met.values())
            return Matched(done, asked, len(ids) - done - asked)

        return await self._each(fit, limit, act)

    async def reschedule(
        self,
        where: TaskFilter,
        *,
        at: datetime | None,
        delay: Seconds | None,
        limit: int | None,
    ) -> Matched:
        """Give what waits another time."""
        if (at is None) == (delay is None):
            raise InvalidArgument("give either at= or delay=, not both", field="delay")
        changes: dict[str, object] = {"at": instant(at, "at")} if at is not None else {}
        if delay is not None:
            changes["delay"] = seconds(delay, "delay")
        fit = where.narrowed(("scheduled",), "rescheduled")

        async def act(ids: list[str]) -> Matched:
            lanes = await self._offload.run(self._repository.reschedule_many, ids, changes)
            self._wait_now(lanes)
            return Matched(len(lanes), 0, len(ids) - len(lanes))

        return await self._each(fit, limit, act)

    async def retry_all(self, where: TaskFilter, *, limit: int | None) -> Matched:
        """Let what failed wait again, due now; what was cancelled only where that is said."""
        fit = where.narrowed(("failed", "cancelled"), "retried", unless=("failed",))

        async def act(ids: list[str]) -> Matched:
            lanes = await self._retry(ids)
            return Matched(len(lanes), 0, len(ids) - len(lanes))

        return await self._each(fit, limit, act)

    async def retry(self, task_id: str) -> None:
        """One of them; raises ``TaskNotFound``, ``WrongState``."""
        if not await self._retry([task_id]):
            await self._refuse(task_id, "only a failed or cancelled task is retried")

    async def delete_all(self, where: TaskFilter, *, limit: int | None) -> Matched:
        """Remove what has ended, with all that is known of it."""
        fit = where.narrowed(("done", "failed", "cancelled"), "deleted")

        async def act(ids: list[str]) -> Matched:
            gone = await self._offload.run(self._repository.delete_many, ids)
            return Matched(len(gone), 0, len(ids) - len(gone))

        return await self._each(fit, limit, act)

    async def delete(self, task_id: str) -> None:
        """One of them; raises ``TaskNotFound``, ``WrongState``."""
        if not await self._offload.run(self._repository.delete_many, [task_id]):
            await self._refuse(task_id, "only a finished task is deleted; cancel it first")

    async def _each(
        self,
        where: TaskFilter,
        limit: int | None,
        act: Callable[[list[str]], Awaitable[Matched]],
    ) -> Matched:
        total, cursor = Matched(), None
        left = _most(limit)
        while left is None or left > 0:
            most = CHUNK if left is None else min(CHUNK, left)
            found = await self._offload.run(self._repository.matching, where, most, cursor)
            if found.ids:
                total = total.plus(await act(found.ids))
            left = None if left is None else left - len(found.ids)
            cursor = found.next
            if cursor is None:
                break
        return total

    async def _retry(self, ids: Sequence[str]) -> dict[str, Lane]:
        lanes = await self._offload.run(self._repository.retry_many, ids)
        self._wait_now(lanes)
        return lanes

    async def _refuse(self, task_id: str, remedy: str) -> None:
        found = await self._offload.run(self._repository.states, [task_id])
        if task_id not in found:
            raise TaskNotFound(task_id)
        raise WrongState(task_id, str(found[task_id].public), remedy)

    def _cancelled(self, met: dict[str, Stored], reason: str) -> None:
        ended = [(one, Stored.CANCELLED) for one, state in met.items() if state in _ACTED]
        self._waiters.ended(ended)
        for task_id, state in met.items():
            if state is Stored.WORKING:
                self._stop_here(task_id, reason)
            if not state.public.final:
                self._changed(task_id, [])

    def _wait_now(self, lanes: dict[str, Lane]) -> None:
        """Tell who runs such tasks, once for each lane."""
        soonest = _soonest(lanes.values())
        for task_id in lanes:
            self._changed(task_id, soonest)
            soonest = []


def _soonest(lanes: Iterable[Lane]) -> list[Lane]:
    first: dict[tuple[str, int], Lane] = {}
    for lane in lanes:
        known = first.get(lane[:2])
        if known is None or lane.due_in < known.due_in:
            first[lane[:2]] = lane
    return list(first.values())


def _cursor(after: str | None) -> str | None:
    if after is None:
        return None
    try:
        return check_id(after)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"after {after!r} is no cursor; pass what the page before has as next", field="after"
        ) from error


def _most(limit: object) -> int | None:
    if limit is None or (type(limit) is int and limit >= 1):
        return limit
    raise InvalidArgument(
        f"limit {limit!r} must be a whole number of 1 or more, or None for all", field="limit"
    )
