"""Rows whose JSON was damaged: whoever reads them is told in rota's words, the others live on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from rota import Backoff, Every, Scheduler
from rota.core.events import Event, Finished
from rota.core.task import Stored
from rota.errors import NotFound, RotaError, StorageError
from tests.app.audits import by_hand
from tests.conftest import Database
from tests.security.sweep import book

PATIENCE = 20
#: Not JSON, or not what rota writes there.
GARBAGE = ["", "{", "[1,", '{"a":}', "nul", "[" * 5_000, "7", "null", '"x"', "[]", '{"type":5}']
TASKS = [
    ("rota_body", "params"),
    ("rota_body", "options"),
    ("rota_body", "meta"),
    ("rota_done", "payload"),
    ("rota_failed", "payload"),
    ("rota_attempt", "error"),
]
RECURRING = ["params", "trigger", "options", "rules", "meta"]


async def some_tasks(database: Database) -> dict[str, str]:
    """Ids: of one that is done, one that failed in its second attempt, one that waits."""
    async with database.scheduler(book()) as scheduler:
        done = await scheduler.schedule("echo", {"text": "a"}, meta={"k": 1})
        failed = await scheduler.schedule(
            "break", {"text": "a"}, max_attempts=2, backoff=Backoff(first=0.01), meta={"k": 1}
        )
        waits = await scheduler.schedule("echo", {"text": "a"}, delay=3600, meta={"k": 1})
        for handle in (done, failed):
            await handle.wait(timeout=PATIENCE)
        return {"done": done.id, "failed": failed.id, "waits": waits.id}


def damaged(database: Database, table: str, column: str, garbage: str) -> bool:
    """Whether the database takes such a value; PostgreSQL's meta is JSON by its type."""
    try:
        by_hand(database, f"update {table} set {column} = '{garbage}'")
    except psycopg.Error:
        return False
    return True


def looks(scheduler: Scheduler, task_id: str) -> list[Callable[[], Any]]:
    handle = scheduler.handle(task_id)
    return [
        handle.info,
        lambda: handle.result(timeout=0.01),
        lambda: handle.wait(timeout=0.01),
        lambda: scheduler.history(task_id),
        lambda: scheduler.find(meta={"k": 1}),
        scheduler.find,
        lambda: scheduler.counts(by="queue"),
        lambda: scheduler.update(task_id, priority=3),
        lambda: scheduler.retry(task_id),
        lambda: scheduler.cancel(task_id),
    ]


@pytest.mark.parametrize(("table", "column"), TASKS)
async def test_a_damaged_task_is_told_in_rotas_words_and_can_be_deleted(
    durable: Database, table: str, column: str
) -> None:
    tasks = await some_tasks(durable)
    async with durable.scheduler(book(), queues=[]) as scheduler:
        for garbage in GARBAGE:
            if not damaged(durable, table, column, garbage):
                continue
            for task_id in tasks.values():
                for look in looks(scheduler, task_id):
                    with suppress(RotaError):
                        await look()
        for task_id in tasks.values():
            await scheduler.cancel(task_id)
            await scheduler.delete(task_id)
            with pytest.raises(NotFound):
                await scheduler.info(task_id)
        assert (await scheduler.find()).tasks == ()


@pytest.mark.parametrize("parked", [False, True])
async def test_a_due_task_whose_body_is_gone_fails_and_the_others_run(
    durable: Database, parked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It could never run; passed over, it would wait for ever."""
    async with durable.scheduler(book(), queues=[]) as scheduler:
        gone = await scheduler.schedule("echo", {"text": "a"}, delay=3600)
        sound = await scheduler.schedule("echo", {"text": "b"})
        by_hand(
            durable,
            f"delete from rota_body where id = '{gone.id}'",
            f"update rota_task set state = {2 if parked else 0}, run_at = (select run_at"
            f" from rota_task where id = '{sound.id}') where id = '{gone.id}'",
        )
    ended = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, Finished) and event.task == gone.id:
            ended.set()

    caplog.set_level(logging.ERROR, "rota.task")
    async with durable.scheduler(book(), on_event=hear) as scheduler:
        assert await scheduler.handle(sound.id).result(timeout=PATIENCE) == "b"
        await asyncio.wait_for(ended.wait(), PATIENCE)
    (told,) = caplog.messages
    assert gone.id in told
    assert "rota_body is gone" in told
    assert durable.repository().states([gone.id]) == {gone.id: Stored.FAILED}


async def test_who_is_damaged_is_named(durable: Database) -> None:
    tasks = await some_tasks(durable)
    async with durable.scheduler(book(), queues=[]) as scheduler:
        by_hand(durable, f"update rota_body set params = '{{' where id = '{tasks['done']}'")
        with pytest.raises(StorageError, match=f"task {tasks['done']} is damaged: stored JSON"):
            await scheduler.find()
        assert (await scheduler.info(tasks["failed"])).params == {"text": "a"}


@pytest.mark.parametrize("column", RECURRING)
async def test_a_damaged_definition_is_listed_as_broken_and_can_be_removed(
    durable: Database, column: str
) -> None:
    async with durable.scheduler(book(), queues=[]) as scheduler:
        await scheduler.add_recurring("sound", "echo", Every(60), {"text": "x"})
        for garbage in GARBAGE:
            one = await scheduler.add_recurring("one", "echo", Every(60), {"text": "x"})
            if not damaged(durable, "rota_recurring", f"{column}", garbage):
                continue
            by_hand(durable, "update rota_recurring set version = version + 1")
            listed = {info.id: info for info in await scheduler.list_recurring()}
            assert set(listed) == {"one", "sound"}
            for look in (
                one.info,
                one.next_fire_times,
                one.trigger_now,
                one.pause,
                one.resume,
                lambda one=one: one.change(params={"text": "y"}),
            ):
                with suppress(RotaError):
                    await look()
            await one.remove()


async def test_the_others_run_beside_a_damaged_task(durable: Database) -> None:
    async with durable.scheduler(book(), queues=[]) as client:
        handles = [await client.schedule("echo", {"text": f"{n}"}) for n in range(12)]
    for garbage, handle in zip(GARBAGE, handles, strict=False):
        for column in ("params", "options"):
            by_hand(
                durable, f"update rota_body set {column} = '{garbage}' where id = '{handle.id}'"
            )
    async with durable.scheduler(book()) as scheduler:
        assert await scheduler.handle(handles[-1].id).result(timeout=PATIENCE) == "11"
        after = await scheduler.schedule("echo", {"text": "after"})
        assert await after.result(timeout=PATIENCE) == "after"
        for duty in scheduler._house.duties:  # type: ignore[union-attr]
            assert duty.error is None
