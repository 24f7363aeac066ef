"""Bring the schema up to date beside nodes that work: DDL gives way, and is tried again."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from rota.core.clock import Clock
from rota.errors import StorageUnavailable
from rota.storage.postgres.address import shown
from rota.storage.postgres.connections import Connections
from rota.storage.schema import ledger

log: logging.Logger = logging.getLogger("rota.schema")

#: So long an upgrade tries to get at tables that others use.
PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_IN_THE_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_WHO = """select a.pid, coalesce(nullif(a.application_name, ''), 'no name'), c.relname,
    extract(epoch from clock_timestamp() - a.xact_start)::integer
  from pg_locks l
  join pg_class c on c.oid = l.relation
  join pg_namespace n on n.oid = c.relnamespace
  join pg_stat_activity a on a.pid = l.pid
  where l.granted and l.pid <> pg_backend_pid() and c.relname ~ '^rota_'
    and l.database = (select oid from pg_database where datname = current_database())
    and n.nspname = coalesce(%(schema)s::text, current_schema())
  order by a.xact_start limit 1"""


def upgrade(
    connections: Connections,
    *,
    clock: Clock,
    schema: str | None,
    patience: float = PATIENCE,
    steps: tuple[ledger.Step, ...] = ledger.STEPS,
) -> list[int]:
    """Apply what is missing; the versions applied.

    A table that another transaction holds is asked for again and again, for ``patience``
    seconds, so that nodes never wait behind us for longer than an instant. Raises
    ``StorageUnavailable``, naming who holds it; nothing is changed then.
    """
    until, pause = clock.monotonic() + patience, _FIRST_PAUSE
    with connections.unhurried() as conn:
        while True:
            try:
                return ledger.upgrade(conn, schema=schema, steps=steps)
            except DBAPIError as error:
                if not isinstance(error.orig, _IN_THE_WAY):
                    raise
                holder = _holder(conn, schema)
                if clock.monotonic() + pause > until:
                    raise StorageUnavailable(
                        f"the schema at {shown(connections.url)} was not changed in "
                        f"{patience:g} s: {holder}; end that transaction, then try again"
                    ) from error
            if pause == _FIRST_PAUSE:
                log.warning("the tables are in use, will go on trying: %s", holder)
            clock.wait(threading.Event(), pause)
            pause = min(_LONGEST_PAUSE, pause * 2)


def _holder(conn: sqlalchemy.Connection, schema: str | None) -> str:
    """Whose transaction on rota's tables is the oldest."""
    raw: Any = conn.connection.driver_connection
    row = raw.execute(_WHO, {"schema": schema}).fetchone()
    raw.rollback()
    if row is None:
        return "a transaction that has ended meanwhile held a table"
    pid, name, table, age = row
    return f"process {pid} ({name}) has held {table} in a transaction for {age or 0} s"
