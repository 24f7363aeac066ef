"""Keep the house: expiry, chores, partitions ahead, retention, folded counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import psycopg

from rota.storage.postgres.arrays import uuids
from rota.storage.postgres.connections import Connections, Session
from rota.storage.postgres.feeding import told

#: Days for which partitions stand ready, today included.
AHEAD = 8
CHUNK = 2000
_CHANGES_DAYS = 7
_DECISIONS_DAYS = 30
_NIL = "00000000-0000-0000-0000-000000000000"
#: DDL waits this long for its lock and is otherwise left to the next time: whatever waits
#: for an exclusive lock holds up everybody behind it.
_PATIENCE = "set local lock_timeout = '100ms'"
_HISTORIES = ("rota_done", "rota_failed", "rota_attempt")

_EXPIRE = f"""with p as (select array(
  select t.ctid from {{s}}rota_task t
  where t.expires_at is not null and t.state <> 1 and t.expires_at <= {{now}}
  order by t.expires_at limit %(limit)s for update skip locked) as tids),
d as (
  delete from {{s}}rota_task t where t.ctid = any((select tids from p)::tid[]) and t.state <> 1
  returning t.id, t.queue, t.work, t.priority, t.attempt, t.run_at),
h as (
  insert into {{s}}rota_done (id, state, queue, work, priority, attempt, run_at, finished_at,
    reason)
  select id, 5, queue, work, priority, attempt, run_at, {{now}}, 'expired' from d),
y as (
  insert into {{s}}rota_tally (minute, queue, work, state, n, seconds)
  select date_trunc('minute', {{now}}), queue, work, 5, count(*), 0 from d group by queue, work),
c as (
  {told("d", state="5")})
select id::text from d"""
_TAKE_CHORE = """insert into {s}rota_chore as c (name, next_at)
  values (%(name)s, {now} + make_interval(secs => %(every)s))
  on conflict (name) do update set next_at = excluded.next_at where c.next_at <= {now}
  returning 1"""

_TODAY = "select ({now} at time zone 'UTC')::date"
_PARTITIONS = """select c.relname from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  where i.inhparent = %(parent)s::regclass order by c.relname"""
# Made apart and attached: creating it as a partition would lock the whole history.
_CREATE = """create table {s}{name} (like {s}{parent},
    check (finished_at >= '{start} 00:00+00' and finished_at < '{end} 00:00+00'));
  alter table {s}{parent} attach partition {s}{name}
    for values from ('{start} 00:00+00') to ('{end} 00:00+00')"""
_DROP = "drop table {s}{name}"
_NEXT_IDS = """select id::text from {s}{name} where id > %(last)s::uuid
  order by id limit %(limit)s"""
# A body whose id was taken anew belongs to a task that is not finished; so does its report.
_DROP_BODIES = """with gone as (
  delete from {s}rota_body b where b.id = any(%(ids)s::uuid[])
    and not exists (select 1 from {s}rota_task t where t.id = b.id)
  returning b.id)
delete from {s}rota_report r where r.id = any(array(select id from gone))"""
_OLD_IN_DEFAULT = """delete from {s}{parent}_default where ctid = any(array(
    select ctid from {s}{parent}_default
    where finished_at < {now} - make_interval(days => %(days)s) limit %(limit)s))
  returning id::text"""
_FOLD = """with many as (
  select minute, queue, work, state from {s}rota_tally
  where minute >= {now} - interval '2 days' and minute < {now} - interval '2 minutes'
  group by minute, queue, work, state having count(*) > 1 limit %(limit)s),
d as (
  delete from {s}rota_tally t using many m
  where t.minute = m.minute and t.queue = m.queue and t.work = m.work and t.state = m.state
  returning t.*)
insert into {s}rota_tally (minute, queue, work, state, n, seconds)
  select minute, queue, work, state, sum(n), sum(seconds) from d
  group by minute, queue, work, state
  returning 1"""
# What is older is asked for by the day: an hour's row is fine enough, and there are few.
_FOLD_HOURS = """with many as (
  select date_trunc('hour', minute) as hour, queue, work, state from {s}rota_tally
  where minute < date_trunc('hour', {now}) - interval '2 days'
  group by 1, queue, work, state having count(*) > 1 limit %(limit)s),
