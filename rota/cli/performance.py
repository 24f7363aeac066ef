"""One performance of the demonstration, from scheduling to the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rota.app import Scheduler, TaskSpec
from rota.cli import library
from rota.cli.course import Course, Running
from rota.cli.database import Dialect
from rota.cli.exits import DemoFailed
from rota.cli.fleet import Fleet
from rota.cli.library import DIGEST, QUEUE, TICK, Source
from rota.cli.mishaps import Mishap, Mishaps
from rota.cli.screen import Screen
from rota.cli.verdict import Figures, measure
from rota.core.ports import Repository
from rota.core.task import Task, TaskState
from rota.testing.history import Violation
from rota.triggers import Every

#: Seconds for the nodes to start, and after the last due moment for all to end.
START, OVERTIME = 20.0, 35.0
#: Attempts each node is to have running on average, so that there is something to hit.
_BUSY = 3
_WAITS = (0.01, 0.25)
_HEAD_START = 1.0
_PROBE = 0.2
_RECURRING = "rota-demo-tick"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be performed."""

    sources: Sequence[Source]
    seconds: float
    nodes: int
    dialect: Dialect
    lease: float


class Performance:
    """Schedules the real input, lets mishaps befall the nodes, and checks what came of it."""

    def __init__(
        self,
        plan: Plan,
        *,
        scheduler: Scheduler,
        repository: Repository,
        fleet: Fleet,
        course: Course,
        screen: Screen,
    ) -> None:
        self._plan = plan
        self._scheduler = scheduler
        self._repository = repository
        self._fleet = fleet
        self._course = course
        self._screen = screen
        self._names: dict[str, str] = {}
        self._mishaps = Mishaps(
            fleet=fleet,
            course=course,
            lease=plan.lease,
            still_held=self._still_held,
            others_write=self._others_write,
        )

    async def perform(self) -> tuple[Figures, list[Violation]]:
        """All of it; raises ``DemoFailed`` if it could not be carried out."""
        await self._fleet.all_up(START)
        self._screen.begin()
        until = await self._schedule()
        watching = asyncio.create_task(self._watch())
        try:
            killed = await self._afflict(watching)
            await self._scheduled_is_over(until, watching)
            ticks = await self._end_ticks()
            await self._all_ended(ticks, until + OVERTIME, watching)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        await self._fleet.dismiss()
        self._screen.update(force=True)
        return await self._measure(ticks, killed)

    async def _schedule(self) -> float:
        """Put everything in; when the last file is due, on the monotonic clock."""
        plan = self._plan
        slices = sum(source.slices for source in plan.sources)
        wait = _BUSY * plan.nodes * plan.seconds / max(1, slices)
        wait = min(max(wait, _WAITS[0]), _WAITS[1])
        there = await asyncio.to_thread(self._repository.now)
        skew = there - datetime.now(UTC)
        begin = there + timedelta(seconds=_HEAD_START)
        step = timedelta(seconds=plan.seconds) / max(1, len(plan.sources))
        moments = [begin + step * at for at in range(len(plan.sources))]
        handles = await self._scheduler.schedule_many(
            [
                TaskSpec(DIGEST, {**source._asdict(), "wait": wait}, {"at": at})
                for source, at in zip(plan.sources, moments, strict=True)
            ]
        )
        for handle, source, at in zip(handles, plan.sources, moments, strict=True):
            self._names[handle.id] = source.name
            self._course.due[handle.id] = (at - skew).timestamp()
        await self._scheduler.add_recurring(_RECURRING, TICK, Every(1))
        return time.monotonic() + _HEAD_START + plan.seconds

    async def _watch(self) -> None:
        while True:
            self._fleet.look()
            self._screen.update()
            await asyncio.sleep(0.05)

    async def _afflict(self, watching: asyncio.Task[None]) -> Mishap:
        """Kill one node a quarter through, then freeze another."""
        seconds = self._plan.seconds
        await self._sleep(_HEAD_START + seconds / 4, watching)
        killed = await self._mishaps.kill_one(seconds / 4)
        self._screen.say(
            f"killed {killed.name} (SIGKILL) while it ran {len(killed.tasks)} attempts"
        )
        await self._sleep(seconds / 10, watching)
        frozen = await self._mishaps.freeze_one(seconds / 2)
        tries = self._mishaps.unfit_freezes
        self._screen.say(
            f"froze {frozen.name} (SIGSTOP) while it ran {len(frozen.tasks)} attempts, "
            f"let it go on after {time.time() - frozen.at:.1f} s"
            + (f"; {tries} earlier tries met it writing" if tries else "")
        )
        return killed

    async def _scheduled_is_over(self, until: float, watching: asyncio.Task[None]) -> None:
        await self._sleep(max(0.0, until - time.monotonic()), watching)

    async def _end_ticks(self) -> list[str]:
        """Forget the recurring task; the children it has had."""
        recurring = self._scheduler.recurring(_RECURRING)
        await recurring.remove()
        decisions = await recurring.decisions(1_000)
        children = [decision.task for decision in decisions if decision.task is not None]
        for decision in decisions:
            if decision.task is not None:
                self._course.due.setdefault(decision.task, decision.fire_at.timestamp())
        return children

    async def _all_ended(
        self, ticks: Sequence[str], until: float, watching: asyncio.Task[None]
    ) -> None:
        """Wait until no task is left, by the logs and, for what they lack, the database."""
        wanted = {*self._names, *ticks}
        while time.monotonic() < until:
            missing = wanted - self._course.ended.keys()
            states = await asyncio.to_thread(self._repository.states, sorted(missing))
            if all(task in states and states[task].public.final for task in missing):
                return
            await self._sleep(0.2, watching)

    async def _measure(
        self, ticks: Sequence[str], killed: Mishap
    ) -> tuple[Figures, list[Violation]]:
        ids = [*self._names, *ticks]
        tasks = await asyncio.to_thread(lambda: {one: self._repository.get(one) for one in ids})
        digests = await asyncio.to_thread(library.digests, list(self._names.values()))
        return measure(
            self._course,
            tasks=tasks,
            expected={task: digests[name] for task, name in self._names.items()},
            ticks=ticks,
            killed=killed,
        )

    async def _sleep(self, seconds: float, watching: asyncio.Task[None]) -> None:
        """Let time pass; a failure of the watch ends it."""
        await asyncio.wait([watching], timeout=seconds)
        if watching.done():
            watching.result()
            raise DemoFailed("the watch over the nodes ended; run the demo again")

    async def _still_held(self, running: list[Running]) -> list[Running]:
        """Those that the database, too, says are running under this token."""

        def held(run: Running) -> bool:
            task: Task | None = self._repository.get(run.task)
            return (
                task is not None
                and task.state is TaskState.WORKING
                and (task.node, task.batch) == run.token
            )

        return await asyncio.to_thread(lambda: [run for run in running if held(run)])

    async def _others_write(self) -> bool:
        """Whether a write goes through while a node stands still.

        Only SQLite has one lock for all writers. Resuming a queue that is not paused
        changes nothing, and takes that lock.
        """
        if self._plan.dialect != "sqlite":
            return True
        writing = asyncio.ensure_future(asyncio.to_thread(self._repository.resume_queue, QUEUE))
        await asyncio.wait([writing], timeout=_PROBE)
        if writing.done():
            return writing.exception() is None
        writing.add_done_callback(_look_at_error)
        return False


def _look_at_error(writing: asyncio.Future[bool]) -> None:
    """An error of a write nobody waits for any more is no news: the freeze is tried again."""
    if not writing.cancelled():
        writing.exception()
