"""A line goes dead without a word: others are kept up briefly, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from rota import Scheduler, WorkRegistry
from rota.core.clock import SystemClock
from rota.core.ids import new_id, new_incarnation
from rota.storage.postgres import PostgresRepository
from rota.testing.conformance.setting import a_task
from tests.chaos.proxy import Proxy
from tests.chaos.world import PLAIN

pytestmark = pytest.mark.postgres


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    with psycopg.connect(postgres_url) as admin:
        proxy = await Proxy(admin.info.port).start()
    yield proxy
    await proxy.close()


def through(proxy: Proxy) -> str:
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?{PLAIN}"


async def test_locks_of_who_was_cut_off_are_given_up(
    proxy: Proxy, postgres_url: str, postgres_schema: str
) -> None:
    url = through(proxy)
    cut_off = PostgresRepository(
        url, clock=SystemClock(), schema=postgres_schema, statement_timeout=0.5
    )
    other = PostgresRepository(
        postgres_url, clock=SystemClock(), schema=postgres_schema, statement_timeout=20.0
    )
    task = a_task()
    locked, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def lock_and_hang() -> None:
        cut_off.open()
        cut_off.insert([task])
        with cut_off._connections.transaction() as session:
            session.rows(f"select id from {postgres_schema}.rota_task for update")
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    hanging = asyncio.create_task(asyncio.to_thread(lock_and_hang))
    async with asyncio.timeout(20):
        await locked.wait()
    proxy.swallow(forget=True)
    await asyncio.to_thread(other.open)
    assert await asyncio.to_thread(other.cancel, task.id, "stop") is not None
    await proxy.close()
    go_on.set()
    with pytest.raises(Exception, match="does not answer"):
        await hanging
    for repository in (cut_off, other):
        repository.close()


async def test_a_listener_that_gets_no_answer_is_freed_by_another_thread(
    proxy: Proxy, postgres_schema: str
) -> None:
    repository = PostgresRepository(through(proxy), clock=SystemClock(), schema=postgres_schema)
    signals = await asyncio.to_thread(repository.signals, new_incarnation())
    proxy.swallow(forget=True)
    announcing = asyncio.create_task(asyncio.to_thread(signals.announce, tasks=[new_id()]))
    async with asyncio.timeout(20):
        while (asked := signals._asked) is None:
            await asyncio.sleep(0)
        assert repository.abort_overdue() == 0
        signals._asked = asked[0], asked[1] - 1_000
        assert repository.abort_overdue() == 1
        await announcing
        await asyncio.to_thread(signals.close)
    repository.close()


async def test_a_shutdown_ends_though_nothing_answers_any_more(
    proxy: Proxy, postgres_schema: str
) -> None:
    repository = PostgresRepository(
        through(proxy), clock=SystemClock(), schema=postgres_schema, statement_timeout=0.3
    )
    scheduler = Scheduler(WorkRegistry(), repository)
    await scheduler.start()
    proxy.swallow(forget=True)
    async with asyncio.timeout(40):
        await scheduler.shutdown(timeout=0)