d as (
  delete from {s}rota_tally t using many m
  where t.minute >= m.hour and t.minute < m.hour + interval '1 hour'
    and t.queue = m.queue and t.work = m.work and t.state = m.state
  returning m.hour, t.queue, t.work, t.state, t.n, t.seconds)
insert into {s}rota_tally (minute, queue, work, state, n, seconds)
  select hour, queue, work, state, sum(n), sum(seconds) from d
  group by hour, queue, work, state
  returning 1"""
_OLD_TALLY = """delete from {s}rota_tally
  where minute < {now} - make_interval(days => %(days)s)"""
_OLD_KEYS = """delete from {s}rota_unique where key = any(array(
    select u.key from {s}rota_unique u where u.expires_at <= {now} limit %(limit)s
    for update skip locked))
  and expires_at <= {now} returning 1"""
_OLD_CHANGES = """delete from {s}rota_change where ctid = any(array(
    select o.place from (
      select c.ctid as place, c.at from {s}rota_change c order by c.xid, c.n limit %(limit)s) o
    where o.at < {now} - make_interval(days => %(days)s)))
  returning 1"""
_OLD_DECISIONS = """delete from {s}rota_decision where ctid = any(array(
    select d.ctid from {s}rota_decision d
    where d.decided_at < {now} - make_interval(days => %(days)s)
    order by d.decided_at limit %(limit)s for update skip locked))
  returning 1"""
# A walk along the key: whoever has not ended is passed over, once.
_ENDED_CHILDREN = """with c as materialized (
  select x.ctid as place, x.recurring, x.task from {s}rota_child x
  where (x.recurring, x.task) > (%(recurring)b, %(task)s::uuid)
  order by x.recurring, x.task limit %(limit)s),
d as (
  delete from {s}rota_child k where k.ctid = any(array(
    select l.ctid from {s}rota_child l where l.ctid = any(array(
      select c.place from c
      left join lateral (select 1 as there from {s}rota_task t where t.id = c.task limit 1) t
        on true
      where t.there is null))
    for update skip locked)))
