"""The change feed through the public verbs: pages, cursors, nothing skipped or repeated."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from rota import Scheduler, WorkRegistry
from rota.core.task import Change, Stored
from rota.errors import InvalidArgument
from tests.app.callers import calling, default_driver
from tests.conftest import Database

PATIENCE = 30


async def read(scheduler: Scheduler, cursor: str | None, count: int) -> tuple[list[Change], str]:
    """So many changes after the cursor; on PostgreSQL they show once older transactions end."""
    found: list[Change] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count or cursor is None:
            page, cursor = await scheduler.changes(cursor, limit=count - len(found) or 1)
            found += page
    return found, cursor


async def test_off_it_writes_nothing(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), queues=[], allow_unknown=True) as client:
        await client.schedule("w", {"n": 1}, delay=60)
        assert (await client.changes())[0] == []
        await client.feed(on=True)
        on = await client.schedule("w", {"n": 2}, delay=60)
        await client.feed(on=False)
        await client.schedule("w", {"n": 3}, delay=60)
        changes, cursor = await read(client, None, 1)
        assert [(change.task_id, change.state) for change in changes] == [(on.id, Stored.SCHEDULED)]
        assert (await client.changes(cursor))[0] == []


async def test_every_step_is_told_in_order(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), queues=[], allow_unknown=True) as client:
        await client.feed(on=True)
        one = await client.schedule("w", max_attempts=2)
        (pulled,) = await client.claim()
        await pulled.fail("again", after=0)
        (pulled,) = await client.claim(wait=PATIENCE)
        await pulled.done()
        two = await client.schedule("w", delay=60)
        await two.cancel()
        changes, _ = await read(client, None, 5)
    assert [(change.task_id, change.state) for change in changes] == [
        (one.id, Stored.SCHEDULED),
        (one.id, Stored.SCHEDULED),
        (one.id, Stored.DONE),
        (two.id, Stored.SCHEDULED),
        (two.id, Stored.CANCELLED),
    ]
    assert all(change.at.tzinfo is not None for change in changes)


async def test_pages_neither_skip_nor_repeat_while_two_nodes_work(
    database: Database, works: WorkRegistry
) -> None:
    @works.register("quick")
    async def quick(n: int) -> None:
        if n % 10 == 0:
            raise ValueError("every tenth")

    async with database.scheduler(works) as one, database.scheduler(works) as two:
        await one.feed(on=True)
        count = 150
        putting = asyncio.gather(
            *((one, two)[n % 2].schedule("quick", {"n": n}, delay=0.001 * n) for n in range(count))
        )
        told: dict[str, list[Stored]] = defaultdict(list)
        pages: list[tuple[str | None, list[Change]]] = []
        cursor: str | None = None
        async with asyncio.timeout(PATIENCE):
            while sum(len(states) for states in told.values()) < 2 * count:
                page, after = await two.changes(cursor, limit=7)
                assert len(page) <= 7
                if page:
                    pages.append((cursor, page))
                for change in page:
                    told[change.task_id].append(change.state)
                cursor = after
        handles = await putting
        assert (await one.changes(cursor))[0] == []
        for since, page in pages[::5]:
            assert (await one.changes(since, limit=len(page)))[0] == page

    assert set(told) == {handle.id for handle in handles}
    for n, handle in enumerate(handles):
        ended = Stored.DONE if n % 10 else Stored.FAILED
        assert told[handle.id] == [Stored.SCHEDULED, ended]


async def test_what_a_caller_commits_late_is_not_skipped(
    durable: Database, works: WorkRegistry
) -> None:
    @works.register("later")
    async def later() -> None: ...

    async with durable.scheduler(works, queues=[]) as client:
        await client.feed(on=True)
        async with calling(durable, f"{default_driver(durable)} session") as caller:
            early = await client.schedule("later", connection=caller.given)
            others = []
            if durable.kind == "postgres":
                others.append(await client.schedule("later"))
            before, cursor = await client.changes()
            assert early.id not in {change.task_id for change in before}
            await caller.commit()
        changes, _ = await read(client, cursor, 1 + len(others) - len(before))
        everything = [change.task_id for change in (*before, *changes)]
    assert sorted(everything) == sorted([early.id, *(handle.id for handle in others)])


@pytest.mark.parametrize("cursor", ["nonsense", "-1", "1:2:3"])
async def test_a_cursor_nobody_gave_is_refused(durable: Database, cursor: str) -> None:
    async with durable.scheduler(WorkRegistry(), queues=[]) as client:
        with pytest.raises(InvalidArgument, match="cursor"):
            await client.changes(cursor)
