"""The verbs that look at many tasks and act on them, through a scheduler."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from rota import BackgroundScheduler, Context, Fail, Scheduler, TaskState, WorkRegistry
from rota.core.finding import Count, Counts, Matched, Page, TaskFilter
from rota.errors import InvalidArgument, TaskCancelled, TaskNotFound, WrongState
from tests.conftest import Database


def sends(works: WorkRegistry) -> Any:
    """A work that fails while its list of broken tenants names the task's."""

    @works.register("send", queue="mail")
    async def send(ctx: Context, tenant: int) -> int:
        if tenant in broken:
            raise ValueError(f"tenant {tenant}")
        return tenant

    broken: set[int] = set()
    return send, broken


async def settled(scheduler: Scheduler, *handles: Any) -> None:
    await asyncio.gather(*(handle.wait(timeout=30) for handle in handles))


async def test_pages_filters_and_meta(database: Database, works: WorkRegistry) -> None:
    send, broken = sends(works)
    broken.add(2)
    async with database.scheduler(works) as scheduler:
        handles = [
            await scheduler.schedule(send.bind(n), meta={"tenant": n, "vip": n > 1})
            for n in range(4)
        ]
        await settled(scheduler, *handles)
        later = await scheduler.schedule(send.bind(2), delay=900, meta={"tenant": 2}, unique="k")

        mine = await scheduler.find(meta={"tenant": 2})
        vips = await scheduler.find(meta={"vip": True}, state=["done", TaskState.FAILED])
        first = await scheduler.find(queue="mail", limit=3)
        second = await scheduler.find(queue="mail", limit=3, after=first.next)
        oldest = await scheduler.find(work="send", limit=1, newest_first=False)
        by_key = await scheduler.find(unique="k")
        none = await scheduler.find(TaskFilter(unique="k", state="done"))

    assert isinstance(mine, Page)
    assert {task.id: task.status for task in mine} == {
        handles[2].id: "failed",
        later.id: "scheduled",
    }
    assert {task.params["tenant"] for task in vips} == {2, 3}
    every = sorted([*(handle.id for handle in handles), later.id], reverse=True)
    assert [task.id for task in (*first, *second)] == every
    assert (len(first), second.next) == (3, None)
    assert [task.id for task in oldest] == every[-1:]
    assert by_key is not None
    assert by_key.id == later.id
    assert (none.tasks, none.next) == ((), None)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": True}, "limit"),
        ({"after": "yesterday"}, "after"),
        ({"state": "running"}, "state"),
        ({"state": []}, "state"),
        ({"queue": "Mail!"}, "queue"),
        ({"work": b"send"}, "work"),
        ({"work": {"send": 1}}, "work"),
        ({"parent": "7"}, "id"),
        ({"meta": {"a": [1]}}, "meta"),
        ({"meta": {"a": float("nan")}}, "meta"),
        ({"meta": ["a"]}, "meta"),
        ({"created_after": datetime(2026, 1, 1)}, "created_after"),
        ({"where": TaskFilter(), "state": "done"}, "where"),
        ({"unique": "k", "state": "done"}, "where"),
    ],
)
async def test_a_filter_that_cannot_be_right_is_refused_by_name(
    works: WorkRegistry, given: dict[str, Any], field: str
) -> None:
    async with Scheduler(works) as scheduler:
        with pytest.raises(InvalidArgument) as met:
            await scheduler.find(**given)
    assert met.value.field == field


async def test_what_failed_is_grouped_retried_and_deleted(
    database: Database, works: WorkRegistry
) -> None:
    send, broken = sends(works)
    broken.update({1, 2, 3})

    @works.register("bill")
    async def bill() -> None:
        raise Fail("no money")

    async with database.scheduler(works) as scheduler:
        handles = [await scheduler.schedule(send.bind(n)) for n in range(4)]
        await settled(scheduler, *handles)
        await settled(scheduler, await scheduler.schedule(bill.bind()))
        groups = await scheduler.failures(since=3600)
        broken.clear()
        retried = await scheduler.retry_matching(TaskFilter(work="send"), limit=2)
        rest = await scheduler.retry_matching(TaskFilter(work="send"))
        await settled(scheduler, *handles)
        ended = [await handle.info() for handle in handles]
        told = [attempt.outcome for attempt in await handles[1].history()]
        counts = await scheduler.counts("work")
        deleted = await scheduler.delete_matching(TaskFilter(queue="mail", state="done"))
        left = await scheduler.find()
        again = await scheduler.delete_matching(TaskFilter(queue="mail"))

    assert [(one.work, one.error, one.n) for one in groups] == [
        ("bill", "no money", 1),
        ("send", "builtins.ValueError", 3),
    ]
    assert groups[1].example in {handle.id for handle in handles}
    assert (retried, rest) == (Matched(2), Matched(1))
    assert [task.state for task in ended] == [TaskState.DONE] * 4
    assert told == ["failed", "done"]
    assert counts["send"] == Counts(done=Count(4), failed=Count(3))
    assert deleted == Matched(4)
    assert [task.work for task in left] == ["bill"]
    assert again == Matched()


