"""What a PostgreSQL server says of its state, as far as it concerns rota's tables."""

from __future__ import annotations

from collections.abc import Iterator

from rota.core.audit import Finding, Severity
from rota.storage.postgres.connections import Session
from rota.storage.schema import ledger

#: From here on dead rows pile up where tasks are claimed.
_OLD_SECONDS, _OLD_XIDS = 300.0, 1_000_000
_DEAD_ROWS = 50_000

_PINS = """select * from (
  select 'the transaction of process ' || a.pid || ' (' || coalesce(a.usename, '?') || ', '
      || coalesce(nullif(a.application_name, ''), 'no name') || ', '
      || coalesce(a.state, '?') || ')',
    greatest(age(a.backend_xmin), age(a.backend_xid))::bigint,
    extract(epoch from clock_timestamp() - a.xact_start)::float8,
    'end it: select pg_terminate_backend(' || a.pid || ')'
  from pg_stat_activity a
  where (a.backend_xmin is not null or a.backend_xid is not null) and a.pid <> pg_backend_pid()
    and (a.datname is null or a.datname = current_database())
  union all
  select 'the prepared transaction ' || quote_literal(p.gid), age(p.transaction)::bigint,
    extract(epoch from clock_timestamp() - p.prepared)::float8,
    'finish it: commit prepared or rollback prepared ' || quote_literal(p.gid)
  from pg_prepared_xacts p
  union all
  select 'the replication slot ' || quote_literal(s.slot_name),
    greatest(age(s.xmin), age(s.catalog_xmin))::bigint, null::float8,
    'let its standby catch up, or drop it: select pg_drop_replication_slot('
      || quote_literal(s.slot_name) || ')'
  from pg_replication_slots s where s.xmin is not null or s.catalog_xmin is not null
) pins(who, xids, seconds, remedy)
where seconds > %(seconds)s::float8 or xids > %(xids)s::bigint
order by xids desc nulls last limit 10"""
_VACUUM = """select t.relname::text, t.n_live_tup, t.n_dead_tup,
    coalesce(to_char(greatest(t.last_autovacuum, t.last_vacuum) at time zone 'UTC',
      'YYYY-MM-DD HH24:MI'), 'never')
  from pg_stat_user_tables t
  where t.schemaname = coalesce(%(schema)s::text, current_schema()) and t.relname ~ '^rota_'
    and t.n_dead_tup > %(dead)s::bigint and t.n_dead_tup > t.n_live_tup
  order by t.n_dead_tup desc limit 10"""
# Behind a pooler no node holds a session lock, nor does any listen.
_EARS = """select
  (select count(*) from {s}rota_node n
   where n.session_lock and n.lease_until > now() + make_interval(secs => %(offset)s)),
  (select count(*) from pg_stat_activity a
   where a.datname = current_database() and a.application_name = 'rota'
     and (a.query ~* '^\\s*listen rota_' or a.query ~* '^\\s*select pg_notify\\('))"""


def findings(session: Session, *, schema: str | None) -> list[Finding]:
    """Facts first, then what is wrong."""
    return [
        Finding(
            kind="schema",
            severity=Severity.NOTE,
            detail=f"the schema is at step {ledger.current(session.conn, schema=schema)}",
        ),
        *_pins(session),
        *_vacuum(session, schema),
        *_ears(session, schema),
    ]


def _pins(session: Session) -> Iterator[Finding]:
    """Who keeps rows that were deleted from being removed."""
    rows = session.rows(_PINS, seconds=_OLD_SECONDS, xids=_OLD_XIDS)
    for who, xids, seconds, remedy in rows:
        age = "" if seconds is None else f", {seconds:.0f} s old,"
        yield Finding(
            kind="pinned-xmin",
            severity=Severity.WARNING,
            detail=f"{who}{age} holds back vacuum by {xids or 0:,} transactions",
            remedy=remedy,
        )


def _vacuum(session: Session, schema: str | None) -> Iterator[Finding]:
    for table, live, dead, last in session.rows(_VACUUM, schema=schema, dead=_DEAD_ROWS):
        yield Finding(
            kind="vacuum-lag",
            severity=Severity.WARNING,
            detail=f"{table} has {dead:,} dead rows beside {live:,}; last vacuum: {last}",
            remedy=f"look for what pins them, or run: vacuum {table}",
        )


def _ears(session: Session, schema: str | None) -> Iterator[Finding]:
    """By numbers: a listening connection does not say whose it is."""
    ((nodes, ears),) = session.rows(_EARS.format(s=ledger.prefix(schema)))
    if ears < nodes:
        yield Finding(
            kind="dead-listener",
            severity=Severity.WARNING,
            detail=f"{nodes} nodes live and {ears} connections listen; who does not hear polls",
            remedy="look for what cuts idle connections; nodes connect anew within 5 s",
        )
