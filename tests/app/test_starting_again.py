"""A node that had to start nothing goes on with its first heartbeat, not with a poll or a chore.

The clock stands still from the moment the node may start nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.ports import Repository
from rota.testing.clock import FakeClock
from tests.app.holding import Held, opened
from tests.conftest import BACKENDS, Database

PATIENCE = 20
LEASE = 3


class WatchedClock(FakeClock):
    """Knows which threads sleep with nothing that wakes them but this clock."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeping: dict[str, threading.Event] = {}
        self._slept = threading.Condition()

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        me = threading.current_thread().name
        with self._slept:
            self.sleeping[me] = event
            self._slept.notify_all()
        try:
            return super().wait(event, timeout)
        finally:
            with self._slept:
                del self.sleeping[me]

    def asleep(self, name: str) -> bool:
        """Block until this thread has done all that it was woken for."""

        def sound() -> bool:
            event = self.sleeping.get(name)
            return event is not None and not event.is_set()

        with self._slept:
            return self._slept.wait_for(sound, PATIENCE)


@pytest.fixture
def clock() -> WatchedClock:
    return WatchedClock()


@pytest.fixture(params=BACKENDS)
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[..., Database],
    clock: WatchedClock,
) -> Iterator[Database]:
    made = make_database(request.param, clock)
    yield made
    made.close()


def node(
    repository: Repository, clock: WatchedClock, works: WorkRegistry, *, look_ahead: float = 1.0
) -> Scheduler:
    options = {"lease": LEASE, "heartbeat": 1, "poll": 600.0, "look_ahead": look_ahead}
    return Scheduler(works, repository, clock=clock, **options)  # type: ignore[arg-type]


def noting(works: WorkRegistry) -> asyncio.Event:
    ran = asyncio.Event()

    @works.register("note")
    async def note() -> None:
        ran.set()

    return ran


async def test_a_claim_refused_for_want_of_a_beat_is_made_when_it_comes(
    frozen: Database, clock: WatchedClock, works: WorkRegistry
) -> None:
    ran, repository = noting(works), opened(frozen)
    beat = Held(repository, "beat")
    async with node(repository, clock, works) as scheduler:
        beat.hold()
        clock.advance(10)
        assert await asyncio.to_thread(beat.asked.acquire, timeout=PATIENCE)
        await scheduler.schedule("note")
        await asyncio.sleep(0)  # the claimer is told of it on the loop
        assert await asyncio.to_thread(clock.asleep, "rota-claimer")
        assert not ran.is_set()
        beat.let_go()
        await asyncio.wait_for(ran.wait(), PATIENCE)


async def test_what_was_held_and_fell_due_meanwhile_starts_with_the_beat(
    frozen: Database, clock: WatchedClock, works: WorkRegistry
) -> None:
    ran, repository = noting(works), opened(frozen)
    beat = Held(repository, "beat")
    # Far enough that PostgreSQL's own clock, which goes on, does not make it due before.
    async with node(repository, clock, works, look_ahead=9.5) as scheduler:
        await scheduler.schedule("note", delay=9)
        dispatcher = scheduler._house.engine.dispatcher  # type: ignore[union-attr]
        while not dispatcher.held:
            await asyncio.sleep(0)
        beat.hold()
        clock.advance(10)
        assert await asyncio.to_thread(beat.asked.acquire, timeout=PATIENCE)
        while dispatcher.ripe == 0 or dispatcher._turn_pending:
            await asyncio.sleep(0)
        assert not ran.is_set()
        beat.let_go()
        await asyncio.wait_for(ran.wait(), PATIENCE)
