"""What is done to the members and their database: each fault by name, bounded in time."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psycopg

from rota.testing.postgres_server import PostgresServer
from tests.chaos.fleet import Fleet, Member
from tests.chaos.proxy import Proxy

#: Longer than the members' lease of 3 s.
LONGER = 4.5
#: So long that the others are sure of it, and take its tasks.
LONGEST = 6.5

Fault = Callable[[], Awaitable[None]]


class Track:
    """Faults that come one after another, each kind once before any comes again.

    ``counts`` says how often each was injected; ``failed`` what could not be.
    """

    def __init__(self, name: str, faults: Mapping[str, Fault], *, seed: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self._faults = faults
        self._random = random.Random(f"{seed}/{name}")

    async def run(self, until: float, *, gap: tuple[float, float], once: bool = False) -> None:
        """Inject until this moment of the loop's clock; a fault that has begun is ended.

        With ``once`` each kind comes exactly once, whatever the time.
        """
        if once:
            for kind in self._random.sample(list(self._faults), len(self._faults)):
                await self._inject(kind)
            return
        loop = asyncio.get_running_loop()
        waiting: list[str] = []
        while True:
            await asyncio.sleep(self._random.uniform(*gap))
            if loop.time() >= until:
                return
            if not self._faults:
                continue
            if not waiting:
                waiting = self._random.sample(list(self._faults), len(self._faults))
            await self._inject(waiting.pop())

    async def _inject(self, kind: str) -> None:
        try:
            await self._faults[kind]()
        except (OSError, psycopg.Error, sqlite3.Error) as error:
            self.failed.append(f"{kind}: {type(error).__name__}: {error}")
        else:
            self.counts[kind] += 1


class ProcessFaults:
    """Done to member processes."""

    def __init__(self, fleet: Fleet, *, seed: str) -> None:
        self._fleet = fleet
        self._random = random.Random(f"{seed}/processes")

    def all(self) -> dict[str, Fault]:
        return {
            "SIGKILL of a node": self.kill_node,
            "SIGKILL of a client": self.kill_client,
            "SIGSTOP past the lease": self.freeze,
            "GIL held past the lease": self.hold_gil,
            "event loop blocked": self.block_loop,
            "fork after start": self.fork,
        }

    async def kill_node(self) -> None:
        await self._kill(self._random.choice(self._fleet.nodes))

    async def kill_client(self) -> None:
        await self._kill(self._random.choice(self._fleet.clients))

    async def freeze(self) -> None:
        process = self._random.choice(self._fleet.nodes).process
        process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(LONGEST)
        finally:
            process.signal(signal.SIGCONT)

    async def hold_gil(self) -> None:
        self._random.choice(self._fleet.nodes).process.tell("hold_gil", seconds=LONGEST)
        await asyncio.sleep(LONGEST)

    async def block_loop(self) -> None:
        self._random.choice(self._fleet.nodes).process.tell("block_loop", seconds=LONGER)
        await asyncio.sleep(LONGER)

    async def fork(self) -> None:
        self._random.choice(self._fleet.nodes).process.tell("fork")

    async def _kill(self, member: Member) -> None:
        member.hurt = True
        try:
            await member.process.kill()
            await asyncio.sleep(self._random.choice([0.0, 0.0, 3.0]))
        finally:
            member.hurt = False
        await self._fleet.revive()


class LineFaults:
    """Done to the line between one member and PostgreSQL."""

    def __init__(self, proxies: list[Proxy], *, seed: str) -> None:
        self._proxies = proxies
        self._random = random.Random(f"{seed}/lines")

    def all(self) -> dict[str, Fault]:
        return {
            "line slow": self.slow,
            "line black, delivered late": self.late,
            "line black, never delivered": self.never,
            "cut as COMMIT was sent": self.cut_sent,
            "cut as COMMIT was answered": self.cut_answered,
        }

    async def slow(self) -> None:
        proxy = self._one()
        proxy.delay = self._random.uniform(0.02, 0.3)
        await asyncio.sleep(2.0)
        proxy.delay = 0.0

    async def late(self) -> None:
        await self._black(forget=False)

    async def never(self) -> None:
        await self._black(forget=True)

    async def cut_sent(self) -> None:
        await self._cut(answered=False)

    async def cut_answered(self) -> None:
        await self._cut(answered=True)

    async def _black(self, *, forget: bool) -> None:
        proxy = self._one()
        proxy.swallow(forget=forget)
        try:
            await asyncio.sleep(LONGER)
        finally:
            proxy.pass_on()

    async def _cut(self, *, answered: bool) -> None:
        """Everybody's next commit, several times, and until it has hit at least one."""
        what = "commits done, answer lost" if answered else "commits cut"
        before = self._hits(what)
        for n in range(20):
            if n >= 4 and self._hits(what) > before:
                break
            for proxy in self._proxies:
                proxy.cut_next_commit(answered=answered)
            await asyncio.sleep(0.4)
        for proxy in self._proxies:
            proxy.cut_nothing()

    def _hits(self, what: str) -> int:
        return sum(proxy.counts[what] for proxy in self._proxies)

    def _one(self) -> Proxy:
        return self._random.choice(self._proxies)


