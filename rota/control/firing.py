"""Fire recurring tasks: each tick one decision, on whichever node gets there first."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from rota.control.aside import Aside
from rota.control.planning import plan
from rota.control.reading import Reader, Unreadable, child_request
from rota.core.clock import Clock
from rota.core.duty import Offload
from rota.core.ids import new_id
from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire, Fired
from rota.core.request import ScheduleRequest
from rota.core.task import Inserted, Lane, NewTask, Stored
from rota.errors import DataRefused, Rejected, StorageError

log: logging.Logger = logging.getLogger("rota.recurring")

POLL = 5.0
#: So many definitions are read, and so many ticks decided, in one statement.
AT_ONCE = 500
#: How soon what another node is deciding at this moment is looked at again, and at most.
BUSY, BUSY_MOST = 0.05, 1.0
#: What two statements say of one instant differs by less.
NEAR = 0.05

#: A tick and, if it is to have a child, the request for it.
Tick = tuple[Fire, ScheduleRequest | None]
#: What goes to the repository for a tick.
Entry = tuple[Fire, NewTask | None]
#: A tick whose child cannot be written, and why.
Refused = tuple[Fire, str]
Arrived = ScheduleRequest | Exception
#: Takes requests through the chain to one write, as ``store_each`` of the middleware does.
Through = Callable[
    [Sequence[ScheduleRequest], Callable[[list[Arrived]], Awaitable[list[Inserted]]]],
    Awaitable[None],
]


class Look(NamedTuple):
    """What is due ``now``: the ticks, what cannot be read and why, and when the next is due."""

    now: datetime
    ticks: list[Tick]
    unreadable: list[tuple[Definition, str]]
    following: float | None
    full: bool = False  #: there may be more


class Firing:
    """Wakes at the next fire time, on the event loop; its statements run in reader threads.

    A poll whose question the claimer's last glance has answered is not asked.

    The CAS on ``next_fire_at`` and the child's insert are one transaction, so of all
    the nodes that wake together one decides and the others find it done. The same
    makes a lost reply harmless: the next pass finds what is left to decide.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        clock: Clock,
        through: Through,
        row: Callable[[ScheduleRequest], NewTask],
        tell: Callable[[Sequence[Lane]], object],
        rng: random.Random | None = None,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._clock = clock
        self._through = through
        self._row = row
        self._tell = tell
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._wake = asyncio.Event()
        self._asked = False  #: to look now, rather than by an alarm
        self._task: asyncio.Task[None] | None = None
        self.reader: Reader = Reader()
        self._aside = Aside(clock=clock, rng=self._rng)
        self._queueing: set[str] = set()  #: definitions whose ticks may wait for a child's end
        self._ended: set[str] = set()
        self._busy = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passed = self._until = float("-inf")  #: the last pass began; the next one is to
        self._foreseen = float("-inf"), float("-inf")  #: when was seen when to look again

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._serve(), name="rota-firing")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self, changed: Sequence[str] | None = ()) -> None:
        """These definitions are new or others; None: any may be."""
        self._aside.changed(changed)
        self._ask()

    def _ask(self) -> None:
        self._asked = True
        self._wake.set()

    def heard(self, *, glancing: bool) -> None:
        """Something was written somewhere; on the loop. ``glancing``: a glance is to come."""
        if not glancing or self._aside.ids():
            self.wake(None)

    def foresee(self, fires_in: float | None, began: float) -> None:
        """A glance that began then saw when the next definition fires; any thread."""
        fires_at = float("inf") if fires_in is None else began + fires_in
        self._foreseen = began, fires_at
        # What was due before the last pass began it has seen, and left for a reason.
        if self._loop is not None and self._passed < fires_at < self._until - NEAR:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ask)

    def ended(self, recurring_ids: Sequence[str]) -> None:
        """Children of these have ended here; on the loop."""
        waiting = self._queueing.intersection(recurring_ids)
        if waiting:
            self._ended |= waiting
            self._ask()

    async def pass_(self) -> float:
        """Decide all that is due; in how many seconds to look again.

        While one batch is written the next is read and planned.
        """
        await self._look_again()
        look = await self._read(())
        found = decided = False
        while look.ticks:
            found = True
            ahead = self._read_ahead(look)
            try:
                for at in range(0, len(look.ticks), AT_ONCE):
                    decided |= await self._decide(look.ticks[at : at + AT_ONCE], look.now)
                look = await ahead
            finally:
                ahead.cancel()
        if decided:
            self._busy = 0
            return 0.0
        if found:
            # Another node is deciding just these, or they cannot be fired: do not spin.
            self._busy += 1
            pause = min(BUSY_MOST, BUSY * 2.0 ** min(self._busy - 1, 8))
            return pause * self._rng.uniform(0.5, 1.0)
        self._busy = 0
        poll = POLL * self._rng.uniform(0.85, 1.0)  # later than the next glance
        if look.unreadable:
            return 0.0
        return poll if look.following is None else min(poll, look.following)

    async def _serve(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            self._asked = False
            # What the database answers counts from before it was asked.
            began = self._clock.monotonic()
            self._passed, self._until = began, float("-inf")
            try:
                wait = await self.pass_()
                failures = 0
            except (StorageError, RuntimeError) as error:
                failures += 1
                if failures == 1:
                    log.warning("recurring tasks cannot be fired now, will go on: %s", error)
                wait = min(POLL, 0.1 * 2.0 ** min(failures, 8)) * self._rng.uniform(0.5, 1.0)
            if wait > 0:
                await self._rest(began + wait)

    async def _rest(self, until: float) -> None:
        """Until then, or as long as glances show that nothing is to fire."""
        while not self._asked and until > self._clock.monotonic():
            self._until = until
            self._wake.clear()
            await self._sleep(until)
            seen, fires_at = self._foreseen
            if seen > self._passed:
                until = min(fires_at, seen + POLL)

    async def _sleep(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        alarm = self._clock.call_at(loop, until, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _look_again(self) -> None:
        if self._ended:
            ended = sorted(self._ended)
            await self._offload.run(self._repository.look_again, ended)
            self._ended.difference_update(ended)

    def _read_ahead(self, look: Look) -> asyncio.Future[Look]:
        """What is due besides this look's; nothing if it had all."""
        if look.full:
            return asyncio.ensure_future(self._read({fire.recurring for fire, _ in look.ticks}))
        nothing = asyncio.get_running_loop().create_future()
        nothing.set_result(Look(look.now, [], [], None))
        return nothing

    async def _read(self, but: Collection[str]) -> Look:
        look = await self._offload.run(self._look, [*self._aside.ids(), *but])
        for definition, reason in look.unreadable:
            self._aside.put(definition.id, definition.version, reason)
        return look

    def _look(self, but: Sequence[str]) -> Look:
        """Read what is due and plan it, in a reader's thread: the loop is not held up."""
        due, following = self._repository.due_recurring(0.0, AT_ONCE, but=but)
        now = self._repository.now() if due else self._clock.now()
        look = Look(now, [], [], following, full=len(due) == AT_ONCE)
        for definition in due:
            try:
                reading = self.reader.read(definition)
                fires = plan(definition, reading.trigger, reading.rules, now)
                look.ticks.extend(
                    (
                        fire,
                        child_request(definition, reading, fire, new_id())
                        if fire.decision == "fired"
                        else None,
                    )
                    for fire in fires
                )
            except Unreadable as error:
                look.unreadable.append((definition, str(error)))
            except Exception as error:  # noqa: BLE001 - one trigger's trouble is not the others'
                look.unreadable.append((definition, f"its trigger failed with {error!r}"))
            else:
                self._note(definition, queueing=reading.rules.overlap == "queue")
                if not fires:
                    reason = "its next fire time is past its end; change it, or remove it"
                    look.unreadable.append((definition, reason))
        return look

    def _note(self, definition: Definition, *, queueing: bool) -> None:
        if queueing:
            self._queueing.add(definition.id)
        else:
            self._queueing.discard(definition.id)

    async def _decide(self, ticks: Sequence[Tick], now: datetime) -> bool:
        """Take the children through the chain and write all; whether any tick was decided."""
        decided = False

        async def store(came: list[Arrived]) -> list[Inserted]:
            nonlocal decided
            arrived = iter(came)
            met = [None if request is None else next(arrived) for _, request in ticks]
            fires = [fire for fire, _ in ticks]
            try:
                fired, refused = await self._offload.run(self._write, fires, met)
            except StorageError:
                # The reply may have been lost, not the write: let claimers look.
                self._tell_lanes([came for came in met if isinstance(came, ScheduleRequest)], now)
                raise
            for fire, reason in refused:
                self._aside.put(fire.recurring, fire.version or 0, reason)
            decided = any(answer.decision is not None for answer in fired)
            created = [
                came
                for came, answer in zip(met, fired, strict=True)
                if answer.created and isinstance(came, ScheduleRequest)
            ]
            self._tell_lanes(created, now)
            return [
                Inserted(answer.task or request.id, answer.created, Stored.SCHEDULED)
                for (_, request), answer in zip(ticks, fired, strict=True)
                if request is not None
            ]

        await self._through([request for _, request in ticks if request is not None], store)
        return decided

    def _write(
        self, fires: Sequence[Fire], met: Sequence[Arrived | None]
    ) -> tuple[list[Fired], list[Refused]]:
        """Decide in a reader's thread; what each tick came to, and who cannot be fired."""
        refused: list[Refused] = []
        entries: list[Entry] = []
        places: list[int] = []
        for place, (fire, came) in enumerate(zip(fires, met, strict=True)):
            try:
                entries.append(self._entry(fire, came))
                places.append(place)
            except Exception as error:  # noqa: BLE001 - it concerns this child only
                refused.append((fire, f"its child could not be scheduled: {error!r}"))
        fired = [Fired(None)] * len(fires)
        for place, answer in zip(places, self._fire(entries, refused), strict=True):
            fired[place] = answer
        return fired, refused

    def _entry(self, fire: Fire, came: Arrived | None) -> Entry:
        """The tick with what became of its child on the way through the chain."""
        if came is None:
            return fire, None
        if isinstance(came, Rejected):
            log.info("a child of recurring task %r was rejected: %s", fire.recurring, came)
            return replace(fire, decision="rejected"), None
        if isinstance(came, Exception):
            raise came
        # Whatever the chain made of it, it stays this tick's child.
        row = self._row(came)._replace(recurring=fire.recurring, fire_at=fire.fire_at)
        return replace(fire, task=row.id), row

    def _fire(self, entries: Sequence[Entry], refused: list[Refused]) -> list[Fired]:
        """Decide in one transaction; refused for its data, halve until the culprit is alone."""
        if not entries:
            return []
        try:
            return self._repository.fire(entries)
        except DataRefused as error:
            if len(entries) == 1:
                refused.append((entries[0][0], f"the database refuses its child: {error}"))
                return [Fired(None)]
        middle = len(entries) // 2
        return [*self._fire(entries[:middle], refused), *self._fire(entries[middle:], refused)]

    def _tell_lanes(self, requests: Sequence[ScheduleRequest], now: datetime) -> None:
        """Say which lanes have children; due by the database's clock, not by this node's."""
        lanes: dict[tuple[str, int], Lane] = {}
        for request in requests:
            late = 0.0 if request.at is None else (request.at - now).total_seconds()
            lane = Lane(request.queue, request.priority, max(0.0, request.delay, late))
            known = lanes.get(lane[:2])
            if known is None or lane.due_in < known.due_in:
                lanes[lane[:2]] = lane
        if lanes:
            self._tell(list(lanes.values()))
