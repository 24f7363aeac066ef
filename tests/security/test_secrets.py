"""A password in a URL stays there: no log line, error, repr or traceback shows it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy

from rota import BackgroundScheduler, Scheduler, WorkRegistry
from rota.cli import main as entry
from rota.core.clock import SystemClock
from rota.errors import RotaError
from rota.storage.open import open_repository

SECRET = "hunter2-%40-geheim"
PLAIN = "hunter2-@-geheim"
#: Port 1: nobody answers there; the others are refused before anybody is asked.
URLS = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/name",
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/name?connect_timeout=2",
    f"postgresql://127.0.0.1:1/name?user=me&password={SECRET}",
    f"postgresql+asyncpg://me:{SECRET}@127.0.0.1:1/name",
    f"postgresql://127.0.0.1:1/name?sslpassword={SECRET}",
    f"postgresql://127.0.0.1:1,127.0.0.2:1/name?user=me&password={SECRET}&oauth_client_secret={SECRET}",
    f"mysql://me:{SECRET}@127.0.0.1/name",
    f"mysql://127.0.0.1/name?password={SECRET}",
    f"postgres://me:{SECRET}@[::1:1/name",
]


def shown(error: BaseException) -> str:
    """Everything a log would print of it, causes and contexts, too."""
    return "".join(traceback.format_exception(error))


def clean(text: str) -> None:
    for secret in (SECRET, PLAIN, "hunter2", "geheim"):
        assert secret not in text


async def asynchronous(url: str) -> str:
    scheduler = Scheduler(WorkRegistry(), url, start_timeout=0.05)
    said = repr(scheduler)
    try:
        await scheduler.start()
    except RotaError as error:
        return said + shown(error)
    raise AssertionError("nobody is there")


async def blocking(url: str) -> str:
    scheduler = BackgroundScheduler(WorkRegistry(), url, start_timeout=0.05)
    said = repr(scheduler)
    try:
        scheduler.start()
    except RotaError as error:
        return said + shown(error)
    raise AssertionError("nobody is there")


async def repository(url: str) -> str:
    try:
        store = open_repository(url, clock=SystemClock())
    except RotaError as error:
        return shown(error)
    parts: list[Any] = [store, *vars(store).values()]
    said = "".join(map(repr, parts))
    try:
        store.open()
    except RotaError as error:
        return said + shown(error)
    raise AssertionError("nobody is there")


@pytest.mark.parametrize("path", [asynchronous, blocking, repository])
@pytest.mark.parametrize("url", URLS, ids=lambda url: url.replace(SECRET, "…"))
async def test_a_connection_that_fails_shows_no_password(
    url: str, path: Callable[[str], Awaitable[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    try:
        said = await path(url)
    except RotaError as error:
        said = shown(error)
    assert said
    clean(said)
    clean(caplog.text)


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.replace(SECRET, "…"))
def test_the_command_line_shows_no_password(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for command in (["doctor"], ["db", "status"], ["db", "upgrade"], ["nodes"], ["demo"]):
        assert entry.run([*command, "--url", url]) != 0
    told = capfd.readouterr()
    assert told.err
    clean(told.out + told.err + caplog.text)


@pytest.mark.postgres
async def test_a_database_that_works_logs_no_password(
    postgres_url: str, postgres_schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = sqlalchemy.make_url(postgres_url)
    url = given.set(password=PLAIN).render_as_string(hide_password=False)
    works = WorkRegistry()

    @works.register("demo")
    async def demo() -> None: ...

    async with Scheduler(works, url, schema=postgres_schema) as scheduler:
        handle = await scheduler.schedule("demo")
        await handle.wait(timeout=20)
        clean(repr(scheduler) + repr(handle) + repr(await scheduler.health()))
    clean(caplog.text)
