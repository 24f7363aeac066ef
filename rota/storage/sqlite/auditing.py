"""Audits: the SQLite repository's ``AuditStore``, and what the file says of its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from rota.core.audit import Finding, Place, Severity, Stretch, Suspect, Walk
from rota.storage.schema import ledger
from rota.storage.sqlite.desk import Desk
from rota.storage.verbs import auditing

#: Several times what a checkpoint leaves: a reader keeps it from being reused.
_WAL_LIMIT = 64 * 1024 * 1024
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class SQLiteAuditing:
    """Looks are reads; mending is one act of the writer."""

    _desk: Desk

    def inspect(self, walk: Walk, after: Place | None, limit: int) -> Stretch:
        with self._desk.reading() as conn:
            return auditing.inspect(conn, self._desk.tables, walk, after, limit)

    def inspect_again(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        with self._desk.reading() as conn:
            return auditing.inspect_again(conn, self._desk.tables, suspects)

    def mend(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        if not suspects:
            return []
        return self._desk.write(lambda conn: auditing.mend(conn, self._desk.tables, suspects))

    def condition(self, *, deep: bool = False) -> list[Finding]:
        with self._desk.reading() as conn:
            found = [_schema(conn), _journal(conn), _synchronous(conn)]
            found += _log(self._desk.path)
            found += _damage(conn) if deep else []
            found += _lock_files(conn, self._desk)
        return found


def _schema(conn: Connection) -> Finding:
    return Finding(
        kind="schema",
        severity=Severity.NOTE,
        detail=f"the schema is at step {ledger.current(conn)}",
    )


def _journal(conn: Connection) -> Finding:
    mode = str(conn.exec_driver_sql("pragma journal_mode").scalar())
    return Finding(
        kind="journal-mode",
        severity=Severity.NOTE if mode == "wal" else Severity.ERROR,
        detail=f"the journal mode is {mode}",
        remedy="" if mode == "wal" else "use a local disk that this user may write",
    )


def _synchronous(conn: Connection) -> Finding:
    level = int(conn.exec_driver_sql("pragma synchronous").scalar() or 0)
    return Finding(
        kind="synchronous",
        severity=Severity.NOTE,
        detail=f"this connection writes with synchronous={_SYNCHRONOUS[level]}",
    )


def _log(path: Path) -> Iterator[Finding]:
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    long = size > _WAL_LIMIT
    yield Finding(
        kind="write-ahead-log",
        severity=Severity.WARNING if long else Severity.NOTE,
        detail=f"{log.name} has {size:,} bytes",
        remedy="end whatever reads the file in one long transaction" if long else "",
    )


def _lock_files(conn: Connection, desk: Desk) -> Iterator[Finding]:
    known = {f"node-{node}.lock" for node in conn.execute(select(desk.tables.node.c.id)).scalars()}
    files = desk.path.with_name(f"{desk.path.name}-rota").glob("node-*.lock")
    left = [file.name for file in files if file.name not in known]
    yield Finding(
        kind="lock-files",
        severity=Severity.NOTE,
        detail=f"{len(left)} lock files of nodes that are not there (tidying removes them)",
    )


def _damage(conn: Connection) -> Iterator[Finding]:
    told = [row[0] for row in conn.exec_driver_sql("pragma quick_check(20)")]
    whole = told == ["ok"]
    yield Finding(
        kind="integrity",
        severity=Severity.NOTE if whole else Severity.ERROR,
        detail="the file is whole" if whole else "; ".join(told),
        remedy="" if whole else "restore it from a backup, or repair it with sqlite3 .recover",
    )
