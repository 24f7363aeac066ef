"""One try of a puller: from which lanes, what of the parked, and what is not for it after all."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from rota.core.clock import Clock
from rota.core.names import PRIORITY_MIN
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Finish, Lane, Want
from rota.errors import StorageUnavailable

log: logging.Logger = logging.getLogger("rota.control")

#: Another puller was faster: what it left may be due sooner than the agenda said.
AFTER_A_MISS = 0.2
#: What is parked is looked for so often, and whenever there is too little else.
PARKED = 1.0
#: Where all that was taken is not for pullers, it is tried again so often at once.
ROUNDS = 50


class Ask(NamedTuple):
    """What one try is for: up to ``limit`` tasks of these queues (None: all), under one owner."""

    owner: int
    queues: list[str] | None
    limit: int
    lease: float


class Taking:
    """Claims for pullers; blocks on the database, used by any thread.

    Neither gives out what has expired, which it cancels, nor tasks of paused works, which
    it parks as a node does.
    """

    def __init__(self, *, repository: Repository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock
        self._parked_at = clock.monotonic()

    def take(self, ask: Ask) -> tuple[list[Claimed], float]:
        """Claim lane by lane, highest priority first; in how many seconds the next is due."""
        agenda = self._repository.agenda(ask.queues)
        paused = self._repository.paused_works()
        later = [lane.due_in for lane in agenda if lane.due_in > 0]
        due = [lane for lane in agenda if lane.due_in <= 0]
        due.sort(key=lambda lane: (-lane.priority, lane.due_in))
        claimed: list[Claimed] = []
        batch = 1
        try:
            for source in self._sources(due):
                for _ in range(ROUNDS):
                    most = ask.limit - len(claimed)
                    taken = self._claim(ask, batch, source, most, paused)
                    batch += ask.limit + 1
                    fit = self._fit(ask.owner, taken, paused)
                    claimed += fit
                    if len(fit) == len(taken):
                        break
                if len(claimed) >= ask.limit:
                    break
        except StorageUnavailable as error:
            if not claimed:
                raise
            # What was taken before would wait for its lease to end.
            log.warning("claimed less than there may be: %s", error)
        return claimed, min([*later, AFTER_A_MISS] if due else later, default=float("inf"))

    def _sources(self, due: Sequence[Lane]) -> Iterator[Lane | int]:
        """The lanes, the highest first; before each priority (a number) what is parked from it up.

        So that no lane that is never empty keeps what is parked waiting.
        """
        parked = self._look_for_parked(idle=not due)
        priority: int | None = None
        for lane in due:
            if parked and lane.priority != priority:
                priority = lane.priority
                yield priority
            yield lane
        if parked or (due and self._look_for_parked(idle=True)):
            yield PRIORITY_MIN

    def _look_for_parked(self, *, idle: bool) -> bool:
        """Whether anything is parked; asked now and then, and when there is too little else."""
        now = self._clock.monotonic()
        if not idle and now < self._parked_at:
            return False
        found = bool(self._repository.strangers([], 1))
        self._parked_at = now if found else now + PARKED
        return found

    def _claim(
        self, ask: Ask, batch: int, source: Lane | int, most: int, paused: Collection[str]
    ) -> list[Claimed]:
        repository = self._repository
        if isinstance(source, Lane):
            want = Want(source.queue, source.priority, most)
            return repository.claim_until(ask.owner, batch, [want], ask.lease)
        return repository.claim_parked_until(
            ask.owner, batch, ask.queues, most, ask.lease, floor=source, but_not=list(paused)
        )

    def _fit(self, owner: int, taken: Sequence[Claimed], paused: Collection[str]) -> list[Claimed]:
        """Those that may be worked on; the others are written off at once."""
        fit: list[Claimed] = []
        finishes: list[Finish] = []
        for item in sorted(taken):
            if item.expires_in is not None and item.expires_in <= 0:
                finishes.append(_finish(item, Ending.CANCELLED, "expired"))
            elif item.work in paused:
                finishes.append(_finish(item, Ending.PARK, "paused"))
            else:
                fit.append(item)
        if not finishes:
            return list(taken)
        over = {item.batch for item in finishes} - {item.batch for item in fit}
        self._repository.finish(owner, finishes, sorted(over))
        kept = {item.id for item in fit}
        return [item for item in taken if item.id in kept]


def _finish(item: Claimed, ending: Ending, reason: str) -> Finish:
    return Finish(item.id, item.batch, item.attempt, ending, reason=reason)
