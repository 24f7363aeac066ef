"""Where claimed tasks enter the engine: how many there is room for, and what becomes of each."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from rota.core.clock import Clock
from rota.core.eventlog import about
from rota.core.task import Claimed, Ending, Finish, NewTask
from rota.scheduler.engine import Engine
from rota.scheduler.executor import Executor, Held, Route

log: logging.Logger = logging.getLogger("rota.scheduler")

#: Beyond its free slots a node takes at most so many tasks.
PREFETCH_LIMIT = 1_000
#: The prefetch covers so many claim round trips at the measured rate.
PREFETCH_ROUND_TRIPS = 4.0
#: The rate is looked at every so many seconds, and smoothed over so many.
RATE_EVERY, RATE_OVER = 0.02, 0.1
#: What could not start within so many seconds of its time is handed back.
PATIENCE = 1.0


class Intake:
    """Turns claimed rows into held entries, in the thread of whoever claimed them.

    ``room`` is asked by the claimer, ``fit`` by the inserter, ``take`` is called by either;
    ``give_back_late`` on the loop.
    Tasks of a work nobody knows here, or that is ``held_back``, are parked, free of cost.
    ``admit`` is asked for tasks that were due before this node started; what it refuses is
    cancelled.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        executor: Executor,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        route: Callable[[str], Route | None],
        works: Callable[[], Sequence[str]],
        put: Callable[[int, Finish], object],
        round_trip: Callable[[], float],
        admit: Callable[[Claimed], bool] | None = None,
        held_back: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._loop = loop
        self._clock = clock
        self._route = route
        self._works = works
        self._put = put
        self._round_trip = round_trip
        self._admit = admit
        self._held_back = held_back
        #: When this node started, on the database's clock; until it is set nothing is older.
        self.began_at: datetime | None = None
        self._handed = 0
        self._counting = threading.Lock()
        self._rate = 0.0
        self._rate_at = clock.monotonic()
        self._rate_count = 0
        self.unknown: dict[str, list[str]] = {}

    def works(self) -> Sequence[str]:
        return self._works()

    def room(self) -> tuple[int, int, dict[str, int] | None]:
        """How many more to run now, how many due soon, and what limited queues can take."""
        dispatcher = self._engine.dispatcher
        in_flight = self._handed - dispatcher.received
        ripe = dispatcher.ripe
        ready = dispatcher.concurrency + self.prefetch() - dispatcher.running - ripe - in_flight
        ahead = dispatcher.concurrency - (dispatcher.held - ripe) - in_flight
        return ready, max(0, ahead), self.by_queue()

    def by_queue(self) -> dict[str, int] | None:
        """What limited queues can take; None where there are none. From any thread."""
        dispatcher = self._engine.dispatcher
        return {queue: dispatcher.room(queue) for queue in dispatcher.limits} or None

    def fit(self, tasks: Sequence[NewTask]) -> bool:
        """Whether all of these are known here, and there are free slots for them all."""
        dispatcher = self._engine.dispatcher
        starting = dispatcher.ripe + self._handed - dispatcher.received
        if len(tasks) > dispatcher.concurrency - dispatcher.running - starting:
            return False
        works = {task.work for task in tasks}
        if any(self._held_back(work) or self._route(work) is None for work in works):
            return False
        if not dispatcher.limits:
            return True
        asked = Counter(task.queue for task in tasks)
        limited = asked.keys() & dispatcher.limits.keys()
        # Whose what is about to start is, is not counted: with a limit it is waited for.
        room = all(asked[queue] <= dispatcher.room(queue) for queue in limited)
        return not limited or (room and not starting)

    def prefetch(self) -> int:
        """How many tasks beyond the slots keep them busy while the next claim is under way."""
        now = self._clock.monotonic()
        elapsed = now - self._rate_at
        if elapsed >= RATE_EVERY:
            freed = self._engine.dispatcher.freed
            rate = (freed - self._rate_count) / elapsed
            self._rate += min(1.0, elapsed / RATE_OVER) * (rate - self._rate)
            self._rate_at, self._rate_count = now, freed
        wanted = self._rate * self._round_trip() * PREFETCH_ROUND_TRIPS
        return min(PREFETCH_LIMIT, int(wanted))

    def hungry(self) -> bool:
        """Whether a freed slot is worth waking the claimer: it finds little left to start."""
        dispatcher = self._engine.dispatcher
        return dispatcher.ripe * 4 <= dispatcher.concurrency

    def take(self, node: int, claimed: Sequence[Claimed], received: float) -> None:
        """Hold these until their time; park what nobody here knows."""
        entries = []
        routes: dict[str, Route | None] = {}
        for item in claimed:
            work = item.work
            if work not in routes:
                routes[work] = self._route(work)
            route = routes[work]
            if self._held_back(work):
                self._put(node, _finish(item, Ending.PARK, "paused"))
            elif route is None:
                self._park(node, item)
            elif self._admit is not None and self._refused(item):
                self._put(node, _finish(item, Ending.CANCELLED, "not_restored"))
            else:
                # In the order of its arguments, as in `Executor.execute`.
                entries.append(Held(item, node, received, route, self._executor))
        if not entries:
            return
        with self._counting:
            self._handed += len(entries)
        self.hold(entries)
        try:
            self._loop.call_soon_threadsafe(self._engine.dispatcher.add, entries)
        except RuntimeError:  # the loop was closed under us: give everything back
            for entry in entries:
                self.give_back(entry)

    def hold(self, entries: Sequence[Held]) -> None:
        """Called with what is about to go to the loop."""

    def give_back(self, held: Held) -> None:
        """Hand an entry that has not started back, without cost."""
        self._put(held.node, _finish(held.claimed, Ending.RELEASE, None))

    def give_back_late(self) -> int:
        """Hand back what has been due for longer than the patience without getting a slot."""
        late = self._engine.dispatcher.overripe(PATIENCE)
        for entry in late:
            if isinstance(entry, Held):
                self.give_back(entry)
        return len(late)

    def _park(self, node: int, item: Claimed) -> None:
        known = self.unknown.setdefault(item.work, [])
        if not known:
            log.warning(
                "work %r is not registered here; its tasks wait for a node that knows it",
                item.work,
                extra=about("unknown_work", work=item.work, queue=item.queue, node=node),
            )
        if len(known) < 1_000:
            known.append(item.id)
        self._put(node, _finish(item, Ending.PARK, "unknown work"))

    def _refused(self, item: Claimed) -> bool:
        if self._admit is None or self.began_at is None:
            return False
        if item.run_at >= self.began_at.timestamp() * 1_000_000:
            return False
        try:
            return not self._admit(item)
        except Exception:
            log.exception("should_restore raised for task %s; the task runs", item.id)
            return False


def _finish(item: Claimed, ending: Ending, reason: str | None) -> Finish:
    return Finish(
        item.id,
        item.batch,
        item.attempt,
        ending,
        reason=reason,
        queue=item.queue,
        priority=item.priority,
    )
