"""A database that the commands of a test are about, and what is put into it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from rota import Scheduler, WorkRegistry
from rota.cli.main import run
from tests.conftest import Database

T = TypeVar("T")


class Place:
    """Runs commands on one database, in this process."""

    def __init__(self, database: Database, capsys: pytest.CaptureFixture[str]) -> None:
        self._database = database
        self._capsys = capsys
        self.works = WorkRegistry()
        self.works.register("ok")(_ok)
        self.works.register("boom", queue="mail")(_boom)
        asyncio.run(self._once(_nothing, queues=[]))

    @property
    def options(self) -> list[str]:
        """Where it is, as a command is told."""
        schema = self._database.options.get("schema")
        return ["--url", str(self._database.target), *(["--schema", schema] if schema else [])]

    def put(self, verb: Callable[[Scheduler], Awaitable[T]], **options: Any) -> T:
        """Do it with a scheduler that runs what it schedules."""
        return asyncio.run(self._once(verb, **options))

    async def _once(self, verb: Callable[[Scheduler], Awaitable[T]], **options: Any) -> T:
        async with self._database.scheduler(self.works, **options) as scheduler:
            return await verb(scheduler)

    def run(self, *words: str, status: int = 0) -> str:
        """The command's stdout."""
        found, out, err = self.all(*words)
        assert found == status, err
        return out

    def all(self, *words: str) -> tuple[int, str, str]:
        """Its exit status, stdout and stderr."""
        self._capsys.readouterr()
        status = run([*words, *self.options])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def json(self, *words: str, status: int = 0) -> Any:
        """What it prints as JSON."""
        return json.loads(self.run(*words, "--json", status=status))


@pytest.fixture
def place(durable: Database, capsys: pytest.CaptureFixture[str]) -> Place:
    """On both databases that last."""
    return Place(durable, capsys)


@pytest.fixture
def sqlite_place(
    make_database: Callable[..., Database], capsys: pytest.CaptureFixture[str]
) -> Place:
    """On SQLite alone."""
    from rota.core.clock import SystemClock

    return Place(make_database("sqlite", SystemClock()), capsys)


async def ended(scheduler: Scheduler, *works: str) -> list[str]:
    """Schedule these works, wait for their ends; the ids."""
    handles = [await scheduler.schedule(work) for work in works]
    for handle in handles:
        await handle.wait(timeout=20)
    return [handle.id for handle in handles]


async def _nothing(scheduler: Scheduler) -> None:
    pass


async def _ok() -> str:
    return "well"


async def _boom() -> None:
    raise ValueError("no way \x1b[2J")
