"""Notifications are hints: what they leave out is found, what they say too often does nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from rota import WorkRegistry
from rota.core.ids import new_id, new_incarnation
from rota.core.task import Lane
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from tests.conftest import Database

PATIENCE = 20
POLL = 5.0


class Ran:
    """How often each task was run, to be waited for."""

    def __init__(self, works: WorkRegistry) -> None:
        self.counts: Counter[int] = Counter()
        self._changed = asyncio.Condition()

        @works.register("note")
        async def note(n: int) -> None:
            async with self._changed:
                self.counts[n] += 1
                self._changed.notify_all()

    async def all_of(self, *numbers: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.counts.keys() >= set(numbers))


@pytest.fixture
def ran(works: WorkRegistry) -> Ran:
    return Ran(works)


@pytest.fixture(params=["memory", "postgres"])
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[..., Database],
    fake_clock: FakeClock,
) -> Iterator[Database]:
    """Those whose nodes tell each other; SQLite's see the file change."""
    made = make_database(request.param, fake_clock)
    yield made
    made.close()


async def test_what_nobody_was_told_of_is_found_by_the_poll(
    frozen: Database, fake_clock: FakeClock, works: WorkRegistry, ran: Ran
) -> None:
    """Each notification was lost."""
    async with frozen.scheduler(works, poll=POLL) as scheduler:
        await scheduler.schedule("note", {"n": 0})
        await ran.all_of(0)
        told = [a_task(work="note", params=f'{{"n":{n}}}', queue=f"q{n}") for n in (1, 2)]
        await asyncio.to_thread(frozen.repository().insert, told)
        fake_clock.advance(POLL)
        await ran.all_of(1, 2)
    assert set(ran.counts.values()) == {1}


async def test_hints_doubled_reordered_late_or_of_nothing_start_nothing_twice(
    frozen: Database, works: WorkRegistry, ran: Ran
) -> None:
    """The clock stands still: nobody looks by himself."""
    repository = frozen.repository()
    stranger = repository.signals(new_incarnation())
    numbers = range(1, 7)
    tasks = [a_task(work="note", params=f'{{"n":{n}}}', queue=f"q{n % 3}") for n in numbers]
    lanes = [Lane(f"q{n}", 0, 0.0) for n in range(3)]
    nothing = [Lane("empty", 9, 0.0), Lane("q0", -50, 3600.0)]
    try:
        async with frozen.scheduler(works, poll=POLL) as scheduler:
            await scheduler.schedule("note", {"n": 0})
            await ran.all_of(0)

            def tell() -> None:
                """First of what is not there yet, then of each lane twice and backwards."""
                stranger.announce(lanes=lanes, tasks=[new_id(), tasks[0].id])
                repository.insert(tasks)
                for lane in reversed([*lanes, *nothing, *lanes]):
                    stranger.announce(lanes=[lane])

            await asyncio.to_thread(tell)
            await ran.all_of(*numbers)
            ids = [task.id for task in tasks]
            await asyncio.to_thread(stranger.announce, lanes=lanes, tasks=ids)  # late
            last = a_task(work="note", params='{"n":7}', queue="last")
            await asyncio.to_thread(repository.insert, [last])
            await asyncio.to_thread(stranger.announce, lanes=[Lane("last", 0, 0.0)])
            await ran.all_of(7)
            found = await scheduler.find()
            assert {task.state for task in found.tasks} <= {"done", "working"}
    finally:
        stranger.close()
    assert dict(ran.counts) == dict.fromkeys(range(8), 1)
