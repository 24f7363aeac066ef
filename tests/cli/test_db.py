"""``rota db``: the ledger on both databases."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import psycopg
import pytest

from rota.cli import exits
from rota.cli.main import run
from rota.core.clock import SystemClock
from rota.storage.open import open_repository
from rota.storage.schema import ledger
from tests.cli.command import rota, sentence


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'rota.db'}"


def test_status_of_a_missing_file_does_not_make_it(file_url: str, tmp_path: Path) -> None:
    done = rota("db", "status", "--url", file_url)
    assert done.returncode == exits.NOT_FOUND
    assert f"rota db upgrade --url {file_url}" in sentence(done)
    assert list(tmp_path.iterdir()) == []


def test_upgrade_makes_the_file_then_has_nothing_to_do(
    file_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step.version for step in ledger.STEPS]
    assert run(["db", "upgrade", "--url", file_url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"applied": steps, "version": steps[-1]}
    assert run(["db", "upgrade", "--url", file_url]) == 0
    assert capsys.readouterr().out.startswith("nothing to do")
    assert run(["db", "status", "--url", file_url, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["found"], answer["needed"], answer["fits"]) == (steps[-1], steps[-1], True)


def test_status_reads_the_url_from_the_environment(
    file_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTA_URL", file_url)
    assert run(["db", "upgrade"]) == 0
    assert run(["db", "status"]) == 0
    assert "fits" in capsys.readouterr().out


def test_status_of_a_database_without_tables_says_what_to_do(
    file_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(tmp_path / "rota.db") as other:
        other.execute("create table mine (a)")
    other.close()
    assert run(["db", "status", "--url", file_url]) == exits.UNFIT
    out = capsys.readouterr().out
    assert out.startswith("found   0\n")
    assert f"rota db upgrade --url {file_url}" in out


def test_status_of_a_database_from_the_future(
    file_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["db", "upgrade", "--url", file_url])
    capsys.readouterr()
    with sqlite3.connect(tmp_path / "rota.db") as other:
        other.execute("insert into rota_schema values (99, 'later', 0, 99)")
    other.close()
    assert run(["db", "status", "--url", file_url, "--json"]) == exits.UNFIT
    answer = json.loads(capsys.readouterr().out)
    assert (answer["found"], answer["fits"]) == (99, False)
    assert "99" in answer["problem"]


def test_a_file_that_is_no_database(
    file_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rota.db").write_text("Dear diary, " * 500)
    assert run(["db", "status", "--url", file_url]) == exits.FAILED
    captured = capsys.readouterr()
    assert "not an SQLite database" in captured.err
    assert captured.out == ""


def test_the_printed_sql_makes_the_schema(
    file_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["db", "sql", "--url", file_url]) == 0
    script = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    with sqlite3.connect(tmp_path / "rota.db") as other:
        other.executescript(script)
    other.close()
    assert run(["db", "status", "--url", file_url]) == 0
    assert run(["db", "upgrade", "--url", file_url]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_sql_of_steps_that_do_not_exist(file_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "sql", "--url", file_url, "--to", "99"]) == exits.USAGE
    assert "99" in capsys.readouterr().err


@pytest.mark.postgres
def test_postgres_upgrade_and_status(
    postgres_url: str, empty_schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", postgres_url, "--schema", empty_schema]
    assert run(["db", "status", *place]) == exits.UNFIT
    assert f"--schema {empty_schema}" in capsys.readouterr().out
    assert run(["db", "upgrade", *place]) == 0
    assert run(["db", "status", *place]) == 0
    repository = open_repository(postgres_url, clock=SystemClock(), schema=empty_schema)
    repository.open()
    assert repository.nodes() == []
    repository.close()


@pytest.mark.postgres
def test_postgres_printed_sql_makes_the_schema(
    postgres_url: str, empty_schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", postgres_url, "--schema", empty_schema]
    assert run(["db", "sql", *place]) == 0
    script = capsys.readouterr().out
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(script)
    assert run(["db", "status", *place]) == 0


@pytest.mark.postgres
def test_postgres_schema_that_cannot_be_named(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(["db", "upgrade", "--url", postgres_url, "--schema", 'a"b'])
    assert done == exits.USAGE
    assert "schema" in capsys.readouterr().err