select c.recurring, c.task::text from c
  where (select count(*) from c) = %(limit)s order by c.recurring desc, c.task desc limit 1"""


class Partition(NamedTuple):
    """A day of one history table."""

    parent: str
    day: date

    @property
    def name(self) -> str:
        return f"{self.parent}_p{self.day:%Y%m%d}"


class Tidying:
    """Statements of expiry and upkeep, for one schema."""

    def __init__(self, *, prefix: str, now: str, done_days: int, failed_days: int) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._prefix, self._now = prefix, now
        self._expire, self._take_chore = bound(_EXPIRE), bound(_TAKE_CHORE)
        self._today, self._drop_bodies = bound(_TODAY), bound(_DROP_BODIES)
        self._folds, self._old_tally = (bound(_FOLD), bound(_FOLD_HOURS)), bound(_OLD_TALLY)
        self._old_keys, self._old_changes = bound(_OLD_KEYS), bound(_OLD_CHANGES)
        longest = max(done_days, failed_days)
        self._old_decisions = bound(_OLD_DECISIONS)
        self._ended_children = bound(_ENDED_CHILDREN)
        self._keep = dict(zip(_HISTORIES, (done_days, failed_days, longest), strict=True))

    def expire(self, session: Session, limit: int) -> list[str]:
        """Cancel what waits past its expiry; one statement."""
        return [row[0] for row in session.rows(self._expire, limit=limit)]

    def take_chore(self, session: Session, name: str, every: float) -> bool:
        """Move the chore's next time on if it has come; one statement, so one caller wins."""
        return bool(session.rows(self._take_chore, name=name, every=float(every)))

    def tidy(self, connections: Connections) -> None:
        """Everything, each step in a transaction of its own."""
        self.make_partitions(connections)
        for parent, days in self._keep.items():
            self._drop_old(connections, parent, days)
            self._empty_default(connections, parent, days)
        with connections.session() as session:
            for fold in self._folds:
                self._in_chunks(session, fold)
            session.rows(self._old_tally, days=max(self._keep.values()))
            self._in_chunks(session, self._old_keys)
            self._in_chunks(session, self._old_changes, days=_CHANGES_DAYS)
            self.tidy_recurring(session)

    def make_partitions(self, connections: Connections) -> None:
        """Partitions for today and the days ahead; what cannot be had now is left for later."""
        with connections.session() as session:
            today: date = session.rows(self._today)[0][0]
            there = {
                name for parent in _HISTORIES for name in self._partition_names(session, parent)
            }
        wanted = (
            Partition(parent, today + timedelta(days=ahead))
            for parent in _HISTORIES
            for ahead in range(AHEAD)
        )
        for partition in wanted:
            if partition.name not in there:
                self._try_ddl(connections, self._creation(partition))

    def _creation(self, partition: Partition) -> str:
        return _CREATE.format(
            s=self._prefix,
            name=partition.name,
            parent=partition.parent,
            start=partition.day.isoformat(),
            end=(partition.day + timedelta(days=1)).isoformat(),
        )

    def _drop_old(self, connections: Connections, parent: str, days: int) -> None:
        with connections.session() as session:
            today: date = session.rows(self._today)[0][0]
            there = list(self._partitions(session, parent))
        for partition in there:
            if partition.day < today - timedelta(days=days):
                if parent != "rota_attempt":
                    self._remove_bodies(connections, partition)
                self._try_ddl(connections, _DROP.format(s=self._prefix, name=partition.name))

    def _remove_bodies(self, connections: Connections, partition: Partition) -> None:
        sql = _NEXT_IDS.format(s=self._prefix, name=partition.name)
        last = _NIL
        while True:
            with connections.session() as session:
                ids = [row[0] for row in session.rows(sql, last=last, limit=CHUNK)]
                if not ids:
                    return
                session.rows(self._drop_bodies, ids=uuids(ids))
                last = ids[-1]

    def _empty_default(self, connections: Connections, parent: str, days: int) -> None:
        sql = _OLD_IN_DEFAULT.format(s=self._prefix, now=self._now, parent=parent)
        while True:
            with connections.transaction() as session:
                ids = [row[0] for row in session.rows(sql, days=days, limit=CHUNK)]
                if ids and parent != "rota_attempt":
                    session.rows(self._drop_bodies, ids=uuids(ids))
            if len(ids) < CHUNK:
                return

    def _in_chunks(self, session: Session, sql: str, **params: object) -> None:
        while len(session.rows(sql, limit=CHUNK, **params)) == CHUNK:
            pass

    def tidy_recurring(self, session: Session) -> None:
        """Old decisions, and of the children noted as unfinished those that have ended."""
        self._in_chunks(session, self._old_decisions, days=_DECISIONS_DAYS)
        last = [("", _NIL)]
        while last:
            ((recurring, task),) = last
            last = session.rows(self._ended_children, recurring=recurring, task=task, limit=CHUNK)

    def _try_ddl(self, connections: Connections, sql: str) -> bool:
        """Run it if its lock is to be had; a partition another node just made is no error."""
        with connections.transaction(settings=_PATIENCE) as session:
            session.script("savepoint before")
            try:
                session.script(sql)
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DuplicateTable,
                psycopg.errors.UniqueViolation,
                psycopg.errors.UndefinedTable,
                # Rows of that day are in the DEFAULT partition: they stay there.
                psycopg.errors.CheckViolation,
            ):
                session.script("rollback to before")
                return False
            return True

    def _partition_names(self, session: Session, parent: str) -> list[str]:
        rows = session.rows(_PARTITIONS, parent=f"{self._prefix}{parent}")
        return [row[0] for row in rows]

    def _partitions(self, session: Session, parent: str) -> Iterator[Partition]:
        for name in self._partition_names(session, parent):
            stamp = name.removeprefix(f"{parent}_p")
            if stamp.isdecimal():
                day = datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date()
                yield Partition(parent, day)
