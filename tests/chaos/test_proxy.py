"""The proxy knows a commit when it sees one, and does to a line what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.chaos.proxy import Proxy

COMMITS: list[tuple[str, list[tuple[str, Any]]]] = [
    ("by itself", [("insert into noted values (%s)", [1])]),
    ("within a statement", [("with a as (insert into noted values (%s)) select 1", [1])]),
    ("without parameters", [("insert into noted values (1)", None)]),
    ("by the word", [("begin", None), ("insert into noted values (%s)", [1]), ("commit", None)]),
]


@pytest.fixture
def direct(postgres_url: str) -> psycopg.Connection:
    connection = psycopg.connect(postgres_url, autocommit=True)
    connection.execute("create table if not exists noted (n int)")
    connection.execute("truncate noted")
    return connection


@pytest.fixture
async def proxy(direct: psycopg.Connection) -> AsyncIterator[Proxy]:
    proxy = await Proxy(direct.info.port).start()
    yield proxy
    await proxy.close()
    direct.execute("drop table noted")
    direct.close()


async def connect(proxy: Proxy, direct: psycopg.Connection) -> psycopg.AsyncConnection:
    known = conninfo_to_dict(direct.info.dsn)
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1",
        port=proxy.port,
        user=known["user"],
        dbname=known["dbname"],
        sslmode="disable",
        gssencmode="disable",
        autocommit=True,
    )


def noted(direct: psycopg.Connection) -> int:
    row = direct.execute("select count(*) from noted").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("statements", [c[1] for c in COMMITS], ids=[c[0] for c in COMMITS])
async def test_the_answer_to_a_commit_is_lost(
    proxy: Proxy, direct: psycopg.Connection, statements: list[tuple[str, Any]], prepared: bool
) -> None:
    async with await connect(proxy, direct) as connection:
        if prepared:
            for text, values in statements:
                if values:
                    await connection.execute(text, values, prepare=True)
            direct.execute("truncate noted")
        await connection.execute("select 1")
        proxy.cut_next_commit(answered=True)
        await connection.execute("select * from noted")
        for text, values in statements[:-1]:
            await connection.execute(text, values)
        assert proxy.counts.total() == 0
        text, values = statements[-1]
        with pytest.raises(psycopg.OperationalError):
            await connection.execute(text, values)
    assert dict(proxy.counts) == {"commits cut": 1, "commits done, answer lost": 1}
    assert noted(direct) == 1


async def test_a_commit_is_cut_as_it_is_sent(proxy: Proxy, direct: psycopg.Connection) -> None:
    async with await connect(proxy, direct) as connection:
        proxy.cut_next_commit(answered=False)
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("insert into noted values (1)")
    assert dict(proxy.counts) == {"commits cut": 1}


@pytest.mark.parametrize("forget", [False, True])
async def test_what_is_swallowed_comes_late_or_never(
    proxy: Proxy, direct: psycopg.Connection, forget: bool
) -> None:
    async with await connect(proxy, direct) as connection:
        proxy.swallow(forget=forget)
        asked = asyncio.create_task(connection.execute("select 1"))
        await asyncio.to_thread(direct.execute, "select pg_sleep(0.2)")
        assert not asked.done()
        proxy.pass_on()
        if not forget:
            await asked
            return
        async with await connect(proxy, direct) as another:
            await another.execute("select 1")
        assert not asked.done()
        asked.cancel()
        with pytest.raises((asyncio.CancelledError, psycopg.OperationalError)):
            await asked
