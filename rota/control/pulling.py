"""The pull side: take tasks to run them yourself, outside the scheduler's slots."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rota.core.clock import Clock, Seconds, seconds
from rota.core.codec import dump, load
from rota.core.duty import Offload
from rota.core.ids import new_incarnation
from rota.core.names import check_queue
from rota.core.options import decode_options
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Finish, Lane, Stored, Want
from rota.errors import InvalidArgument, LeaseLost

log = logging.getLogger("rota.control")

SAFETY_POLL = 1.0
LEASE = 60.0


class Pulled:
    """A task taken by ``claim``: yours until its lease ends, which ``report`` extends.

    End it with ``done``, ``fail`` or ``release``; each raises ``LeaseLost`` when somebody
    has taken the task back, and then changes nothing.
    """

    __slots__ = ("_claimed", "_desk", "_lease", "_owner", "_reports")

    def __init__(self, claimed: Claimed, *, owner: int, lease: float, desk: Pulling) -> None:
        self._claimed = claimed
        self._owner = owner
        self._lease = lease
        self._desk = desk
        self._reports = 0

    def __repr__(self) -> str:
        return f"<Pulled {self.work} {self.id} attempt {self.attempt}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._claimed.id

    @property
    def work(self) -> str:
        """Its work id; it need not be registered here."""
        return self._claimed.work

    @property
    def queue(self) -> str:
        """The queue it was taken from."""
        return self._claimed.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._claimed.attempt

    @property
    def params(self) -> dict[str, Any]:
        """The params, as JSON gives them."""
        params: dict[str, Any] = load(self._claimed.params)
        return params

    @property
    def meta(self) -> dict[str, Any]:
        """The task's meta; empty if it has none."""
        return load(self._claimed.meta) or {}

    async def report(self, data: Any) -> None:
        """Keep this as progress, and begin the lease anew."""
        self._reports += 1
        await self._desk.report(self._owner, self._claimed, self._reports, data, self._lease)

    async def done(self, result: Any = None) -> None:
        """The task is done."""
        payload = None if result is None else dump(result, "result")
        await self._end(Ending.DONE, payload=payload)

    async def fail(self, reason: str, *, retry: bool = True, after: Seconds | None = None) -> None:
        """This attempt failed: tried again while attempts are left, unless ``retry`` is false."""
        options = decode_options(self._claimed.options)
        left = options.max_attempts is None or self.attempt < options.max_attempts
        if not (retry and left):
            await self._end(Ending.FAILED, reason=reason)
            return
        wait = self._desk.backoff(self._claimed) if after is None else seconds(after, "after")
        await self._end(Ending.RETRY, reason=reason, delay=wait)

    async def release(self, after: Seconds = 0) -> None:
        """Give it back without cost: the attempt does not count."""
        await self._end(Ending.RELEASE, delay=seconds(after, "after"))

    async def _end(self, ending: Ending, **fields: Any) -> None:
        claimed = self._claimed
        finish = Finish(
            claimed.id,
            claimed.batch,
            claimed.attempt,
            ending,
            queue=claimed.queue,
            priority=claimed.priority,
            **fields,
        )
        await self._desk.end(self._owner, finish)


class Pulling:
    """Claims with a deadline instead of a node; at least one try, safe to cancel."""

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        clock: Clock,
        tell: Callable[[Sequence[Lane]], object],
        ended: Callable[[Sequence[tuple[str, Stored]]], object],
        backoff: Callable[[Claimed], float],
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._clock = clock
        self._tell = tell
        self._ended = ended
        self.backoff = backoff
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._waiting: set[asyncio.Event] = set()
        self._left: Counter[tuple[int, int]] = Counter()

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a task."""
        return bool(self._waiting)

    def heard(self) -> None:
        """Something became claimable somewhere: those who wait look again."""
        for event in self._waiting:
            event.set()

    async def claim(
        self, queues: Sequence[str] | None, limit: int, *, wait: Seconds, lease: Seconds
    ) -> list[Pulled]:
        """Up to ``limit`` due tasks of these queues; waits up to ``wait`` s for the first."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidArgument(f"limit is {limit!r}; it must be 1 or more", field="limit")
        names = None if queues is None else [check_queue(queue) for queue in queues]
        span = seconds(lease, "lease")
        if span < 1:
            raise InvalidArgument(f"lease is {lease!r}; it must be 1 s or more", field="lease")
        until = self._clock.monotonic() + seconds(wait, "wait")
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while True:
                event.clear()
                owner = new_incarnation()
                claimed, next_in = await self._safely(owner, names, limit, span)
                left = until - self._clock.monotonic()
                if claimed or left <= 0:
                    self._left.update((owner, item.batch) for item in claimed)
                    return [Pulled(item, owner=owner, lease=span, desk=self) for item in claimed]
                poll = SAFETY_POLL * self._rng.uniform(0.7, 1.0)
                await self._sleep(event, min(left, poll, next_in))
        finally:
            self._waiting.discard(event)

    async def report(self, owner: int, claimed: Claimed, n: int, data: Any, lease: float) -> None:
        """Store progress and extend the lease."""
        text = dump(data, "data")
        await self._offload.run(self._repository.report, owner, claimed.id, claimed.batch, n, text)
        if not await self._offload.run(self._repository.extend, owner, claimed.batch, lease):
            raise LeaseLost(claimed.id)

    async def end(self, owner: int, finish: Finish) -> None:
        """Write one outcome; ``LeaseLost`` if it was refused."""
        token = (owner, finish.batch)
        over = [finish.batch] if self._left[token] <= 1 else []
        state = (await self._offload.run(self._repository.finish, owner, [finish], over))[0]
        self._left[token] -= 1
        if self._left[token] <= 0:
            del self._left[token]
        if state is None:
            raise LeaseLost(finish.id)
        if state is Stored.SCHEDULED:
            self._tell([Lane(finish.queue, finish.priority, finish.delay)])
        else:
            self._ended([(finish.id, state)])

    async def _safely(
        self, owner: int, queues: list[str] | None, limit: int, lease: float
    ) -> tuple[list[Claimed], float]:
        """One try; what a cancelled caller does not get is given back at once."""
        attempt = asyncio.ensure_future(self._offload.run(self._try, owner, queues, limit, lease))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.add_done_callback(lambda done: self._give_back(owner, done))
            raise

    def _try(
        self, owner: int, queues: list[str] | None, limit: int, lease: float
    ) -> tuple[list[Claimed], float]:
        """Claim lane by lane, highest priority first; in how many seconds the next is due."""
        claimed: list[Claimed] = []
        next_in = float("inf")
        batch = 1
        for lane in self._repository.agenda(queues):
            if lane.due_in > 0:
                next_in = min(next_in, lane.due_in)
            elif len(claimed) < limit:
                want = Want(lane.queue, lane.priority, limit - len(claimed))
                claimed += self._repository.claim_until(owner, batch, [want], lease)
                batch += limit + 1
        return claimed, next_in

    def _give_back(self, owner: int, done: asyncio.Future[tuple[list[Claimed], float]]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        batches = {item.batch for item in done.result()[0]}
        for batch in batches:
            task = asyncio.ensure_future(
                self._offload.run(self._repository.drop_lease, owner, batch)
            )
            task.add_done_callback(_log_failure)

    async def _sleep(self, event: asyncio.Event, wait: float) -> None:
        alarm = self._clock.call_at(
            asyncio.get_running_loop(), self._clock.monotonic() + wait, event.set
        )
        try:
            await event.wait()
        finally:
            alarm.cancel()


def _log_failure(task: asyncio.Future[int]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("tasks of a cancelled claim wait for their lease to end: %s", error)
