"""The fleet itself: a member is one process at a time, whoever sees its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chaos.fleet import Fleet, Member


class Ended:
    """A process that is over, as it was wanted."""

    status = -9
    expected = True


class Slow(Member):
    """Takes its time to start, as on a busy machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__("node-0", {"client": False}, directory)
        self.processes.append(Ended())  # type: ignore[arg-type]
        self.go_on = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        await self.go_on.wait()
        begun = Ended()
        begun.status = None  # type: ignore[assignment]
        self.processes.append(begun)  # type: ignore[arg-type]


async def test_two_that_see_the_same_end_start_one_process(tmp_path: Path) -> None:
    member = Slow(tmp_path)
    fleet = Fleet([member])
    both = [asyncio.create_task(fleet.revive()) for _ in range(2)]
    while not member.starts:
        await asyncio.sleep(0)
    member.go_on.set()
    await asyncio.gather(*both)
    assert member.starts == 1
