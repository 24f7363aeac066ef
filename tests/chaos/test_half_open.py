"""A line goes dead without a word, in the midst of a transaction: others are kept up briefly."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from rota.core.clock import SystemClock
from rota.storage.postgres import PostgresRepository
from rota.testing.conformance.setting import a_task
from tests.chaos.proxy import Proxy
from tests.chaos.world import PLAIN

pytestmark = pytest.mark.postgres


async def test_locks_of_who_was_cut_off_are_given_up(
    postgres_url: str, postgres_schema: str
) -> None:
    with psycopg.connect(postgres_url) as admin:
        proxy = await Proxy(admin.info.port).start()
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?{PLAIN}"
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
