"""Several nodes on one database: taking over, fencing, shutting down."""

from __future__ import annotations

import asyncio
import threading

import pytest

import rota
from rota import BlockingContext, Scheduler, WorkRegistry
from rota.core.events import Died, Event, Finished, Started
from rota.errors import AlreadyClaimed
from tests.conftest import Database


class Diary:
    """Collects a scheduler's events and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, kind: type[Event], count: int = 1) -> list[Event]:
        async with asyncio.timeout(30):
            while len(found := [item for item in self.events if isinstance(item, kind)]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found


def house(scheduler: Scheduler) -> rota.app.house.House:  # type: ignore[name-defined]
    opened = scheduler._house
    assert opened is not None
    return opened


async def die(scheduler: Scheduler) -> None:
    """End a scheduler as a kill would: nothing is handed back, nobody signs off."""
    parts = house(scheduler)
    parts.closing = True
    for duty in parts.duties:
        duty.stop()
    parts.wires.signals.interrupt()
    for duty in parts.duties:
        await asyncio.to_thread(duty.join, 10)
    await parts.firing.stop()
    await asyncio.to_thread(parts.offload.close)
    await asyncio.to_thread(parts.wires.close)
    if parts.repository.durable:
        await asyncio.to_thread(parts.repository.close)


async def test_a_dead_nodes_tasks_run_elsewhere(durable: Database, works: WorkRegistry) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold() -> str:
        started.set()
        await gate.wait()
        return "done elsewhere"

    first = durable.scheduler(works, lease=3, heartbeat=1)
    await first.start()
    handle = await first.schedule(hold.bind())
    await started.wait()
    await die(first)
    gate.set()

    async with durable.scheduler(works, lease=3, heartbeat=1) as second:
        assert await second.handle(handle.id).result(timeout=30) == "done elsewhere"
        info = await second.info(handle.id)
        attempts = await second.history(handle.id)

    assert info.attempt == 1
    assert [item.outcome for item in attempts] == ["lost", "done"]


async def test_a_zombies_outcome_is_refused(database: Database, works: WorkRegistry) -> None:
    ran: list[str] = []
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}
    names = iter(("first", "second"))
    started = asyncio.Semaphore(0)

    @works.register("race")
    async def race() -> str:
        name = next(names)
        ran.append(name)
        started.release()
        await gates[name].wait()
        return name

    diary = Diary()
    async with database.scheduler(works, on_event=diary) as zombie:
        handle = await zombie.schedule(race.bind())
        await started.acquire()
        # Another node buries it, as it would after a lease without a heartbeat.
        repository = database.repository()
        repository.leave(zombie.node)
        repository.rescue(100)
        async with database.scheduler(works) as other:
            other_handle = other.handle(handle.id)
            await started.acquire()
            gates["first"].set()
            refused = await diary.until(Finished)
            gates["second"].set()
            assert await other_handle.result(timeout=20) == "second"

    assert isinstance(refused[0], Finished)
    assert refused[0].state is None
    assert ran == ["first", "second"]


async def test_a_node_declared_dead_cancels_its_runs_and_is_born_again(
    database: Database, works: WorkRegistry
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold(once: bool) -> str:
        if once and not started.is_set():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return "second run"

    diary = Diary()
    async with database.scheduler(works, lease=3, heartbeat=1, on_event=diary) as scheduler:
        before = scheduler.node
        handle = await scheduler.schedule(hold.bind(once=True))
        await started.wait()
        repository = database.repository()
        repository.leave(before)
        await diary.until(Died)
        await asyncio.wait_for(cancelled.wait(), 20)
        assert await handle.result(timeout=30) == "second run"
        assert scheduler.node != before


async def test_shutdown_hands_back_at_once_and_costs_no_attempt(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Semaphore(0)

    @works.register("hold", max_attempts=1)
    async def hold(n: int) -> int:
        started.release()
        if gate.is_set():
            return n
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    gate = asyncio.Event()
    first = database.scheduler(works, concurrency=2)
    await first.start()
    handles = await first.schedule_many([hold.bind(n) for n in range(6)])
    later = await first.schedule(hold.bind(6), delay=0.9)
    await started.acquire()
    await started.acquire()
    await first.shutdown(timeout=0)
    gate.set()

    async with database.scheduler(works) as second:
        counts = await second.counts()
        results = [await second.handle(item.id).result(timeout=20) for item in (*handles, later)]
        attempts = {(await second.info(item.id)).attempt for item in handles}

    assert counts["working"] <= 7
    assert results == [0, 1, 2, 3, 4, 5, 6]
    assert attempts == {1}


async def test_shutdown_lets_work_end_and_writes_its_outcome(
    database: Database, works: WorkRegistry
) -> None:
    gate, started = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @works.register("finish")
    def finish(ctx: BlockingContext) -> str:
        loop.call_soon_threadsafe(started.set)
        gate.wait(30)
        return "well"

    first = database.scheduler(works)
    await first.start()
    handle = await first.schedule(finish.bind())
    await started.wait()
    going = asyncio.create_task(first.shutdown(timeout=30))
    await asyncio.sleep(0)
    gate.set()
    await going

    async with database.scheduler(works, queues=[]) as client:
        info = await client.info(handle.id)
    assert (info.state, info.result) == ("done", "well")


async def test_an_unknown_work_waits_for_a_node_that_knows_it(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("known")
    async def known() -> str:
        return "known"

    newer = WorkRegistry()

    @newer.register("new.work")
    async def new_work() -> str:
        return "new"

    async with database.scheduler(works, queues=[], allow_unknown=True) as client:
        waiting = [await client.schedule("new.work") for _ in range(3)]
        async with database.scheduler(works) as old:
            # With a key it is not taken along: claimed, it ends after what was claimed before it.
            follows = await old.schedule(known.bind(), unique="last")
            assert await follows.result(timeout=20) == "known"
            infos = [await old.info(item.id) for item in waiting]
            report = await old.restore(wait=0)
            async with database.scheduler(newer):
                results = [await old.handle(item.id).result(timeout=20) for item in waiting]

    assert {(info.status, info.attempt) for info in infos} == {("parked", 0)}
    assert sorted(report.unknown["new.work"]) == sorted(item.id for item in waiting)
    assert results == ["new"] * 3


async def test_two_nodes_share_the_work_and_none_runs_twice(
    database: Database, works: WorkRegistry
) -> None:
    ran: list[int] = []

    @works.register("count")
    async def count(n: int) -> None:
        ran.append(n)

    async with (
        database.scheduler(works, concurrency=5) as one,
        database.scheduler(works, concurrency=5),
    ):
        handles = await one.schedule_many([count.bind(n) for n in range(300)])
        for handle in handles:
            await handle.wait(timeout=30)

    assert sorted(ran) == list(range(300))


async def test_a_running_task_is_cancelled_from_another_node(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Event()

    @works.register("hold")
    async def hold() -> None:
        started.set()
        await asyncio.Event().wait()

    async with database.scheduler(works) as one:
        handle = await one.schedule(hold.bind())
        await started.wait()
        async with database.scheduler(works, queues=[]) as client:
            assert await client.cancel(handle.id, "from afar") == "requested"
            with pytest.raises(rota.errors.TaskCancelled, match="from afar"):
                await client.handle(handle.id).result(timeout=20)


async def test_a_task_claimed_elsewhere_cannot_be_claimed_by_its_id(
    database: Database, works: WorkRegistry
) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @works.register("hold")
    async def hold() -> str:
        started.set()
        await gate.wait()
        return "once"

    async with database.scheduler(works) as one, database.scheduler(works) as two:
        early = await one.schedule(hold.bind(), delay=3600)
        await two.run_now(early.id)
        await started.wait()
        with pytest.raises(AlreadyClaimed):
            await one.run_now(early.id)
        gate.set()
        assert await early.result(timeout=20) == "once"


async def test_tasks_due_before_the_start_may_be_refused(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("old")
    async def old(keep: bool) -> str:
        return "ran"

    async with database.scheduler(works, queues=[]) as client:
        kept = await client.schedule(old.bind(keep=True))
        refused = await client.schedule(old.bind(keep=False))
        async with database.scheduler(
            works, should_restore=lambda task: '"keep":true' in task.params
        ) as node:
            fresh = await node.schedule(old.bind(keep=False))
            assert await fresh.result(timeout=20) == "ran"
            assert await client.handle(kept.id).result(timeout=20) == "ran"
            with pytest.raises(rota.errors.TaskCancelled, match="not_restored"):
                await client.handle(refused.id).result(timeout=20)


async def test_a_node_without_a_confirmed_heartbeat_starts_nothing(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("quick")
    async def quick() -> str:
        return "ran"

    diary = Diary()
    async with database.scheduler(works, on_event=diary) as scheduler:
        life = house(scheduler).life
        life._confirmed -= life.lease
        handle = await scheduler.schedule(quick.bind())
        assert not life.may_start
        assert not [item for item in diary.events if isinstance(item, Started)]
        life.suspect()
        assert await handle.result(timeout=20) == "ran"
