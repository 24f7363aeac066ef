"""What a puller may still say of its task: after a cancel request, after its end, after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rota import Scheduler, WorkRegistry
from rota.control.handle import TaskHandle
from rota.control.pulled import Pulled
from rota.core.clock import Clock
from rota.core.ids import new_incarnation
from rota.core.ports import Repository
from rota.core.task import Ending, Finish, Membership, Stored
from rota.errors import LeaseLost, TaskCancelled, WrongState
from rota.testing.clock import FakeClock
from tests.conftest import BACKENDS, Database

PATIENCE = 20
CLIENT: dict[str, Any] = {"queues": [], "allow_unknown": True}
LEASE = 10


@pytest.fixture(params=BACKENDS)
def frozen(
    request: pytest.FixtureRequest,
    make_database: Callable[[str, Clock], Database],
    fake_clock: FakeClock,
) -> Database:
    """Each of the three, on a clock that only the test moves."""
    return make_database(request.param, fake_clock)


# Cancel requests


async def test_a_puller_hears_at_its_next_report_that_the_task_is_to_stop(
    database: Database,
) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handle, other = [await client.schedule("w", {"n": n}, max_attempts=3) for n in range(2)]
        pulled = {item.id: item for item in await client.claim(limit=2)}
        mine, beside = pulled[handle.id], pulled[other.id]
        assert await mine.report(1) is True
        assert await mine.extend() is True
        assert (mine.cancelled, mine.cancel_reason) == (False, None)
        assert await handle.cancel("not needed") == "requested"
        assert not mine.cancelled
        assert await mine.extend() is False
        assert (mine.cancelled, mine.cancel_reason) == (True, "not needed")
        assert await mine.report(2) is False
        assert await beside.report(1) is True
        report = await handle.report()
        assert report is not None
        assert report.data == 2
        await mine.release()
        with pytest.raises(TaskCancelled, match="not needed"):
            await handle.result(timeout=PATIENCE)
        await beside.done()


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda one: one.done("all the same"), "done"),
        (lambda one: one.fail("broken", retry=False), "failed"),
        (lambda one: one.fail("broken"), "cancelled"),
        (lambda one: one.release(after=60), "cancelled"),
    ],
    ids=["done", "failed for good", "failed", "released"],
)
async def test_done_and_a_final_failure_count_after_a_cancel_request(
    database: Database, end: Callable[[Pulled], Awaitable[None]], state: str
) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", max_attempts=3)
        (pulled,) = await client.claim()
        await handle.cancel("not needed")
        await end(pulled)
        info = await handle.info()
        assert info.state == state
        if state == "cancelled":
            assert info.reason == "not needed"


async def test_a_lapsed_claim_that_was_to_stop_is_cancelled_when_taken_back(
    frozen: Database,
) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w")
        (pulled,) = await client.claim(lease=LEASE)
        await handle.cancel("not needed")
        waiting = asyncio.create_task(handle.result(timeout=3600))
        _move(frozen, LEASE * 2)
        assert await client.claim() == []
        with pytest.raises(TaskCancelled, match="not needed"):
            await waiting
        with pytest.raises(LeaseLost):
            await pulled.done("late")


# Whose token it is


async def _ended(client: Scheduler, pulled: Pulled, database: Database) -> None:
    await pulled.done("first")


async def _taken_back(client: Scheduler, pulled: Pulled, database: Database) -> None:
    _move(database, LEASE * 2)
    (repeated,) = _rescued(client)
    assert repeated == pulled.id


async def _held_by_another(client: Scheduler, pulled: Pulled, database: Database) -> None:
    _move(database, LEASE * 2)
    (again,) = await client.claim()
    assert again.id == pulled.id


@pytest.mark.parametrize("happened", [_ended, _taken_back, _held_by_another])
async def test_whoever_lost_the_task_changes_nothing_whatever_he_says(
    frozen: Database,
    happened: Callable[[Scheduler, Pulled, Database], Awaitable[None]],
) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", max_attempts=3)
        (pulled,) = await client.claim(lease=LEASE)
        await pulled.report("half")
        await happened(client, pulled, frozen)
        before = await _standing(handle)
        for _ in range(2):
            says: list[Callable[[], Awaitable[object]]] = [
                lambda: pulled.done("again"),
                lambda: pulled.fail("broken"),
                lambda: pulled.fail("broken", retry=False),
                pulled.release,
                lambda: pulled.report("late"),
                pulled.extend,
            ]
            for say in says:
                with pytest.raises(LeaseLost) as met:
                    await say()
                assert met.value.task_id == handle.id
        assert await _standing(handle) == before


async def test_one_tasks_claim_says_nothing_of_its_neighbours(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handles = [await client.schedule("w", {"n": n}) for n in range(2)]
        first, second = await client.claim(limit=2)
        await first.done()
        with pytest.raises(LeaseLost):
            await first.fail("after its end")
        with pytest.raises(LeaseLost):
            await first.extend()
        assert await second.extend() is True
        await second.done()
        assert [(await handle.info()).state for handle in handles] == ["done", "done"]


async def test_a_task_somebody_has_pulled_cannot_be_changed(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), **CLIENT) as client:
        handle = await client.schedule("w", {"n": 1})
        await client.claim()
        before = await _standing(handle)
        for changes in ({"priority": 9}, {"delay": 60}, {"params": {"n": 2}}):
            with pytest.raises(WrongState) as met:
                await handle.update(**changes)
            assert met.value.state == "working"
        assert await _standing(handle) == before


def _move(database: Database, by: float) -> None:
    assert isinstance(database.clock, FakeClock)
    database.clock.advance(by)


def _rescued(client: Scheduler) -> list[str]:
    house = client._house
    assert house is not None
    return [item.id for item in house.repository.rescue(100)]


async def _standing(handle: TaskHandle[Any]) -> tuple[Any, ...]:
    """All that is known of the task."""
    return await handle.info(), await handle.history(), await handle.report()


# What nodes could not run


async def test_what_a_node_parked_is_pulled_by_who_waits_for_it(database: Database) -> None:
    """A node serves the queue but does not know the work: it must not keep it from pullers."""
    async with (
        database.scheduler(WorkRegistry(), allow_unknown=True),
        database.scheduler(WorkRegistry(), **CLIENT) as client,
    ):
        handle = await client.schedule("render", {"n": 1}, queue="gpu", max_attempts=1)
        async with asyncio.timeout(PATIENCE):
            while (await handle.info()).status != "parked":
                await client.claim(["none"])
        (pulled,) = await client.claim(["gpu"], wait=PATIENCE)
        assert (pulled.id, pulled.attempt) == (handle.id, 1)
        await pulled.done("by hand")
        assert await handle.result(timeout=PATIENCE) == "by hand"


async def test_what_is_parked_waits_behind_what_is_more_urgent_only(frozen: Database) -> None:
    async with frozen.scheduler(WorkRegistry(), **CLIENT) as client:
        repository = frozen.repository()
        asked = [(3, True), (9, False), (3, False), (-1, True), (12, True), (-5, False)]
        for priority, parked in asked:
            handle = await client.schedule("w" if parked else "v", priority=priority)
            if parked:
                _park(repository, handle.id)
        order = []
        while pulled := await client.claim():
            order.append((pulled[0]._claimed.priority, pulled[0].work == "w"))
        frozen.close()
    assert order == [(12, True), (9, False), (3, True), (3, False), (-1, True), (-5, False)]


def _park(repository: Repository, task_id: str) -> None:
    node = new_incarnation()
    repository.join(Membership(node, "n", "h", 1, 30.0))
    claimed = repository.claim_one(node, 1, task_id)
    finish = Finish(claimed.id, claimed.batch, claimed.attempt, Ending.PARK)
    assert repository.finish(node, [finish], [1]) == [Stored.PARKED]
    repository.leave(node)
