"""The schema's ledger: which steps a database has had, which are due, and whether we fit."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, inspect, select

from rota.errors import InvalidName, SchemaTooNew, SchemaTooOld, StorageError
from rota.storage.schema import step_0001
from rota.storage.tables import Instant

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Advisory lock of an upgrade on PostgreSQL: "rota" in ASCII.
_UPGRADE_LOCK = 0x726F7461
#: DDL waits so long for each of its locks: whatever waits for an exclusive lock holds up
#: everybody behind it.
_GIVE_WAY = "set local lock_timeout = '100ms'"
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")

#: What a heartbeat reads along with its own row, for ``require``: two columns.
STANDING = (
    "(select max(version) from {s}rota_schema), (select max(compatible_from) from {s}rota_schema)"
)

_LEDGER = {
    "postgresql": "create table {s}rota_schema (version integer primary key, name text not null, "
    "applied_at timestamptz not null, compatible_from integer not null)",
    "sqlite": "create table rota_schema (version integer primary key, name text not null, "
    "applied_at integer not null, compatible_from integer not null)",
}


class Step(NamedTuple):
    """One numbered, additive change; ``compatible_from`` is the oldest code it still serves."""

    version: int
    name: str
    compatible_from: int
    ddl: dict[str, str]


def _step(module: ModuleType) -> Step:
    ddl = {"postgresql": module.POSTGRESQL, "sqlite": module.SQLITE}
    return Step(module.VERSION, module.NAME, module.COMPATIBLE_FROM, ddl)


#: Every step this code knows, in order.
STEPS: tuple[Step, ...] = (_step(step_0001),)


def newest(steps: tuple[Step, ...] = STEPS) -> int:
    """The step this code was written for."""
    return steps[-1].version


def current(conn: Connection, *, schema: str | None = None) -> int:
    """The newest step the database has had; 0 for an empty one."""
    return max((row[0] for row in _applied(conn, schema)), default=0)


def check(
    conn: Connection,
    *,
    url: str = "…",
    schema: str | None = None,
    steps: tuple[Step, ...] = STEPS,
) -> None:
    """Raise ``SchemaTooOld`` or ``SchemaTooNew`` unless this code can work with the database."""
    applied = _applied(conn, schema)
    found = max((row[0] for row in applied), default=0)
    require(found, max((row[1] for row in applied), default=0), url=url, schema=schema, steps=steps)


def require(
    found: int | None,
    oldest_code: int | None,
    *,
    url: str = "…",
    schema: str | None = None,
    steps: tuple[Step, ...] = STEPS,
) -> None:
    """As ``check``, of what was read: the newest step, and the oldest code all steps serve."""
    found, oldest_code, needed = found or 0, oldest_code or 0, newest(steps)
    if found < needed:
        what = f"is at step {found}" if found else "has no rota tables"
        option = f" --schema {schema}" if schema else ""
        raise SchemaTooOld(
            f"the database {what}, this version of rota needs step {needed}; "
            f"run: rota db upgrade --url {url}{option}",
            found=found,
            needed=needed,
        )
    if oldest_code > needed:
        raise SchemaTooNew(
            f"the database is at step {found}, which this version of rota (step {needed}) cannot "
            f"work with; install a version that knows step {oldest_code} or later",
            found=found,
            needed=needed,
        )


def upgrade(
    conn: Connection, *, schema: str | None = None, steps: tuple[Step, ...] = STEPS
) -> list[int]:
    """Apply what is missing, all in one transaction; the versions applied.

    Two at once are safe: the second waits, then finds nothing to do. ``conn`` must be
    fresh, without a transaction; it is left without one. On PostgreSQL a table that others
    use for longer than an instant raises the driver's error, for the caller to try again.
    """
    if conn.dialect.name == "postgresql":
        conn = conn.execution_options(isolation_level="READ COMMITTED")
        with conn.begin():
            conn.exec_driver_sql("set local lock_timeout = 0")
            conn.exec_driver_sql(f"select pg_advisory_xact_lock({_UPGRADE_LOCK})")
            conn.exec_driver_sql(_GIVE_WAY)
            return _apply(conn, schema, steps)
    # The driver is in autocommit: BEGIN is ours, and takes the writer's lock before reading.
    conn.exec_driver_sql("begin immediate")
    try:
        applied = _apply(conn, schema, steps)
        conn.exec_driver_sql("commit")
    except BaseException:
        conn.exec_driver_sql("rollback")
        raise
    return applied


def statements(
    start: int,
    stop: int,
    dialect: str,
    schema: str | None = None,
    steps: tuple[Step, ...] = STEPS,
) -> list[str]:
    """The SQL from step ``start`` (0: an empty database) to ``stop``, ledger included.

    One transaction is to run them all.
    """
    if dialect not in _LEDGER:
        raise StorageError(f"rota has no schema for {dialect}; use {' or '.join(_LEDGER)}")
    result = list(_foundation(dialect, schema)) if start == 0 else []
    for step in steps:
        if start < step.version <= stop:
            result += _ddl(step, dialect, schema)
            result.append(_entry(step, dialect, schema))
    return result


def prefix(schema: str | None) -> str:
    """The schema, quoted, with a dot; empty without one. Raises ``InvalidName``."""
    if schema is None:
        return ""
    if not _SCHEMA_NAME.fullmatch(schema):
        raise InvalidName(
            f"schema {schema!r} is not usable; use 1 to 63 letters, digits, _ or $, "
            "beginning with a letter or _",
            field="schema",
        )
    return f'"{schema}".'


def _applied(conn: Connection, schema: str | None) -> list[tuple[int, int]]:
    ledger = _table(schema)
    if not inspect(conn).has_table(ledger.name, schema=schema):
        return []
    rows = conn.execute(select(ledger.c.version, ledger.c.compatible_from))
    return [(row.version, row.compatible_from) for row in rows]


def _apply(conn: Connection, schema: str | None, steps: tuple[Step, ...]) -> list[int]:
    found, dialect = current(conn, schema=schema), conn.dialect.name
    if found == 0:
        for statement in _foundation(dialect, schema):
            conn.exec_driver_sql(statement)
    due = [step for step in steps if step.version > found]
    for step in due:
        for statement in _ddl(step, dialect, schema):
            conn.exec_driver_sql(statement)
        conn.execute(
            insert(_table(schema)).values(
                version=step.version,
                name=step.name,
                applied_at=datetime.now(UTC),
                compatible_from=step.compatible_from,
            )
        )
    return [step.version for step in due]


def _foundation(dialect: str, schema: str | None) -> Iterator[str]:
    if schema is not None and dialect == "postgresql":
        yield f"create schema if not exists {prefix(schema)[:-1]}"
    yield _LEDGER[dialect].format(s=prefix(schema))


def _ddl(step: Step, dialect: str, schema: str | None) -> list[str]:
    script = step.ddl[dialect].format(s=prefix(schema))
    return [part.strip() for part in script.split(";\n") if part.strip()]


def _entry(step: Step, dialect: str, schema: str | None) -> str:
    now = "now()" if dialect == "postgresql" else "cast(strftime('%s', 'now') as integer) * 1000000"
    return (
        f"insert into {prefix(schema)}rota_schema (version, name, applied_at, compatible_from) "
        f"values ({step.version}, '{step.name}', {now}, {step.compatible_from})"
    )


def _table(schema: str | None) -> Table:
    return Table(
        "rota_schema",
        MetaData(schema=schema),
        Column("version", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("applied_at", Instant, nullable=False),
        Column("compatible_from", Integer, nullable=False),
    )
