"""Code of two steps, and a database that neither has touched."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from rota.storage.schema import ledger
from tests.processes.fleet import PATIENCE, ROOT, Fleet
from tests.rolling import steps
from tests.rolling.trees import Code, CodeHistory, fabricated


class Pair(NamedTuple):
    """The code before a step, and the code of the step."""

    old: Code
    new: Code


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> CodeHistory:
    """This repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("this code has no history here: it is no checkout")
    return CodeHistory(ROOT, tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="session")
def widening(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """This code, and code of a step that adds to every table."""
    return _pair(fabricated(tmp_path_factory.mktemp("widening"), steps.widened()))


@pytest.fixture(scope="session")
def breaking(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """This code, and code of a step that this code cannot work with."""
    return _pair(fabricated(tmp_path_factory.mktemp("breaking"), steps.widened(), breaking=True))


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """This code, and code of a step that fails."""
    return _pair(fabricated(tmp_path_factory.mktemp("broken"), steps.broken()))


@pytest.fixture(params=[step.version for step in ledger.STEPS if step.version > 1] + ["fabricated"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Each step there is, with the code that git has of before; and one that was made up."""
    if request.param == "fabricated":
        found: Pair = request.getfixturevalue("widening")
        return found
    history: CodeHistory = request.getfixturevalue("here")
    return Pair(history.at(request.param - 1), history.at(request.param))


class Site(NamedTuple):
    """A database without rota's tables, and the nodes on it."""

    fleet: Fleet

    @property
    def place(self) -> list[str]:
        """Where it is, as a command is told."""
        schema = self.fleet.schema
        return ["--url", self.fleet.url, *(["--schema", schema] if schema else [])]

    def start_command(self, code: Code, *words: str) -> subprocess.Popen[str]:
        """``rota`` of that code, at work."""
        return subprocess.Popen(
            [sys.executable, "-m", "rota.cli.main", *words],
            cwd=code.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, code: Code, *words: str, status: int = 0) -> str:
        """What ``rota`` of that code says about the database."""
        process = self.start_command(code, *words, *self.place)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, said
        return said

    def upgrade(self, code: Code) -> str:
        return self.command(code, "db", "upgrade")

    def columns(self) -> list[tuple[object, ...]]:
        """What there is, as the database describes it."""
        if self.fleet.schema is None:
            path = self.fleet.url.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path)) as connection:
                found = connection.execute("select name, sql from sqlite_master order by name")
                return [tuple(row) for row in found]
        with psycopg.connect(self.fleet.url) as connection:
            return connection.execute(
                "select table_name, column_name from information_schema.columns"
                " where table_schema = %s order by 1, 2",
                (self.fleet.schema,),
            ).fetchall()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """On SQLite and on PostgreSQL."""
    url, schema = f"sqlite:///{tmp_path / 'rota.db'}", None
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        schema = request.getfixturevalue("empty_schema")
    fleet = Fleet(url=url, schema=schema, directory=tmp_path)
    try:
        yield Site(fleet)
    finally:
        fleet.end()


def _pair(history: CodeHistory) -> Pair:
    newest = ledger.newest()
    return Pair(history.at(newest), history.at(newest + 1))
