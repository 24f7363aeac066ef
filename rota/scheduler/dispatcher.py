"""Start what is due, at most ``concurrency`` at once, the rest in order."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from rota.core.clock import Clock
from rota.core.giving_way import give_way
from rota.scheduler.line import Line, Place
from rota.scheduler.timer import Timer

log: logging.Logger = logging.getLogger("rota.scheduler")

#: How many runs one turn of the loop starts: few enough that a burst does not hold it up, and
#: that a short run's objects are gone before the garbage collector comes by; enough that the
#: turn itself is cheap.
STARTS_PER_TURN = 32
#: After so many turns that left something to start, the loop gives way to the threads.
GIVE_WAY_EVERY = 4
_NEVER = float("inf")


class Entry:
    """Something to run at its time: subclasses say what by ``run``.

    ``lingering`` is set by a run that ended while its thread goes on: the slot stays
    taken until that future is done.
    """

    __slots__ = (
        "due",
        "line",
        "lingering",
        "name",
        "priority",
        "queue",
        "ripe_at",
        "started",
        "task",
        "ticking",
        "withdrawn",
    )

    def __init__(
        self, due: float, priority: int = 0, queue: str = "", name: str = "rota-call"
    ) -> None:
        self.due: float = due  #: on the monotonic clock
        self.priority: int = priority
        self.queue: str = queue
        self.name: str = name  #: of its asyncio task
        self.withdrawn: bool = False
        self.started: bool = False
        self.ripe_at: float = _NEVER  #: since when it waits for a slot
        self.ticking: bool = False  #: in the timer's heap
        self.line: Line | None = None  #: where it waits for a slot
        self.task: asyncio.Task[None] | None = None
        self.lingering: asyncio.Future[object] | None = None

    def run(self) -> Coroutine[Any, Any, None]:
        raise NotImplementedError

    def dropped(self) -> None:
        """It will never start: the engine stops."""


class Dispatcher:
    """Slots and the order of taking them; all on the event loop's thread.

    Entries that are due start in the order (priority, due, arrival). The
    counts may be read from any thread.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        timer: Timer,
        concurrency: int,
        limits: Mapping[str, int] | None = None,
        may_start: Callable[[], bool] = lambda: True,
        on_free: Callable[[], object] = lambda: None,
        give_way_every: int = GIVE_WAY_EVERY,
        give_way: Callable[[], object] = give_way,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._timer = timer
        self._context = contextvars.copy_context()
        self._on_due = self._fall_due  # bound once, not once for each entry
        self._may_start = may_start
        self._on_free = on_free
        self._give_way = give_way
        self._full_turns = 0
        self._ready = Line()
        self._waiting: dict[str, Line] = {}
        self._by_queue: Counter[str] = Counter()
        self._live: set[Entry] = set()
        self._holding: set[Entry] = set()
        self._arrivals = 0
        self._turn_pending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.limits: dict[str, int] = dict(limits or {})
        self.concurrency = concurrency
        self.give_way_every = give_way_every
        self.running: int = 0  #: slots taken, also by overdue threads
        self.overdue: int = 0  #: of these: runs whose outcome is out, but whose thread goes on
        self.received: int = 0  #: entries ever added
        self.freed: int = 0  #: slots ever given back
        self._freed_told = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Hold these until they are due; what is due goes on at once."""
        now = self._clock.monotonic()
        self.received += len(entries)
        self._holding.update(entries)
        for entry in entries:
            if entry.due <= now:
                self._queue_up(entry, now)
            else:
                self._let_tick(entry)
        if self._ready:
            self._turn_soon()

    def add_one(self, entry: Entry, now: float) -> None:
        """The same for one entry, by the clock that was read for it."""
        if entry.due <= now:
            self.add((entry,))
        else:
            self.received += 1
            self._holding.add(entry)
            self._let_tick(entry)

    def withdraw(self, entry: Entry) -> bool:
        """Take back an entry that has not started; False if it has."""
        if entry.started or entry.withdrawn:
            return False
        entry.withdrawn = True
        self._holding.discard(entry)
        if entry.ticking:
            self._timer.forget()
        elif entry.line is not None:
            entry.line.forget()
            # It may have been the one let forward from its queue's line: the next one's turn.
            self._let_forward(entry.queue)
        return True

    def cancel(self, entry: Entry) -> None:
        """Cancel a run that is on.

        Only after what the loop has in hand: a task cancelled before its first step would
        not even get to give its slot back.
        """
        if entry.task is not None:
            self._loop.call_soon(entry.task.cancel)

    def overripe(self, age: float) -> list[Entry]:
        """Withdraw what has waited for a slot for longer than ``age`` seconds."""
        limit = self._clock.monotonic() - age
        lines = [self._ready, *self._waiting.values()]
        late = [entry for line in lines for entry in line.entries() if entry.ripe_at < limit]
        for entry in late:
            self.withdraw(entry)
        return late

    @property
    def held(self) -> int:
        """How many entries have not started yet."""
        return len(self._holding)

    @property
    def ripe(self) -> int:
        """How many of them are due and wait for a slot."""
        return len(self._ready) + sum(map(len, self._waiting.values()))

    def room(self, queue: str) -> int:
        """How many more of this queue could run, where it has a limit of its own."""
        waiting = len(self._waiting.get(queue, ()))
        return self.limits[queue] - self._by_queue[queue] - waiting

    def holding(self) -> list[Entry]:
        """The entries that have not started."""
        return list(self._holding)

    def live(self) -> list[Entry]:
        """The runs that are on."""
        return list(self._live)

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    def wake(self) -> None:
        """Look again: the concurrency, a limit or the permission to start has changed."""
        for line in self._waiting.values():
            while (place := line.pop()) is not None:
                self._ready.push(place)
        self._turn_soon()

    def _let_tick(self, entry: Entry) -> None:
        entry.ticking = True
        self._timer.push(entry.due, self._on_due, entry, -entry.priority)

    def _fall_due(self, entry: Entry) -> None:
        entry.ticking = False
        self._queue_up(entry, self._clock.monotonic())
        self._turn_soon()

    def _queue_up(self, entry: Entry, now: float) -> None:
        self._arrivals += 1
        entry.ripe_at = now
        self._ready.push((-entry.priority, entry.due, self._arrivals, entry))

    def _turn_soon(self) -> None:
        if not self._turn_pending:
            self._turn_pending = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Fill the free slots; one turn for all that came or ended since the last."""
        self._turn_pending = False
        if self._ready and self.running < self.concurrency and self._may_start():
            self._fill_slots()
        if self.freed != self._freed_told:
            self._freed_told = self.freed
            self._on_free()

    def _fill_slots(self) -> None:
        most = self.running + STARTS_PER_TURN
        limits = self.limits
        while self.running < self.concurrency:
            if self.running >= most:
                if self._ready:
                    self._turn_soon()
                    self._end_full_turn()
                return
            place = self._ready.pop()
            if place is None:
                return
            entry = place[3]
            if limits:
                limit = limits.get(entry.queue)
                if limit is not None and self._by_queue[entry.queue] >= limit:
                    self._hold_back(entry.queue, place)
                    continue
                self._by_queue[entry.queue] += 1
            self._start(entry)

    def _end_full_turn(self) -> None:
        self._full_turns += 1
        if self._full_turns >= self.give_way_every:
            self._full_turns = 0
            self._give_way()

    def _hold_back(self, queue: str, place: Place) -> None:
        line = self._waiting.get(queue)
        if line is None:
            line = self._waiting[queue] = Line()
        line.push(place)

    def _let_forward(self, queue: str) -> None:
        """Offer the first of a limited queue's line a slot; the turn decides."""
        line = self._waiting.get(queue)
        if line is not None and (place := line.pop()) is not None:
            self._ready.push(place)
            self._turn_soon()

    def _start(self, entry: Entry) -> None:
        entry.started = True
        self._holding.discard(entry)
        if not self.running:
            self._idle.clear()
        self.running += 1
        self._live.add(entry)
        entry.task = self._loop.create_task(
            self._run(entry), name=entry.name, context=self._context.copy()
        )

    async def _run(self, entry: Entry) -> None:
        try:
            await entry.run()
        except asyncio.CancelledError:
            pass  # entries end in a value; a cancel that gets here came from the loop's end
        except BaseException as error:
            if isinstance(error, GeneratorExit) and _thrown_away(entry.task):
                raise
            log.exception("a run ended outside its chain; its slot is free again")
        lingering = entry.lingering
        if lingering is None or lingering.done():
            self._free(entry)
        else:
            self.overdue += 1
            lingering.add_done_callback(lambda _: self._end_overdue(entry))

    def _end_overdue(self, entry: Entry) -> None:
        self.overdue -= 1
        self._free(entry)

    def _free(self, entry: Entry) -> None:
        self.running -= 1
        self.freed += 1
        self._live.discard(entry)
        if self.limits:
            self._by_queue[entry.queue] -= 1
            self._let_forward(entry.queue)
        if not self.running:
            self._idle.set()
        if not self._turn_pending:
            self._turn_soon()


def _thrown_away(task: asyncio.Task[None] | None) -> bool:
    """Whether a coroutine is being destroyed outside its task: then the loop is gone."""
    try:
        return asyncio.current_task() is not task
    except RuntimeError:
        return True
