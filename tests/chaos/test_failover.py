"""The primary is gone and its standby promoted while nodes run: they go on by themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from rota.core.clock import SystemClock
from rota.storage.postgres import PostgresRepository
from rota.testing.postgres_server import PostgresServer
from tests.chaos.fleet import Fleet
from tests.chaos.judge import Verdict, judge
from tests.chaos.proxy import Proxy
from tests.chaos.run import Plan, add_recurring, drained, make_fleet, misdeeds, stop_recurring
from tests.chaos.standby import Standby
from tests.chaos.world import PostgresWorld

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(180)]

PLAN = Plan(seconds=3, seed="failover", nodes=2, clients=1, rate=60)
#: Acknowledged so long before the line to the standby was cut is with the standby.
MOMENT = 0.5


class Pair(PostgresWorld):
    """A primary and its standby; members know both by one URL."""

    def __init__(self, primary: PostgresServer, standby: Standby) -> None:
        self.server, self.proxies = None, {}
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        self.url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    async def url_for(self, member: str) -> str:
        return self.url


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with PostgresServer(settings={}) as server:
        yield server


@asynccontextmanager
async def following(primary: PostgresServer) -> AsyncIterator[tuple[Standby, Proxy]]:
    """A standby that streams, and the proxy it does so through."""
    line = await Proxy(primary.port).start()
    standby = Standby(primary, through=line.port)
    try:
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.wait_streaming, "async")
        yield standby, line
    finally:
        await asyncio.to_thread(standby.remove)
        await line.close()


async def acknowledged(directory: Path, more: int) -> None:
    """Until clients were told of so many tasks more."""

    def count() -> int:
        return sum(
            path.read_bytes().count(b"\n") for path in directory.glob("client*.history.jsonl")
        )

    wanted = count() + more
    async with asyncio.timeout(60):
        while count() < wanted:
            await asyncio.sleep(0.05)


async def fail_over(
    primary: PostgresServer, standby: Standby, line: Proxy, directory: Path, *, lag: bool
) -> tuple[Verdict, Fleet]:
    """Members work, the primary crashes, the standby is promoted, they work on."""
    world = Pair(primary, standby)
    fleet = await make_fleet(world, directory, PLAN)
    try:
        recurring = await add_recurring(world)
        await fleet.start()
        await acknowledged(directory, 100)
        behind = time.time()
        if lag:
            line.swallow(forget=True)
            await acknowledged(directory, 50)
        await asyncio.to_thread(primary.stop, mode="immediate")
        await asyncio.to_thread(standby.promote)
        promoted = time.time()
        await acknowledged(directory, 100)
        await fleet.quieten()
        await stop_recurring(world, recurring)
        await drained(world, 60)
        rude = await fleet.dismiss()
        verdict = judge(world, directory, vanished=(behind - MOMENT, promoted) if lag else None)
    finally:
        await fleet.destroy()
    assert misdeeds(fleet, rude) == []
    return verdict, fleet


async def test_a_synchronous_standby_has_everything(
    primary: PostgresServer, tmp_path: Path
) -> None:
    async with following(primary) as (standby, line):
        make(primary)
        with psycopg.connect(primary.url, autocommit=True) as admin:
            admin.execute("alter system set synchronous_standby_names = '*'")
            admin.execute("select pg_reload_conf()")
        await asyncio.to_thread(standby.wait_streaming, "sync")
        with psycopg.connect(standby.url, autocommit=True) as admin:
            # Else the new primary would wait for a standby of its own.
            admin.execute("alter system set synchronous_standby_names = ''")
        verdict, fleet = await fail_over(primary, standby, line, tmp_path, lag=False)
    assert verdict.violations == []
    assert verdict.acknowledged >= 200
    assert fleet.told()["up"] == 3


async def test_an_asynchronous_standby_lacks_the_last_moments_and_nothing_else(
    primary: PostgresServer, tmp_path: Path
) -> None:
    async with following(primary) as (standby, line):
        make(primary)
        verdict, fleet = await fail_over(primary, standby, line, tmp_path, lag=True)
    assert verdict.violations == []
    assert verdict.vanished >= 50
    assert fleet.told()["up"] == 3


def make(primary: PostgresServer) -> None:
    repository = PostgresRepository(primary.url, clock=SystemClock())
    repository.upgrade()
    repository.close()
