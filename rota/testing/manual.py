"""A scheduler that does something only when it is told to, and then all of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from typing_extensions import Unpack

from rota.app.declaring import declare
from rota.app.house import House
from rota.app.keeping import state_keeping
from rota.app.living import restore_again
from rota.app.scheduler import Scheduler
from rota.app.settings import SchedulerOptions
from rota.background import BackgroundScheduler, Blocking
from rota.core.clock import Seconds, seconds
from rota.core.duty import Offload
from rota.core.events import Event, Started
from rota.core.ports import Repository
from rota.core.request import ScheduleRequest
from rota.core.task import Inserted, NewTask
from rota.errors import InvalidArgument
from rota.registry import WorkRegistry
from rota.storage.keeper import Keeper
from rota.storage.open import open_repository
from rota.testing.clock import PATIENCE, FakeClock

#: Instants are whole microseconds, the clock is not.
_ROUNDING = 5e-6
#: So many attempts without the clock moving are a circle.
MOST_RUNS = 10_000
#: Real seconds a shutdown waits before it lets the next second of the clock pass.
SHUTDOWN_LOOK = 0.25


class ManualKeeper(Keeper):
    """Takes its turn at once, in the step that says so."""

    def begin(self, *, archive: bool) -> None:
        self.turn(archive=archive)


class ManualHouse(House):
    """A house without claimer, heartbeat and listener: its scheduler does their steps."""

    keeping: type[Keeper] = ManualKeeper
    entered: Callable[[], object] = staticmethod(lambda: None)

    def _entered(
        self,
        tasks: Sequence[ScheduleRequest | NewTask],
        answers: Sequence[Inserted],
        connection: object | None,
    ) -> None:
        super()._entered(tasks, answers, connection)
        self.entered()


class ManualScheduler(Scheduler):
    """A ``Scheduler`` that starts nothing until ``run_due`` or ``advance`` is called.

    Everything else is the real thing: chain, database, retries, recurring tasks. Takes the
    arguments of :class:`rota.Scheduler`; its ``clock`` is a :class:`FakeClock`, on memory as on
    a ``url``. ``patience`` is how many real seconds what runs may take. Raises
    ``InvalidArgument`` for another clock.

    >>> works = WorkRegistry()
    >>> @works.register("remind")
    ... async def remind(who: str) -> str:
    ...     return f"dear {who}"
    >>> async def main() -> tuple[int, int, str]:
    ...     async with ManualScheduler(works) as scheduler:
    ...         handle = await scheduler.schedule(remind.bind("Ada"), delay=3600)
    ...         early, late = await scheduler.advance(3599), await scheduler.advance(1)
    ...         return early, late, await handle.result()
    >>> asyncio.run(main())
    (0, 1, 'dear Ada')
    """

    _kind: type[ManualHouse] = ManualHouse

    def __init__(
        self,
        works: WorkRegistry | None = None,
        url: str | Repository | None = None,
        *,
        patience: Seconds = PATIENCE,
        **options: Unpack[SchedulerOptions],
    ) -> None:
        clock = options.get("clock") or FakeClock(patience=None)
        if not isinstance(clock, FakeClock):
            raise InvalidArgument(
                f"clock is a {type(clock).__name__}, which nobody can move; give a FakeClock",
                field="clock",
            )
        options["clock"] = clock
        super().__init__(works, url, **options)
        self._fake_clock = clock
        self._patience = seconds(patience, "patience")
        self._listener = self._settings.on_event
        # Nothing is taken before its moment: there is nobody who would wait for it.
        self._settings = replace(self._settings, look_ahead=0.0, on_event=self._note)
        self._hand: Offload | None = None
        self._told = asyncio.Event()
        self._ran = 0

    @property
    def clock(self) -> FakeClock:
        """The clock that ``advance`` moves."""
        return self._fake_clock

    async def start(self) -> None:
        """Open the database, join, take back what dead nodes left; run nothing."""
        if self._house is not None:
            self._open()
            return
        url = self._url
        repository = (
            open_repository(url, clock=self._clock, **self._settings.storage)
            if url is None or isinstance(url, str)
            else url
        )
        house = self._kind(
            works=self._works, repository=repository, settings=self._settings, clock=self._clock
        )
        house.entered = self._told.set
        self._pid = os.getpid()
        # One thread for all steps: what a connection proves of this node's life stays with it.
        hand = Offload(name="rota-manual", size=1)
        try:
            await self._move_in(house, hand)
        except BaseException:
            await house.engine.stop(0)
            for duty in house.duties:
                duty.stop()
            house.wires.close()
            repository.close()
            hand.close()
            house.offload.close()
            raise
        self._hand, self._house = hand, house

    async def shutdown(self, timeout: Seconds | None = 0.0) -> None:
        """Give back what waits, cancel what still runs, leave; moves the clock if that hangs."""
        leaving = asyncio.ensure_future(super().shutdown(timeout))
        while not (await asyncio.wait({leaving}, timeout=SHUTDOWN_LOOK))[0]:
            self._fake_clock.advance(1.0)
        if self._hand is not None:
            self._hand.close()
            self._hand = None
        await leaving

    async def run_due(self) -> int:
        """Run all that is due, and what that makes due now, to its end; how many attempts.

        Raises ``RuntimeError`` when what runs takes longer than ``patience``, or when
        10,000 attempts have not come to an end.
        """
        house, began = self._open(), self._ran
        await house.soon.flush()
        while await self._turn(house):
            if self._ran - began > MOST_RUNS:
                raise RuntimeError(
                    f"{MOST_RUNS:,} attempts ran and more are due at this same moment; look for a "
                    "work that asks for Again or Release, or schedules itself, without a delay"
                )
        return self._ran - began

    async def advance(self, by: Seconds) -> int:
        """Move the clock, from one due moment to the next, running each; how many attempts."""
        until = self._fake_clock.monotonic() + seconds(by, "by")
        ran = await self.run_due()
        while (due_in := await self._next_due()) is not None:
            if due_in > until - self._fake_clock.monotonic():
                break
            self._fake_clock.advance(due_in)
            ran += await self.run_due()
        self._fake_clock.advance(max(0.0, until - self._fake_clock.monotonic()))
        return ran + await self.run_due()

    async def _move_in(self, house: ManualHouse, hand: Offload) -> None:
        await hand.run(house.repository.open)
        house.intake.began_at = await hand.run(house.repository.now)
        await hand.run(house.life.join)
        await hand.run(house.wires.open)
        await hand.run(state_keeping, house)
        house.inserter.start()
        house.finisher.duty.start()
        if not house.settings.client_only:
            await hand.run(declare, house)
            self._restored = await restore_again(house, 0.0)

    async def _turn(self, house: House) -> bool:
        """One round of firing, claiming and running; whether there was anything to do."""
        before = _progress(house)
        decided = await self._fire(house)
        await self._step(house)
        await self._settle(house)
        return decided or _progress(house) != before

    async def _fire(self, house: House) -> bool:
        """Decide every tick that is due; whether there was one."""
        decided = False
        if not house.settings.client_only:
            while await house.firing.pass_() == 0.0:
                decided = True
        return decided

    async def _step(self, house: House) -> None:
        """What heartbeat and claimer do in one pass."""

        def step() -> None:
            house.life.step()
            if not house.settings.client_only:
                while house.sync.chores.expire() == 0.0:
                    pass
            house.sync.look()
            house.sync.look_parked()
            # Zero: there may be more in another lane than the one that was asked.
            while house.sync.step() == 0.0:
                pass

        assert self._hand is not None
        await self._hand.run(step)

    async def _settle(self, house: House) -> None:
        """Let what was claimed run to its end, and write how it ended."""
        dispatcher = house.engine.dispatcher
        give_up = time.monotonic() + self._patience
        while dispatcher.held or dispatcher.running:
            self._round_up(house)
            dispatcher.wake()
            await self._idle_or_told(house, give_up)
            if time.monotonic() >= give_up:
                raise RuntimeError(self._stuck(house))
            if self._told.is_set():
                # What runs may wait for what it has just put in.
                self._told.clear()
                await self._step(house)
        await house.offload.run(house.finisher.flush, self._patience)
        await asyncio.sleep(0)  # what the finisher's thread has told the loop

    def _round_up(self, house: House) -> None:
        """What is due but for the rounding of its time: a clock that stands never gets there."""
        now = self._clock.monotonic()
        behind = [one.due - now for one in house.engine.dispatcher.holding() if one.ticking]
        if any(0 < wait < _ROUNDING for wait in behind):
            self._fake_clock.advance(_ROUNDING)

    async def _idle_or_told(self, house: House, give_up: float) -> None:
        waits = [
            asyncio.ensure_future(house.engine.dispatcher.idle()),
            asyncio.ensure_future(self._told.wait()),
        ]
        left = max(0.0, give_up - time.monotonic())
        await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _next_due(self) -> float | None:
        """Seconds until something is due, by the database's clock; None if nothing waits."""
        house = self._open()
        if house.settings.client_only:
            return None
        assert self._hand is not None
        lanes = await self._hand.run(house.repository.agenda, house.settings.queues)
        _, following = await self._hand.run(house.repository.due_recurring, 0.0, 1)
        times = [lane.due_in for lane in lanes]
        if following is not None:
            times.append(following)
        return min((due_in for due_in in times if due_in > 0), default=None)

    def _stuck(self, house: House) -> str:
        runs = [f"{run.claimed.work} ({run.id})" for run in list(house.executor.runs.values())]
        named = ", ".join(runs[:5]) or "a thread whose attempt is over"
        return (
            f"{named} did not end within {self._patience:g} real seconds; if it waits for a time "
            "to come, call run_due() in a task of its own and move clock.advance() meanwhile"
        )

    def _note(self, event: Event) -> None:
        if isinstance(event, Started):
            self._ran += 1
        else:
            self._told.set()
        if self._listener is not None:
            self._listener(event)


