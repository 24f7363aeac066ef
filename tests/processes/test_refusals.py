"""What cannot work is refused at start: the type of the error, its field, and a remedy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rota import Scheduler, WorkRegistry
from rota.errors import (
    InvalidArgument,
    MissingDriver,
    ReadOnlyDatabase,
    RotaError,
    SchemaTooNew,
    SchemaTooOld,
    StorageError,
    StorageUnavailable,
    UnsupportedUrl,
)
from tests.processes.fleet import PATIENCE, ROOT

#: Start a scheduler on the URL and tell the error; with a driver's import blocked, or as
#: another user (who may not read Python's own files, so all is imported before) if asked.
PROGRAM = """
import asyncio, os, sys
url, block, user = sys.argv[1:]
if block:
    sys.modules[block] = None
from rota import RotaError, Scheduler, WorkRegistry
if user:
    import concurrent.futures.thread, email.parser
    import rota.storage.sqlite, sqlalchemy.dialects.sqlite.pysqlite
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
try:
    asyncio.run(Scheduler(WorkRegistry(), url, start_timeout=0.2).start())
except RotaError as error:
    print(type(error).__name__, error.code, str(error), sep="|")
else:
    print("started")
"""

NOBODY = "65534"


def told_by_another_process(url: str, *, block: str = "", user: str = "") -> list[str]:
    """What starting on the URL raised there: its type, code and message."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, block, user],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=ROOT,
    )
    return answer.stdout.strip().split("|")


async def refusal(url: str, works: WorkRegistry, **options: object) -> RotaError:
    """What starting on the URL raises; the scheduler is not running afterwards."""
    scheduler = Scheduler(works, url, start_timeout=0.2, **options)  # type: ignore[arg-type]
    with pytest.raises(RotaError) as caught:
        await scheduler.start()
    assert not scheduler.running
    fact, semicolon, remedy = str(caught.value).rpartition("; ")
    assert semicolon
    assert len(fact) > 10
    assert len(remedy) > 10
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "mysql://anna:secret@db/rota",
        "rota.db",
        "postgresql+asyncpg://anna:secret@db/rota",
        "sqlite+aiosqlite:///rota.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///rota.db?mode=ro",
        "sqlite://anna:secret@host/rota.db",
        "postgresql://anna:secret@db:port/rota",
    ],
)
async def test_a_url_rota_does_not_know(url: str, works: WorkRegistry) -> None:
    error = await refusal(url, works)
    assert isinstance(error, UnsupportedUrl)
    assert error.field == "url"
    assert "secret" not in str(error)
    assert "sqlite:///" in str(error) or "postgresql://" in str(error) or "remove" in str(error)


async def test_a_server_nobody_answers_for(works: WorkRegistry) -> None:
    error = await refusal("postgresql://anna:secret@127.0.0.1:1/rota", works)
    assert isinstance(error, StorageUnavailable)
    assert "127.0.0.1" in str(error)
    assert "start_timeout=0.2 s" in str(error)
    assert "secret" not in str(error)


async def test_a_server_that_refuses_the_user_or_database(
    postgres_url: str, works: WorkRegistry
) -> None:
    error = await refusal(postgres_url.replace("/postgres?", "/nowhere?"), works)
    assert isinstance(error, StorageError)
    assert 'database "nowhere" does not exist' in str(error)


async def test_a_server_without_tables(
    postgres_url: str, empty_schema: str, works: WorkRegistry
) -> None:
    error = await refusal(postgres_url, works, schema=empty_schema)
    assert isinstance(error, SchemaTooOld)
    assert (error.found, error.needed) == (0, 1)
    assert "rota db upgrade --url postgresql://" in str(error)
    assert f"--schema {empty_schema}" in str(error)


async def test_a_server_with_tables_of_a_later_version(
    postgres_url: str, postgres_schema: str, works: WorkRegistry
) -> None:
    later = "values (99, 'later', now(), 98)"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'insert into "{postgres_schema}".rota_schema {later}')
        try:
            error = await refusal(postgres_url, works, schema=postgres_schema)
        finally:
            admin.execute(f'delete from "{postgres_schema}".rota_schema where version = 99')
    assert isinstance(error, SchemaTooNew)
    assert (error.found, error.needed) == (99, 1)
    assert "98" in str(error)


async def test_a_file_of_a_later_version(tmp_path: Path, works: WorkRegistry) -> None:
    path = tmp_path / "rota.db"
    async with Scheduler(works, f"sqlite:///{path}"):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("insert into rota_schema values (99, 'later', 0, 98)")
    connection.close()
    error = await refusal(f"sqlite:///{path}", works)
    assert isinstance(error, SchemaTooNew)
    assert (error.found, error.needed) == (99, 1)


async def test_a_schema_newer_but_compatible_is_no_obstacle(
    tmp_path: Path, works: WorkRegistry
) -> None:
    path = tmp_path / "rota.db"
    async with Scheduler(works, f"sqlite:///{path}"):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("insert into rota_schema values (2, 'later', 0, 1)")
    connection.close()
    async with Scheduler(works, f"sqlite:///{path}") as scheduler:
        assert scheduler.running


async def test_a_file_that_is_no_database(tmp_path: Path, works: WorkRegistry) -> None:
    path = tmp_path / "rota.db"
    path.write_text("Dear diary, " * 1000)
    error = await refusal(f"sqlite:///{path}", works)
    assert isinstance(error, StorageError)
    assert not isinstance(error, StorageUnavailable)
    assert "not an SQLite database" in str(error)
    assert path.read_text().startswith("Dear diary")


async def test_a_directory_and_a_missing_directory(tmp_path: Path, works: WorkRegistry) -> None:
    error = await refusal(f"sqlite:///{tmp_path}", works)
    assert isinstance(error, UnsupportedUrl)
    error = await refusal(f"sqlite:///{tmp_path}/nowhere/rota.db", works)
    assert isinstance(error, InvalidArgument)
    assert error.field == "url"
    assert "does not exist" in str(error)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory every user may read, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="rota-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, since root may write anywhere")
@pytest.mark.parametrize("what", ["file", "directory", "new file"])
async def test_a_file_that_cannot_be_written(
    open_directory: Path, works: WorkRegistry, what: str
) -> None:
    path = open_directory / "rota.db"
    if what != "new file":
        async with Scheduler(works, f"sqlite:///{path}"):
            pass
        path.chmod(0o644 if what == "file" else 0o666)
    if what == "file":
        open_directory.chmod(0o777)
        locks = path.with_name("rota.db-rota")
        locks.chmod(0o777)
        (locks / "queue.lock").chmod(0o666)
    kind, code, message = told_by_another_process(f"sqlite:///{path}", user=NOBODY)
    assert (kind, code) == (ReadOnlyDatabase.__name__, "read_only_database")
    assert "; let this user write" in message


def test_a_driver_that_is_not_installed() -> None:
    kind, code, message = told_by_another_process("postgresql://h/d", block="psycopg")
    assert (kind, code) == (MissingDriver.__name__, "missing_driver")
    assert message.endswith("run: pip install 'rota[postgres]'")