class ServerFaults:
    """Done to PostgreSQL itself; without a ``server`` of ours only what SQL can do."""

    def __init__(self, url: str, server: PostgresServer | None, *, seed: str) -> None:
        self._url = url
        self._server = server
        self._random = random.Random(f"{seed}/server")

    def all(self) -> dict[str, Fault]:
        known: dict[str, Fault] = {"pg_terminate_backend": self.terminate}
        if self._server is not None:
            known |= {
                "restart, immediate": self.restart_immediate,
                "restart, fast": self.restart_fast,
                "server away past the lease": self.away,
            }
        return known

    async def terminate(self) -> None:
        await asyncio.to_thread(self._terminate, self._random.uniform(0.2, 1.0))

    async def restart_fast(self) -> None:
        await self._restart("fast", 0.0)

    async def restart_immediate(self) -> None:
        await self._restart("immediate", 0.0)

    async def away(self) -> None:
        await self._restart("immediate", LONGER)

    def _terminate(self, share: float) -> None:
        with psycopg.connect(self._url, autocommit=True, application_name="chaos") as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'rota' and random() < %s",
                (share,),
            )

    async def _restart(self, mode: str, away: float) -> None:
        assert self._server is not None
        await asyncio.to_thread(self._server.stop, mode=mode)
        try:
            await asyncio.sleep(away)
        finally:
            await asyncio.to_thread(self._server.start)


class FileFaults:
    """Done to SQLite's file, and to the disk it is on if that is one of ours."""

    def __init__(self, database: Path, *, small_disk: bool) -> None:
        self._database = database
        self._small_disk = small_disk

    def all(self) -> dict[str, Fault]:
        known: dict[str, Fault] = {"a stranger holds the write lock": self.locked}
        return known | ({"disk full": self.disk_full} if self._small_disk else {})

    async def locked(self) -> None:
        """For longer than the lease."""
        connection = sqlite3.connect(
            self._database, timeout=10.0, isolation_level=None, check_same_thread=False
        )
        try:
            await asyncio.to_thread(connection.execute, "begin immediate")
            await asyncio.sleep(LONGER)
            connection.execute("rollback")
        finally:
            connection.close()

    async def disk_full(self) -> None:
        """Full to the last page, for longer than the lease."""
        ballast = self._database.with_name("ballast")
        try:
            await asyncio.to_thread(_fill, ballast)
            await asyncio.sleep(LONGER)
        finally:
            ballast.unlink(missing_ok=True)


def _fill(ballast: Path) -> None:
    """Take all room there is, in smaller and smaller pieces."""
    piece = 1 << 26
    with ballast.open("wb") as file:
        while piece >= 4096:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2