class ManualBackgroundScheduler(BackgroundScheduler):
    """A ``ManualScheduler`` for tests without an event loop: the same, blocking.

    >>> works = WorkRegistry()
    >>> @works.register("double")
    ... def double(n: int) -> int:
    ...     return 2 * n
    >>> with ManualBackgroundScheduler(works) as scheduler:
    ...     handle = scheduler.schedule(double.bind(21), delay=60)
    ...     scheduler.advance(60), handle.result()
    (1, 42)
    """

    _kind: type[ManualScheduler] = ManualScheduler

    def __init__(
        self,
        works: WorkRegistry | None = None,
        url: str | Repository | None = None,
        *,
        patience: Seconds = PATIENCE,
        **options: Unpack[SchedulerOptions],
    ) -> None:
        self._thread = None
        self._manual = self._kind(works, url, patience=patience, **options)
        Blocking.__init__(self, self._manual, asyncio.new_event_loop())

    @property
    def clock(self) -> FakeClock:
        """As :attr:`ManualScheduler.clock`."""
        return self._manual.clock

    def shutdown(self, timeout: Seconds | None = 0.0) -> None:
        """As :meth:`ManualScheduler.shutdown`."""
        super().shutdown(timeout)

    def run_due(self) -> int:
        """As :meth:`ManualScheduler.run_due`."""
        return self.call(self._manual.run_due())

    def advance(self, by: Seconds) -> int:
        """As :meth:`ManualScheduler.advance`."""
        return self.call(self._manual.advance(by))


def _progress(house: House) -> tuple[int, int, int]:
    finisher = house.finisher
    return house.engine.dispatcher.received, finisher.accepted, finisher.refused
