"""The tables as described are the tables as made, and the ledger knows what is due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.pool import NullPool

from rota.errors import InvalidName, SchemaTooNew, SchemaTooOld, StorageError
from rota.storage.schema import ledger
from rota.storage.tables import Tables

ADDED = ledger.Step(2, "added", 1, {"sqlite": "create table rota_more (id integer);\n"})
BROKEN = ledger.Step(2, "broken", 1, {"sqlite": "create table rota_x (id integer);\nnonsense;\n"})
BREAKING = ledger.Step(2, "breaking", 2, {"sqlite": "create table rota_more (id integer);\n"})


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(
        f"sqlite:///{tmp_path}/a.db", poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        yield connection


def master(conn: Connection) -> list[tuple[object, ...]]:
    rows = conn.exec_driver_sql("select type, name, sql from sqlite_master order by name")
    return [tuple(row) for row in rows]


def test_described_tables_have_the_columns_that_are_made(conn: Connection) -> None:
    ledger.upgrade(conn)
    tables = Tables.describe()
    described = [getattr(tables, field.name) for field in fields(tables)]
    made = {name for name in inspect(conn).get_table_names() if name != "rota_schema"}
    assert made == {table.name for table in described}
    for table in described:
        columns = inspect(conn).get_columns(table.name)
        assert [column.name for column in table.columns] == [one["name"] for one in columns]
        for column, one in zip(table.columns, columns, strict=True):
            if not one["primary_key"]:
                assert column.nullable == one["nullable"], f"{table.name}.{column.name}"


def test_an_upgrade_is_done_once(conn: Connection) -> None:
    assert ledger.current(conn) == 0
    assert ledger.upgrade(conn) == [1]
    assert ledger.upgrade(conn) == []
    assert ledger.current(conn) == 1
    ledger.check(conn)


def test_an_empty_database_is_refused_with_the_command_to_run(conn: Connection) -> None:
    with pytest.raises(SchemaTooOld, match=r"no rota tables.*rota db upgrade --url x") as met:
        ledger.check(conn, url="x")
    assert (met.value.found, met.value.needed) == (0, 1)


def test_an_older_database_is_refused_until_it_is_upgraded(conn: Connection) -> None:
    ledger.upgrade(conn)
    steps = (*ledger.STEPS, ADDED)
    with pytest.raises(SchemaTooOld, match="at step 1"):
        ledger.check(conn, steps=steps)
    assert ledger.upgrade(conn, steps=steps) == [2]
    ledger.check(conn, steps=steps)


def test_older_code_goes_on_with_an_additive_step_and_stops_at_a_breaking_one(
    conn: Connection,
) -> None:
    ledger.upgrade(conn, steps=(*ledger.STEPS, ADDED))
    ledger.check(conn)
    assert ledger.upgrade(conn) == []
    conn.exec_driver_sql("update rota_schema set compatible_from = 2 where version = 2")
    with pytest.raises(SchemaTooNew, match="step 2 or later") as met:
        ledger.check(conn)
    assert (met.value.found, met.value.needed) == (2, 1)


def test_a_step_that_fails_leaves_nothing_behind(conn: Connection) -> None:
    ledger.upgrade(conn)
    before = master(conn)
    with pytest.raises(Exception, match="nonsense"):
        ledger.upgrade(conn, steps=(*ledger.STEPS, BROKEN))
    assert master(conn) == before
    assert ledger.current(conn) == 1


def test_exported_statements_make_what_an_upgrade_makes(conn: Connection, tmp_path: Path) -> None:
    steps = (*ledger.STEPS, BREAKING)
    ledger.upgrade(conn, steps=steps)
    other = sqlite3.connect(tmp_path / "b.db")
    for statement in ledger.statements(0, 2, "sqlite", steps=steps):
        other.execute(statement)
    made = other.execute("select type, name, sql from sqlite_master order by name").fetchall()
    entries = other.execute("select version, name, compatible_from from rota_schema").fetchall()
    other.close()
    assert made == master(conn)
    assert entries == [(1, "layout", 1), (2, "breaking", 2)]
    (made_later, _) = ledger.statements(1, 2, "sqlite", steps=steps)
    assert made_later == "create table rota_more (id integer)"
    assert ledger.statements(2, 2, "sqlite", steps=steps) == []


def test_exported_statements_for_postgresql_name_the_schema() -> None:
    made = ledger.statements(0, 1, "postgresql", "my_schema")
    assert made[0] == 'create schema if not exists "my_schema"'
    assert made[1].startswith('create table "my_schema".rota_schema')
    assert all("{s}" not in statement for statement in made)
    assert any(statement.startswith('create table "my_schema".rota_task ') for statement in made)
    assert made[-1].startswith('insert into "my_schema".rota_schema')


def test_a_schema_name_cannot_carry_sql() -> None:
    with pytest.raises(InvalidName):
        ledger.statements(0, 1, "postgresql", 'a"; drop table x; --')


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(StorageError, match="mysql"):
        ledger.statements(0, 1, "mysql")
