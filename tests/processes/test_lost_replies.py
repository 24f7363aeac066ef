"""The database did it, but its answer is lost: nothing is done twice, nothing is stuck."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.ports import Repository
from rota.errors import StorageUnavailable
from rota.middleware.bulk import TURN
from rota.storage.open import open_repository
from tests.conftest import Database


class Line:
    """The real repository behind a line that can lose answers, or requests, of one verb."""

    def __init__(self, repository: Repository, verb: str) -> None:
        self.repository = repository
        self.lost = 0
        self.losing = threading.Event()
        self.cut = threading.Event()
        self.tried = threading.Semaphore(0)
        self.done = threading.Semaphore(0)  #: what the database has done
        self.swift = threading.Event()  #: answers arrive, not only soon
        self.swift.set()
        self._verb: Callable[..., Any] = getattr(repository, verb)
        setattr(repository, verb, self._call)

    def _call(self, *arguments: Any, **more: Any) -> Any:
        if self.cut.is_set():
            self.tried.release()
            raise StorageUnavailable("the request was lost; this is a test")
        answer = self._verb(*arguments, **more)
        self.done.release()
        assert self.swift.wait(60)
        if answer and self.losing.is_set():
            self.losing.clear()
            self.lost += 1
            raise StorageUnavailable("the answer was lost; this is a test")
        return answer


def line_to(database: Database, verb: str) -> Line:
    assert isinstance(database.target, str)
    repository = open_repository(database.target, clock=database.clock, **database.options)
    return Line(repository, verb)


@asynccontextmanager
async def node(line: Line, works: WorkRegistry, **more: Any) -> AsyncIterator[Scheduler]:
    options = {"lease": 3, "heartbeat": 1, "poll": 1, **more}
    async with Scheduler(works, line.repository, **options) as scheduler:
        yield scheduler


@pytest.fixture
def ran(works: WorkRegistry) -> list[int]:
    """What the work ``note`` was run with."""
    noted: list[int] = []

    @works.register("note")
    async def note(n: int) -> int:
        noted.append(n)
        return n

    return noted


async def test_a_claim_whose_answer_was_lost_is_given_back(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    line = line_to(durable, "claim")
    async with node(line, works) as scheduler:
        line.losing.set()
        # With a delay it is the claimer's: what is due at once is taken along.
        handle = await scheduler.schedule("note", {"n": 1}, delay=0.01)
        assert await handle.result(timeout=30) == 1
        info = await handle.info()
        outcomes = [item.outcome for item in await handle.history()]
    assert line.lost == 1
    assert ran == [1]
    assert (info.attempt, outcomes) == (1, ["done"])


async def test_an_insert_whose_answer_was_lost_is_not_done_twice(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    line = line_to(durable, "insert")
    async with node(line, works) as scheduler:
        for n, options in enumerate(({}, {"unique": "key"})):
            line.losing.set()
            handle = await scheduler.schedule("note", {"n": n}, **options)
            assert handle.created
            assert await handle.result(timeout=30) == n
        counts = await scheduler.counts()
    assert line.lost == 2
    assert ran == [0, 1]
    assert sum(counts.values()) == 0


async def test_many_whose_answer_was_lost_are_there_once(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    line = line_to(durable, "insert_parts")
    numbers = list(range(TURN + 10))
    async with node(line, works) as scheduler:
        line.losing.set()
        handles = await scheduler.schedule_many([("note", {"n": n}) for n in numbers])
        assert all(handle.created for handle in handles)
        assert [await handle.result(timeout=30) for handle in handles] == numbers
        counts = await scheduler.counts()
    assert line.lost == 1
    assert sorted(ran) == numbers
    assert sum(counts.values()) == 0


async def test_an_outcome_whose_answer_was_lost_recognises_itself(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    line = line_to(durable, "finish")
    async with node(line, works) as scheduler:
        line.losing.set()
        handle = await scheduler.schedule("note", {"n": 1})
        assert await handle.result(timeout=30) == 1
        await scheduler.shutdown()
    assert line.lost == 1
    assert ran == [1]


async def test_outcomes_on_their_way_are_not_taken_for_lost_claims(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    """While the finisher cannot write, the node compares its leases with what it holds."""
    line = line_to(durable, "finish")
    async with node(line, works) as scheduler:
        line.cut.set()
        handle = await scheduler.schedule("note", {"n": 1})
        await asyncio.to_thread(line.tried.acquire, timeout=20)
        parts = scheduler._house
        assert parts is not None
        for _ in range(3):
            await asyncio.to_thread(parts.sync.chores.reconcile)
        line.cut.clear()
        assert await handle.result(timeout=30) == 1
        outcomes = [item.outcome for item in await handle.history()]
    assert ran == [1]
    assert outcomes == ["done"]


async def test_a_slow_answer_is_not_taken_for_a_lost_one(
    durable: Database, works: WorkRegistry, ran: list[int]
) -> None:
    """A claim whose answer takes its time: meanwhile the node looks at its leases."""
    line = line_to(durable, "claim_one")
    async with node(line, works) as scheduler:
        handle = await scheduler.schedule("note", {"n": 1}, delay=3600)
        line.swift.clear()
        running = asyncio.ensure_future(scheduler.run_now(handle.id))
        assert await asyncio.to_thread(line.done.acquire, timeout=20)
        chores = scheduler._house.sync.chores  # type: ignore[union-attr]
        chores.reconcile_soon()
        for _ in range(3):
            await asyncio.to_thread(chores.reconcile)
        line.swift.set()
        await running
        assert await handle.result(timeout=30) == 1
        outcomes = [item.outcome for item in await handle.history()]
    assert ran == [1]
    assert outcomes == ["done"]
