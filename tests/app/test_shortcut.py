"""What is put in where it can start is taken along: one write, and nobody is passed over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rota import Scheduler, TaskSpec, TaskState, WorkRegistry
from rota.core.ports import Repository
from rota.core.task import Along, Inserted, Lane, NewTask
from rota.errors import StorageUnavailable
from rota.testing.clock import FakeClock
from rota.testing.conformance.setting import a_task
from tests.app.holding import Held, opened
from tests.app.passing import Passing, house_of
from tests.conftest import Database

PATIENCE = 20
SLOTS = 50


async def idle(scheduler: Scheduler) -> None:
    """Wait until the claimer has nothing to look after."""
    while not house_of(scheduler).sync.idle:
        await asyncio.sleep(0)


class Watched:
    """Notes what each insert of a repository asked to have taken along; may lose answers."""

    def __init__(self, repository: Repository) -> None:
        self._insert = repository.insert
        self.asked: list[int] = []  #: how many tasks, for each insert
        self.lose = 0  #: so many answers are lost, after the write
        self.answered = threading.Semaphore(0)
        self.go = threading.Event()  #: answers wait for it
        self.go.set()
        repository.insert = self  # type: ignore[method-assign]

    def __call__(
        self, tasks: Sequence[NewTask], *, along: Along | None = None, **how: Any
    ) -> list[Inserted]:
        self.asked.append(0 if along is None else len(along.ids))
        answers = self._insert(tasks, along=along, **how)
        self.answered.release()
        assert self.go.wait(PATIENCE)
        if self.lose:
            self.lose -= 1
            raise StorageUnavailable("the answer was lost; this is a test")
        return answers


class Node:
    """A scheduler whose inserts are watched, and whose work ``busy`` ends when it is told to."""

    def __init__(self, works: WorkRegistry, database: Database) -> None:
        self.repository = opened(database)
        self.database = database
        self.works = works
        self.inserts = Watched(self.repository)
        self.ran: list[int] = []
        self.end = asyncio.Event()
        self.started = asyncio.Semaphore(0)

        @works.register("busy")
        async def busy(n: int) -> int:
            self.ran.append(n)
            self.started.release()
            await self.end.wait()
            return n

    @asynccontextmanager
    async def on(self, **options: Any) -> AsyncIterator[Scheduler]:
        async with (
            asyncio.timeout(PATIENCE),
            Scheduler(
                self.works,
                self.repository,
                clock=self.database.clock,
                poll=1.0,
                **{"concurrency": SLOTS, **options},
            ) as scheduler,
        ):
            house = house_of(scheduler)
            house.inserter._direct = False  # in its thread, as on any database
            # It may hear of its own start, and look once more at any moment.
            house.wires._heard_everything = lambda: None  # type: ignore[method-assign]
            if options.get("queues") != []:
                await idle(scheduler)
            try:
                yield scheduler
            finally:
                self.end.set()


@pytest.fixture
def node(works: WorkRegistry, database: Database) -> Node:
    return Node(works, database)


async def test_it_runs_though_nothing_can_be_claimed(node: Node) -> None:
    claims = Held(node.repository, "claim")
    async with node.on() as scheduler:
        claims.hold()
        node.end.set()
        handles = [await scheduler.schedule("busy", {"n": n}) for n in range(3)]
        handles += await scheduler.schedule_many([TaskSpec("busy", {"n": n}) for n in (3, 4)])
        assert [await handle.result() for handle in handles] == [0, 1, 2, 3, 4]
        claims.let_go()
    assert node.inserts.asked == [1, 1, 1, 2]
    assert sorted(node.ran) == [0, 1, 2, 3, 4]


async def test_without_a_free_slot_it_waits_for_a_claim_in_its_order(node: Node) -> None:
    async with node.on(concurrency=1) as scheduler:
        await scheduler.schedule("busy", {"n": 0})
        await node.started.acquire()
        low = await scheduler.schedule("busy", {"n": 1})
        high = await scheduler.schedule("busy", {"n": 2}, priority=5)
        assert node.inserts.asked == [1, 0, 0]
        for handle in (low, high):
            assert (await handle.info()).state is TaskState.SCHEDULED
        # The claimer is told after `schedule` has returned: before that it knows of one lane only.
        while ("default", 5) not in house_of(scheduler).sync.lanes._lanes:
            await asyncio.sleep(0)
        node.end.set()
        await low.result()
    assert node.ran == [0, 2, 1]


async def test_nobody_is_passed_over_who_waits_though_slots_are_free(node: Node) -> None:
    claims = Held(node.repository, "claim")
    async with node.on() as scheduler:
        claims.hold()
        before = a_task(work="busy", params='{"n":0}')
        await asyncio.to_thread(node.database.repository().insert, [before])
        house_of(scheduler).sync.hint([Lane("default", 0, 0.0)])
        await scheduler.schedule("busy", {"n": 1})
        assert node.inserts.asked[-1] == 0
        assert await asyncio.to_thread(claims.asked.acquire, timeout=PATIENCE)
        await scheduler.schedule("busy", {"n": 2})
        assert node.inserts.asked[-1] == 0
        claims.let_go()
        for _ in range(3):
            await node.started.acquire()
    assert node.ran == [0, 1, 2]


async def test_a_group_goes_whole_or_not_at_all(node: Node) -> None:
    async with node.on(concurrency=3) as scheduler:
        await scheduler.schedule_many([TaskSpec("busy", {"n": n}) for n in range(4)])
        for _ in range(3):
            await node.started.acquire()
        node.end.set()
    assert node.inserts.asked == [0]


async def test_a_queue_has_as_many_as_its_limit(node: Node) -> None:
    async with node.on(queues={"few": 1, "default": None}) as scheduler:
        await scheduler.schedule("busy", {"n": 0}, queue="few")
        await node.started.acquire()
        await scheduler.schedule("busy", {"n": 1}, queue="few")
        assert node.inserts.asked == [1, 0]
        # The second stands in a queue that is full, and keeps nobody else from the shortcut,
        # once the claimer has looked.
        for _ in range(SLOTS // 2):  # each that is left to the claimer takes a slot, too
            await idle(scheduler)
            await scheduler.schedule("busy", {"n": 2})
            if node.inserts.asked[-1] == 1:
                break
        assert node.inserts.asked[-1] == 1


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ({"delay": 3600}, {}),
        ({"queue": "elsewhere"}, {"queues": ["default"]}),
        ({}, {"queues": []}),
        ({"unique": "k"}, {}),
        ({"id": "0192f0c1-2345-7000-8000-000000000001"}, {}),
    ],
)
async def test_what_no_claim_of_this_node_would_take_is_left(
    node: Node, how: dict[str, Any], options: dict[str, Any]
) -> None:
    async with node.on(**options) as scheduler:
        await scheduler.schedule("busy", {"n": 0}, **how)
    assert node.inserts.asked == [0]


async def test_a_work_that_is_paused_or_not_known_here_is_left(node: Node) -> None:
    async with node.on(allow_unknown=True) as scheduler:
        await scheduler.pause_work("busy")
        while not house_of(scheduler).holdback.holds("busy"):
            await asyncio.sleep(0)
        handles = [await scheduler.schedule(work, {"n": 0}) for work in ("busy", "stranger")]
        assert node.inserts.asked == [0, 0]
        for handle in handles:
            await handle.cancel("the test is over")
    assert node.ran == []


async def test_of_an_answer_that_was_lost_the_task_runs_once(
    works: WorkRegistry, make_database: Callable[..., Database], fake_clock: FakeClock
) -> None:
    """Nobody knows of its lease: it is let go, and the task claimed like any other."""
    node = Node(works, make_database("memory", fake_clock))
    node.end.set()
    async with node.on() as scheduler:
        node.inserts.lose = 1
        handle = asyncio.ensure_future(scheduler.schedule("busy", {"n": 7}))
        passing = Passing(fake_clock, scheduler)
        assert await asyncio.to_thread(node.inserts.answered.acquire, timeout=PATIENCE)
        await passing.by(10.0)
        assert (await (await handle).info()).attempt == 1
    assert node.inserts.asked == [1, 0]
    assert node.ran == [7]


async def test_what_is_taken_while_the_node_leaves_is_handed_back(
    works: WorkRegistry, durable: Database
) -> None:
    node = Node(works, durable)
    async with node.on() as scheduler:
        node.inserts.go.clear()
        handle = asyncio.ensure_future(scheduler.schedule("busy", {"n": 0}))
        assert await asyncio.to_thread(node.inserts.answered.acquire, timeout=PATIENCE)
        inserter = house_of(scheduler).inserter
        drain = inserter.drain

        async def draining() -> None:
            node.inserts.go.set()
            await drain()

        inserter.drain = draining  # type: ignore[method-assign]
        await scheduler.shutdown()
        task_id = (await handle).id
    task = node.database.repository().get(task_id)
    assert task is not None
    assert (task.state, task.losses, node.ran) == (TaskState.SCHEDULED, 0, [])
