"""The pull side: take tasks to run them yourself, outside the scheduler's slots."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from rota.control.pulled import Lease, Pulled
from rota.control.taking import Ask, Taking
from rota.core.clock import Clock, Seconds, seconds
from rota.core.codec import dump
from rota.core.duty import Offload
from rota.core.ids import new_incarnation
from rota.core.names import check_queue
from rota.core.options import Options
from rota.core.ports import Repository
from rota.core.task import Claimed, Finish, Lane, Stored
from rota.errors import InvalidArgument, LeaseLost, SchedulerNotRunning

log: logging.Logger = logging.getLogger("rota.control")

SAFETY_POLL = 1.0
#: Who pulls takes back what others let lapse, so often: there may be no node that does.
RESCUE = 5.0
RESCUE_LEASES = 100
_SHUT_DOWN = "the scheduler was shut down; claim with another one"

#: Adds the task that is to follow to an outcome, by the task's id and options.
WithFollowUp = Callable[[str, Options, Finish], Awaitable[Finish]]


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
        child_ended: Callable[[Sequence[str]], object],
        backoff: Callable[[Claimed], float],
        with_follow_up: WithFollowUp | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._clock = clock
        self._tell = tell
        self._ended = ended
        self._child_ended = child_ended
        self.backoff: Callable[[Claimed], float] = backoff
        self._with_follow_up = with_follow_up
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._waiting: set[asyncio.Event] = set()
        self._giving_back: set[asyncio.Task[None]] = set()
        self._rescue_at = clock.monotonic()
        self._taking = Taking(repository=repository, clock=clock)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a task."""
        return bool(self._waiting)

    def heard(self) -> None:
        """Something became claimable somewhere: those who wait look again."""
        for event in self._waiting:
            event.set()

    async def claim(
        self,
        queues: Sequence[str] | None,
        limit: int,
        *,
        wait: Seconds,
        lease: Seconds,
        closing: Callable[[], bool] = lambda: False,
    ) -> list[Pulled]:
        """Up to ``limit`` due tasks of these queues; waits up to ``wait`` s for the first."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidArgument(f"limit is {limit!r}; it must be 1 or more", field="limit")
        names = _checked(queues)
        span = seconds(lease, "lease")
        if span < 1:
            raise InvalidArgument(f"lease is {lease!r}; it must be 1 s or more", field="lease")
        until = self._clock.monotonic() + seconds(wait, "wait")
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while not closing():
                event.clear()
                await self._take_back()
                ask = Ask(new_incarnation(), names, limit, span)
                claimed, next_in = await self._safely(ask)
                left = until - self._clock.monotonic()
                if claimed or left <= 0:
                    held = Lease(ask.owner, span, claimed)
                    return [Pulled(item, lease=held, desk=self) for item in claimed]
                poll = SAFETY_POLL * self._rng.uniform(0.7, 1.0)
                await self._sleep(event, min(left, poll, next_in))
        except Exception as error:
            if closing():  # its threads or connections went away under the statement
                raise SchedulerNotRunning(_SHUT_DOWN) from error
            raise
        finally:
            self._waiting.discard(event)
        raise SchedulerNotRunning(_SHUT_DOWN)

    async def report(self, lease: Lease, claimed: Claimed, n: int, data: object) -> str | None:
        """Store progress and extend the lease; why it is to stop, if it is."""
        text = dump(data, "data")
        return await self._offload.run(self._report, lease, claimed, n, text)

    async def extend(self, lease: Lease, claimed: Claimed) -> str | None:
        """Extend the lease; why the task is to stop, if it is."""
        return await self._offload.run(self._extend, lease, claimed)

    async def end(self, lease: Lease, finish: Finish, options: Options, *, repeated: bool) -> None:
        """Write one outcome; ``LeaseLost`` if it was refused."""
        if self._with_follow_up is not None and finish.ending.terminal:
            finish = await self._with_follow_up(finish.id, options, finish)
        over = lease.end(finish.batch)
        try:
            states = await self._offload.run(
                self._repository.finish, lease.owner, [finish], over, repeated=repeated
            )
        except BaseException:
            lease.not_ended(finish.batch)
            raise
        state = states[0]
        if state is None:
            raise LeaseLost(finish.id)
        if finish.follow is not None:
            follow = finish.follow
            self._tell([Lane(follow.queue, follow.priority, follow.delay)])
        if state is Stored.SCHEDULED:
            self._tell([Lane(finish.queue, finish.priority, finish.delay)])
        else:
            self._ended([(finish.id, state)])
            if finish.recurring is not None:
                self._child_ended([finish.recurring])

    async def _safely(self, ask: Ask) -> tuple[list[Claimed], float]:
        """One try; what a cancelled caller does not get is given back at once."""
        attempt = asyncio.ensure_future(self._offload.run(self._taking.take, ask))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            task = asyncio.ensure_future(self._give_back(ask.owner, attempt))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise

    def _report(self, lease: Lease, claimed: Claimed, n: int, text: str) -> str | None:
        self._repository.report(lease.owner, claimed.id, claimed.batch, n, text)
        return self._extend(lease, claimed)

    def _extend(self, lease: Lease, claimed: Claimed) -> str | None:
        """Raises ``LeaseLost`` unless lease and task are still the claim's."""
        repository, owner, batch = self._repository, lease.owner, claimed.batch
        if not repository.still_mine(owner, [claimed.id]):
            raise LeaseLost(claimed.id)
        if not repository.extend(owner, batch, lease.seconds):
            raise LeaseLost(claimed.id)
        notices = repository.cancels(owner)
        return next((one.reason for one in notices if one.id == claimed.id), None)

    async def _take_back(self) -> None:
        """Rescue what other pullers let lapse, now and then."""
        if self._clock.monotonic() < self._rescue_at:
            return
        self._rescue_at = self._clock.monotonic() + RESCUE
        rescued = await self._offload.run(self._repository.rescue, RESCUE_LEASES)
        back = [item for item in rescued if item.state is Stored.SCHEDULED]
        lanes = {Lane(item.queue, item.priority, 0.0) for item in back}
        lanes |= {
            Lane(item.follow.queue, item.follow.priority, item.follow.delay)
            for item in rescued
            if item.follow is not None
        }
        if lanes:
            self._tell(list(lanes))
        self._ended([(item.id, item.state) for item in rescued if item not in back])

    async def _give_back(
        self, owner: int, attempt: asyncio.Future[tuple[list[Claimed], float]]
    ) -> None:
        try:
            claimed, _ = await attempt
            for batch in {item.batch for item in claimed}:
                await self._offload.run(self._repository.drop_lease, owner, batch)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; the lease ends by itself
            log.warning("tasks of a cancelled claim wait for their lease to end: %s", error)
            return
        if claimed:
            self._tell([Lane(item.queue, item.priority, 0.0) for item in claimed])

    async def _sleep(self, event: asyncio.Event, wait: float) -> None:
        alarm = self._clock.call_at(
            asyncio.get_running_loop(), self._clock.monotonic() + wait, event.set
        )
        try:
            await event.wait()
        finally:
            alarm.cancel()


def _checked(queues: Sequence[str] | None) -> list[str] | None:
    if isinstance(queues, str):
        raise InvalidArgument(
            f"queues is the text {queues!r}; give a list of names, [{queues!r}]", field="queues"
        )
    return None if queues is None else [check_queue(queue) for queue in queues]
