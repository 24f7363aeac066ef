"""What befalls the nodes of the demonstration: one is killed, another frozen and thawed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from rota.cli.course import Course, Running
from rota.cli.exits import DemoFailed
from rota.cli.fleet import Fleet, Member

_GLANCE = 0.02


class Mishap(NamedTuple):
    """What was done to a node, when (wall time), and the tasks it was running."""

    name: str
    at: float
    tasks: frozenset[str]


class Mishaps:
    """Does it at moments when the node has attempts running.

    ``still_held`` answers which of these attempts the database says are running;
    ``others_write`` whether the others can write while this one stands still.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        course: Course,
        lease: float,
        still_held: Callable[[list[Running]], Awaitable[list[Running]]],
        others_write: Callable[[], Awaitable[bool]],
    ) -> None:
        self._fleet = fleet
        self._course = course
        self._lease = lease
        self._still_held = still_held
        self._others_write = others_write
        self.unfit_freezes: int = 0  #: times a frozen node held the write lock, and was let go on

    async def kill_one(self, patience: float) -> Mishap:
        """SIGKILL a node that has attempts running."""
        member, held = await self._stand_still(patience, self._always)
        at = time.time()
        await member.kill()
        self._course.forget_running(member.name)
        return Mishap(member.name, at, frozenset(run.task for run in held))

    async def freeze_one(self, patience: float) -> Mishap:
        """SIGSTOP a node that has attempts running, past its lease; then let it go on.

        A freeze that led to no late write is repeated while something runs: the node may
        have stood still within a transaction, whose locks keep its tasks from the others.
        """
        until = time.monotonic() + patience
        mishap = await self._freeze_once(patience)
        while not self._course.refused.total() and time.monotonic() < until:
            try:
                mishap = await self._freeze_once(until - time.monotonic())
            except DemoFailed:
                break
        return mishap

    async def _freeze_once(self, patience: float) -> Mishap:
        """It goes on once a task of its runs elsewhere, at the latest after three leases."""
        member, held = await self._stand_still(patience, self._others_write)
        member.status = "frozen"
        mishap = Mishap(member.name, time.time(), frozenset(run.task for run in held))
        tasks = set(mishap.tasks)
        await self._until(
            lambda: (
                self._course.taken_back(tasks, mishap.at)
                and self._course.started_elsewhere(tasks, member.name, mishap.at) is not None
            ),
            3 * self._lease,
        )
        member.thaw()
        member.status = "back"
        # What it had been running ends now, and is offered too late.
        await self._until(lambda: self._course.refused[member.name] > 0, self._lease)
        return mishap

    async def _stand_still(
        self, patience: float, fit: Callable[[], Awaitable[bool]]
    ) -> tuple[Member, list[Running]]:
        """Freeze a node that has attempts running, as it stands and as the database says."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            self._fleet.look()
            for member in self._busiest():
                await member.freeze()
                try:
                    self._fleet.look()
                    held = await self._still_held(self._course.running(member.name))
                    if held and await self._fit(fit):
                        return member, held
                except BaseException:
                    member.thaw()
                    raise
                member.thaw()
            await asyncio.sleep(_GLANCE)
        raise DemoFailed("no node had attempts running; give it more --files or fewer --seconds")

    def _busiest(self) -> list[Member]:
        running = {member: len(self._course.running(member.name)) for member in self._fleet}
        serving = [member for member in self._fleet if member.serves and running[member]]
        return sorted(serving, key=lambda member: -running[member])

    async def _fit(self, fit: Callable[[], Awaitable[bool]]) -> bool:
        if await fit():
            return True
        self.unfit_freezes += 1
        return False

    async def _until(self, holds: Callable[[], bool], patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not holds():
                    await asyncio.sleep(_GLANCE)
                    self._fleet.look()

    @staticmethod
    async def _always() -> bool:
        return True