async def test_one_task_is_retried_or_deleted_if_its_state_allows(
    database: Database, works: WorkRegistry
) -> None:
    send, broken = sends(works)
    broken.add(1)
    async with database.scheduler(works) as scheduler:
        failed = await scheduler.schedule(send.bind(1))
        done = await scheduler.schedule(send.bind(2))
        waits = await scheduler.schedule(send.bind(2), delay=900)
        await settled(scheduler, failed, done)
        broken.clear()
        again = await scheduler.retry(failed.id)
        assert await again.result(timeout=30) == 1
        for verb, handle, state in (
            (scheduler.retry, failed, "done"),
            (scheduler.retry, waits, "scheduled"),
            (scheduler.delete, waits, "scheduled"),
        ):
            with pytest.raises(WrongState) as met:
                await verb(handle.id)
            assert met.value.state == state
        await scheduler.delete(done.id)
        for verb in (scheduler.delete, scheduler.retry, scheduler.info):
            with pytest.raises(TaskNotFound):
                await verb(done.id)
        cancelled = await waits.cancel("not now")
        revived = await scheduler.retry(waits.id)
        assert (cancelled, await revived.result(timeout=30)) == ("cancelled", 2)


async def test_all_that_fits_is_cancelled_wherever_it_is(
    database: Database, works: WorkRegistry
) -> None:
    started = asyncio.Event()

    @works.register("long")
    async def long() -> None:
        started.set()
        await asyncio.Event().wait()

    async with database.scheduler(works) as scheduler:
        runs = await scheduler.schedule(long.bind())
        await started.wait()
        many = await scheduler.schedule_many([long.bind()] * 250, delay=900, queue="bulk")
        others = await scheduler.schedule(long.bind(), delay=900)
        waiting = asyncio.create_task(many[0].result(timeout=30))
        moved = await scheduler.reschedule_matching(TaskFilter(queue="bulk"), delay=1800)
        first = await many[0].info()
        gone = await scheduler.cancel_matching(TaskFilter(queue="bulk"), "enough")
        asked = await scheduler.cancel_matching(TaskFilter(state="working"), "stop")
        with pytest.raises(TaskCancelled, match="enough"):
            await waiting
        with pytest.raises(TaskCancelled, match="stop"):
            await runs.result(timeout=30)
        left = await scheduler.find(state="scheduled")
        with pytest.raises(InvalidArgument, match="none that can be cancelled"):
            await scheduler.cancel_matching(TaskFilter(state="done"))

    assert moved == gone == Matched(250)
    assert (first.due_at - datetime.now(UTC)).total_seconds() > 1200
    assert asked == Matched(0, 1)
    assert [task.id for task in left] == [others.id]


async def test_counts_nodes_and_what_they_run(database: Database, works: WorkRegistry) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @works.register("long", queue="mail")
    async def long() -> None:
        started.set()
        await go_on.wait()

    async with (
        database.scheduler(works, name="one") as scheduler,
        database.scheduler(WorkRegistry(), name="client", queues=[]) as client,
    ):
        runs = await scheduler.schedule(long.bind())
        await scheduler.schedule(long.bind(), delay=900)
        await started.wait()
        await client.pause_queue("empty", "nothing here")
        counts = await client.counts("queue")
        nodes = {info.name: info for info in await client.nodes()}
        mine = await client.running_tasks(scheduler.node)
        none = await client.running_tasks(client.node)
        go_on.set()
        await settled(scheduler, runs)
        after = await client.counts(by="queue", since=3600)

    assert counts == {
        "mail": Counts(scheduled=Count(1), working=Count(1)),
        "empty": Counts(paused="nothing here"),
    }
    assert after["mail"] == Counts(scheduled=Count(1), done=Count(1))
    assert {name: info.tasks for name, info in nodes.items()} == {"one": 1, "client": 0}
    assert {task.node for task in mine} == {nodes["one"].id}
    assert nodes["one"].version
    assert 0 <= nodes["one"].beat_age < nodes["one"].lease
    assert [task.id for task in mine] == [runs.id]
    assert none == []


