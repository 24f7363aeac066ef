"""A task taken by ``claim``, and the lease it is held under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rota.core.clock import Seconds, seconds
from rota.core.codec import dump, load
from rota.core.failure import reason as as_stored
from rota.core.options import decode_options
from rota.core.task import Claimed, Ending, Finish
from rota.errors import LeaseLost

if TYPE_CHECKING:
    from rota.control.pulling import Pulling


class Lease:
    """The token of one ``claim``, and how many of its tasks are still to end."""

    __slots__ = ("_left", "owner", "seconds")

    def __init__(self, owner: int, span: float, claimed: Sequence[Claimed]) -> None:
        self.owner: int = owner
        self.seconds: float = span
        self._left: Counter[int] = Counter(item.batch for item in claimed)

    def end(self, batch: int) -> list[int]:
        """One task of the batch ends; the batch, if it was the last."""
        self._left[batch] -= 1
        return [batch] if self._left[batch] <= 0 else []

    def not_ended(self, batch: int) -> None:
        """It may not have, after all."""
        self._left[batch] += 1


class Pulled:
    """A task taken by ``claim``: yours until its lease ends, which ``report`` extends.

    End it with ``done``, ``fail`` or ``release``; each raises ``LeaseLost`` when somebody
    has taken the task back, and then changes nothing. After another error call it again:
    a ``done`` or ``fail`` that had gone through is recognised. A task that was asked to stop
    says so at the next ``report`` or ``extend``: then ``release`` it, which cancels it.
    """

    __slots__ = (
        "_cancel_reason",
        "_claimed",
        "_desk",
        "_lease",
        "_options",
        "_reports",
        "_tried",
    )

    def __init__(self, claimed: Claimed, *, lease: Lease, desk: Pulling) -> None:
        self._claimed = claimed
        self._options = decode_options(claimed.options)
        self._lease = lease
        self._desk = desk
        self._cancel_reason: str | None = None
        self._reports = 0
        self._tried = False

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

    @property
    def cancelled(self) -> bool:
        """Whether it had been asked to stop at the last ``report`` or ``extend``."""
        return self._cancel_reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why it was asked to stop."""
        return self._cancel_reason

    async def report(self, data: Any) -> bool:
        """Keep this as progress, and begin the lease anew; False if the task is to stop."""
        self._reports += 1
        return self._heard(await self._desk.report(self._lease, self._claimed, self._reports, data))

    async def extend(self) -> bool:
        """Begin the lease anew, with nothing to report; False if the task is to stop."""
        return self._heard(await self._desk.extend(self._lease, self._claimed))

    async def done(self, result: Any = None) -> None:
        """The task is done, also if it was asked to stop."""
        keep = result is not None and self._options.store_result
        await self._end(Ending.DONE, payload=dump(result, "result") if keep else None)

    async def fail(self, reason: str, *, retry: bool = True, after: Seconds | None = None) -> None:
        """This attempt failed: tried again while attempts are left, unless ``retry`` is false.

        The wait is ``after`` seconds, else the task's backoff. One that was asked to stop is
        cancelled instead of tried again.
        """
        limit = self._options.max_attempts
        told = as_stored(reason) or "failed"
        if not retry or (limit is not None and self.attempt >= limit):
            await self._end(Ending.FAILED, reason=told)
            return
        wait = self._desk.backoff(self._claimed) if after is None else seconds(after, "after")
        await self._end(Ending.RETRY, reason=told, delay=wait)

    async def release(self, after: Seconds = 0) -> None:
        """Give it back without cost: the attempt does not count.

        One that was asked to stop is cancelled instead.
        """
        await self._end(Ending.RELEASE, delay=seconds(after, "after"))

    def _heard(self, reason: str | None) -> bool:
        self._cancel_reason = reason
        return reason is None

    async def _end(self, ending: Ending, **fields: Any) -> None:
        claimed, repeated = self._claimed, self._tried
        finish = Finish(
            claimed.id,
            claimed.batch,
            claimed.attempt,
            ending,
            queue=claimed.queue,
            priority=claimed.priority,
            recurring=claimed.recurring,
            **fields,
        )
        self._tried = True
        try:
            await self._desk.end(self._lease, finish, self._options, repeated=repeated)
        except LeaseLost:
            # An answer: what is said after it must not be taken for an earlier word of ours.
            self._tried = False
            raise
        self._tried = False
