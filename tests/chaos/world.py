"""The database of one chaos run: made, reached by each member on a line of its own, read."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from rota.core.clock import SystemClock
from rota.core.context import Token
from rota.core.task import Stored
from rota.storage.postgres import PostgresRepository
from rota.storage.sqlite import SQLiteRepository
from rota.testing.postgres_server import PostgresServer
from tests.chaos.proxy import Proxy

#: Room for the database of a long run, and little enough to be filled.
DISK = "512m"
#: What a proxy can read along.
PLAIN = "sslmode=disable&gssencmode=disable"


class Standing(NamedTuple):
    """How an unfinished task stands; ``run_in`` counts from the moment of looking."""

    task: str
    work: str
    state: str
    run_in: float
    node: int | None
    batch: int | None
    node_lives: bool
    leased: bool

    def __str__(self) -> str:
        holder = ""
        if self.node is not None:
            node = "living" if self.node_lives else "dead"
            lease = "a lease" if self.leased else "no lease"
            holder = f", held by {node} node {self.node}, batch {self.batch}, with {lease}"
        return f"{self.work} {self.state}, due in {self.run_in:.1f} s{holder}"


class Ending(NamedTuple):
    """What the database says of a task that has ended; ``token`` of the attempt that said so."""

    task: str
    work: str
    state: int
    attempt: int
    token: Token | None
    at: float
    reason: str | None


class Turn(NamedTuple):
    """An attempt that ended without ending its task."""

    task: str
    outcome: str
    token: Token | None
    at: float


class Definition(NamedTuple):
    """How far a recurring task has come; times in seconds since 1970."""

    id: str
    next_fire_at: float


class Fired(NamedTuple):
    """One decision about a fire time."""

    recurring: str
    fire_at: float
    decision: str
    n: int


class ChildRow(NamedTuple):
    """A child of a recurring task."""

    task: str
    recurring: str
    fire_at: float


class World:
    """One database; subclasses say which. ``url`` is the way of the run itself, past proxies."""

    url: str
    missing: str = ""  #: which faults cannot be injected, and why

    async def url_for(self, member: str) -> str:
        """The URL a member is given."""
        del member
        return self.url

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    @property
    def seconds(self) -> str:
        """SQL that makes seconds of a stored instant, written ``{}``."""
        raise NotImplementedError

    def make(self) -> None:
        """Make rota's tables."""
        raise NotImplementedError

    def endings(self) -> list[Ending]:
        at = self.seconds.format("finished_at")
        found = []
        for table in ("rota_done", "rota_failed"):
            rows = self.rows(
                f"select id, work, state, attempt, node, batch, {at}, reason from {table}"
            )
            found += [
                Ending(str(id_), work, state, attempt, _token(node, batch), float(at), reason)
                for id_, work, state, attempt, node, batch, at, reason in rows
            ]
        return found

    def turns(self) -> list[Turn]:
        at = self.seconds.format("finished_at")
        rows = self.rows(f"select id, outcome, node, batch, {at} from rota_attempt")
        return [
            Turn(str(id_), outcome, _token(node, batch), float(at))
            for id_, outcome, node, batch, at in rows
        ]

    def unfinished(self) -> list[str]:
        return [str(row[0]) for row in self.rows("select id from rota_task")]

    def standing(self) -> list[Standing]:
        """How each unfinished task stands now: whether somebody is going to act on it."""
        at, now = self.seconds.format("t.run_at"), time.time()
        rows = self.rows(
            f"select t.id, t.work, t.state, {at}, t.node, t.batch, "
            "(select count(*) from rota_node n where n.id = t.node), "
            "(select count(*) from rota_lease l where l.node = t.node and l.batch = t.batch) "
            "from rota_task t"
        )
        return [
            Standing(
                str(id_),
                work,
                Stored(state).name.lower(),
                float(run_at) - now,
                node,
                batch,
                node_lives=bool(lives),
                leased=bool(leased),
            )
            for id_, work, state, run_at, node, batch, lives, leased in rows
        ]

    def waiting_for_nothing(self) -> int:
        """Leases that hold no task any more."""
        return int(self.rows("select count(*) from rota_lease")[0][0])

    def definitions(self) -> list[Definition]:
        at = self.seconds.format("next_fire_at")
        rows = self.rows(f"select id, {at} from rota_recurring")
        return [Definition(str(id_), float(at)) for id_, at in rows]

    def fired(self) -> list[Fired]:
        at = self.seconds.format("fire_at")
        rows = self.rows(f"select recurring, {at}, decision, n from rota_decision")
        return [Fired(str(id_), float(at), str(what), int(n)) for id_, at, what, n in rows]

    def children(self) -> list[ChildRow]:
        at = self.seconds.format("fire_at")
        rows = self.rows(f"select id, recurring, {at} from rota_body where recurring is not null")
        return [ChildRow(str(id_), str(recurring), float(at)) for id_, recurring, at in rows]

    async def close(self) -> None:
        """Leave nothing behind."""


class SQLiteWorld(World):
    """A file on a small disk of ours, where mounting one is permitted, else where it may be."""

    seconds = "{} / 1000000.0"

    def __init__(self, directory: Path) -> None:
        self._disk = directory / "disk"
        self._disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "rota-chaos", str(self._disk)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.small_disk = mounted.returncode == 0
        if not self.small_disk:
            self.missing = f"disk full: no small disk could be mounted ({mounted.stderr.strip()})"
        self.path = self._disk / "rota.db"
        self.url = f"sqlite:///{self.path}"

    def make(self) -> None:
        repository = SQLiteRepository(self.url, clock=SystemClock())
        repository.open()
        repository.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=10.0)) as connection:
            return connection.execute(sql).fetchall()

    async def close(self) -> None:
        if self.small_disk:
            subprocess.run(["umount", "--lazy", str(self._disk)], check=True)


class PostgresWorld(World):
    """A server of ours, or a given one; each member has a proxy of its own in between."""

    seconds = "extract(epoch from {})::float8"

    def __init__(self, url: str | None = None) -> None:
        self.server: PostgresServer | None = None
        self.proxies: dict[str, Proxy] = {}
        if url is None:
            self.server = PostgresServer(settings={"max_connections": "300"})
            self.server.start()
            url = self.server.tcp_url
        else:
            self.missing = "restarts: the server is not ours"
        self.url = f"{url}{'&' if '?' in url else '?'}{PLAIN}"

    async def url_for(self, member: str) -> str:
        with psycopg.connect(self.url) as connection:
            info = connection.info
            user, database, host, port = info.user, info.dbname, info.host, info.port
            password = f":{info.password}" if info.password else ""
        proxy = Proxy(port, host=host)
        self.proxies[member] = await proxy.start()
        return f"postgresql://{user}{password}@127.0.0.1:{proxy.port}/{database}?{PLAIN}"

    def make(self) -> None:
        repository = PostgresRepository(self.url, clock=SystemClock())
        repository.upgrade()
        repository.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, application_name="chaos") as connection:
            return connection.execute(sql).fetchall()

    async def close(self) -> None:
        for proxy in self.proxies.values():
            await proxy.close()
        if self.server is not None:
            self.server.remove()


@contextmanager
def scratch(kept: Path | None = None) -> Iterator[Path]:
    """A directory for one run, deleted afterwards unless it is to be kept."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    made = Path(tempfile.mkdtemp(prefix="rota-chaos-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _token(node: int | None, batch: int | None) -> Token | None:
    return None if node is None or batch is None else Token(node, batch)