Pause = Callable[[Scheduler], Awaitable[object]]


@pytest.mark.parametrize("what", ["queue", "work"])
async def test_what_is_paused_starts_on_no_node_until_it_is_resumed(
    database: Database, works: WorkRegistry, what: str
) -> None:
    ran: Counter[str] = Counter()
    seen = asyncio.Event()

    @works.register("send", queue="mail")
    async def send() -> None:
        ran["send"] += 1

    @works.register("other")
    async def other() -> None:
        seen.set()

    async with database.scheduler(works) as one, database.scheduler(works) as two:
        verbs = {"queue": "mail", "work": "send"}
        await getattr(one, f"pause_{what}")(verbs[what], "the provider is down")
        for node in (one, two):
            assert await getattr(node, f"paused_{what}s")() == {verbs[what]: "the provider is down"}
        if what == "work":
            # Nodes are told, and ask about each second: until then one may still start.
            await known(one, two)
        handles = [await one.schedule(send.bind()) for _ in range(3)]
        await settled(one, await two.schedule(other.bind()))
        if what == "work":
            await parked(one, 3)
        paused = (await two.counts(what))[verbs[what]].paused
        before = ran["send"]
        resumed = await getattr(two, f"resume_{what}")(verbs[what])
        await settled(one, *handles)
        again = await getattr(two, f"resume_{what}")(verbs[what])

    assert paused == "the provider is down"
    assert (before, ran["send"]) == (0, 3)
    assert (resumed, again) == (True, False)


async def known(*nodes: Scheduler) -> None:
    """Until each node knows which works are paused."""
    while not all(node._open().holdback.works for node in nodes):
        await asyncio.sleep(0)


async def parked(scheduler: Scheduler, n: int) -> None:
    """Until so many tasks are parked."""
    while len(await scheduler.find(state="parked")) < n:
        pass


async def test_what_a_node_holds_for_soon_is_handed_back_when_its_queue_is_paused(
    database: Database, works: WorkRegistry
) -> None:
    go_on, started = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    @works.register("long")
    async def long() -> None:
        started.set()
        await go_on.wait()

    @works.register("send", queue="mail")
    async def send() -> None:
        ran.append("send")

    async with database.scheduler(works, concurrency=1, look_ahead=30) as scheduler:
        handle = await scheduler.schedule(send.bind(), delay=20)
        while not (await scheduler.find(state="working")):
            pass
        await scheduler.pause_queue("mail")
        while await scheduler.find(state="working"):
            pass
        held = await handle.info()

    assert (held.status, held.attempt, ran) == ("scheduled", 0, [])


def test_threads_have_the_same_verbs(works: WorkRegistry) -> None:
    @works.register("send", queue="mail")
    def send(n: int) -> int:
        return n

    with BackgroundScheduler(works) as scheduler:
        handles = [scheduler.schedule(send.bind(n), delay=900) for n in range(3)]
        assert len(scheduler.find(queue="mail", limit=2)) == 2
        assert scheduler.find(unique="k") is None
        assert scheduler.counts()["scheduled"] == 3
        assert scheduler.counts(by="work")["send"].scheduled == (3, False)
        scheduler.pause_queue("mail", "x")
        scheduler.pause_work("send")
        assert (scheduler.paused_queues(), scheduler.paused_works()) == (
            {"mail": "x"},
            {"send": ""},
        )
        assert scheduler.resume_queue("mail")
        assert scheduler.resume_work("send")
        assert scheduler.cancel_matching(TaskFilter(queue="mail"), limit=2) == Matched(2)
        now = datetime.now(UTC)
        assert scheduler.reschedule_matching(TaskFilter(work="send"), at=now) == Matched(1)
        ended = [handle.wait(timeout=30) for handle in handles]
        (first,) = (task for task in ended if task.state is TaskState.DONE)
        scheduler.delete(first.id)
        assert scheduler.delete_matching(TaskFilter(state="cancelled"), limit=1) == Matched(1)
        assert scheduler.retry_matching(TaskFilter(state="cancelled")) == Matched(1)
        assert scheduler.failures() == []
        assert len(scheduler.nodes()) == 1
        assert len(scheduler.running_tasks()) <= 1
        with pytest.raises(TaskNotFound):
            scheduler.retry(first.id)
