"""The history's daily partitions: made ahead, and dropped when they are past their retention."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import psycopg

from rota.core.retention import Keeping
from rota.storage.postgres.arrays import uuids
from rota.storage.postgres.connections import Connections, Session

#: Days for which partitions stand ready, today included.
AHEAD = 8
#: Rows that go in one transaction, and such transactions in one call.
CHUNK, CHUNKS = 2000, 50
_NIL = "00000000-0000-0000-0000-000000000000"
#: DDL waits this long for its lock and is otherwise left to the next time: whatever waits
#: for an exclusive lock holds up everybody behind it.
_PATIENCE = "set local lock_timeout = '100ms'"
_TASKS = ("rota_done", "rota_failed")
_HISTORIES = (*_TASKS, "rota_attempt")

_NOW = "select {now} at time zone 'UTC'"
_PARTITIONS = """select c.relname from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  where i.inhparent = %(parent)s::regclass order by c.relname"""
# Made apart and attached: creating it as a partition would lock the whole history.
_CREATE = """create table {s}{name} (like {s}{parent},
    check (finished_at >= '{start} 00:00+00' and finished_at < '{end} 00:00+00'));
  alter table {s}{parent} attach partition {s}{name}
    for values from ('{start} 00:00+00') to ('{end} 00:00+00')"""
# In the order in which DROP would take them.
_LOCK = """lock table only {s}{parent} in access exclusive mode;
  lock table {s}{name} in access exclusive mode"""
_DROP = "drop table {s}{name}"
_NEXT_IDS = """select id::text from {s}{name} where id > %(last)s::uuid
  order by id limit %(limit)s"""
# What has no body can be told to nobody, and need not be waited for.
_HOLDS_TASKS = """select 1 from {s}{name} h
  where exists (select 1 from {s}rota_body b where b.id = h.id) limit 1"""
# A body whose id was taken anew belongs to a task that is not finished; so does its report.
_DROP_BODIES = """with gone as (
  delete from {s}rota_body b where b.id = any(%(ids)s::uuid[])
    and not exists (select 1 from {s}rota_task t where t.id = b.id)
  returning b.id)
delete from {s}rota_report r where r.id = any(array(select id from gone))"""
_OLD_IN_DEFAULT = """delete from {s}{parent}_default where ctid = any(array(
    select ctid from {s}{parent}_default
    where finished_at < {now} - make_interval(secs => %(kept)s) limit %(limit)s))
  returning id::text"""


class Partition(NamedTuple):
    """A day of one history table."""

    parent: str
    day: date

    @property
    def name(self) -> str:
        return f"{self.parent}_p{self.day:%Y%m%d}"


class Partitions:
    """Statements about the partitions of one schema."""

    def __init__(self, *, prefix: str, now: str) -> None:
        self._prefix, self._now = prefix, now
        self._moment = _NOW.format(now=now)
        self._drop_bodies = _DROP_BODIES.format(s=prefix)
        #: How far bodies of a partition are removed already.
        self._removed: dict[str, str] = {}

    def make(self, connections: Connections) -> None:
        """Those for today and the days ahead; what cannot be had now is left for later."""
        with connections.session() as session:
            today = self._utc(session).date()
            there = {name for parent in _HISTORIES for name in self._names(session, parent)}
        wanted = (
            Partition(parent, today + timedelta(days=ahead))
            for parent in _HISTORIES
            for ahead in range(AHEAD)
        )
        for partition in wanted:
            if partition.name not in there:
                self._try_ddl(connections, self._creation(partition))

    def retire(self, connections: Connections, keeping: Keeping) -> bool:
        """Remove what is past its retention, whole days at once; whether there may be more.

        While there is to be an archive, a day goes when nothing is left in it.
        """
        steps = self._steps(connections, keeping)
        return sum(1 for _ in islice(steps, CHUNKS)) == CHUNKS

    def _steps(self, connections: Connections, keeping: Keeping) -> Iterator[None]:
        """Does it, and stops after each transaction that removed a chunk."""
        with connections.session() as session:
            now = self._utc(session)
            days = {parent: list(self._days(session, parent)) for parent in _HISTORIES}
        left: list[date] = []
        for parent in _TASKS:
            kept = keeping.retention.span(failed=parent == "rota_failed")
            for partition in days[parent]:
                if kept is None or partition.day >= (now - kept).date():
                    left.append(partition.day)
                elif keeping.archive:
                    if not self._drop_empty(connections, partition):
                        left.append(partition.day)
                else:
                    yield from self._remove_bodies(connections, partition)
                    self._try_ddl(connections, self._of(partition, _DROP))
            if kept is not None and not keeping.archive:
                yield from self._empty_default(connections, parent, kept)
        longest = keeping.retention.longest
        if longest is not None:
            # Attempts are kept as long as any task of their day is.
            end = min([(now - longest).date(), *left])
            for partition in days["rota_attempt"]:
                if partition.day < end:
                    self._try_ddl(connections, self._of(partition, _DROP))
            yield from self._empty_default(connections, "rota_attempt", longest)

    def _drop_empty(self, connections: Connections, partition: Partition) -> bool:
        """Drop it unless a task is still in it, looked up again under the lock."""
        holds = self._of(partition, _HOLDS_TASKS)
        with connections.session() as session:
            if session.rows(holds):
                return False
        return self._try_ddl(connections, self._of(partition, _DROP), partition, unless=holds)

    def _remove_bodies(self, connections: Connections, partition: Partition) -> Iterator[None]:
        sql = self._of(partition, _NEXT_IDS)
        while True:
            last = self._removed.get(partition.name, _NIL)
            with connections.session() as session:
                ids = [row[0] for row in session.rows(sql, last=last, limit=CHUNK)]
                if ids:
                    session.rows(self._drop_bodies, ids=uuids(ids))
                    self._removed[partition.name] = ids[-1]
            if not ids:
                self._removed.pop(partition.name, None)
                return
            yield

    def _empty_default(
        self, connections: Connections, parent: str, kept: timedelta
    ) -> Iterator[None]:
        sql = _OLD_IN_DEFAULT.format(s=self._prefix, now=self._now, parent=parent)
        while True:
            with connections.transaction() as session:
                old = session.rows(sql, kept=kept.total_seconds(), limit=CHUNK)
                ids = [row[0] for row in old]
                if ids and parent in _TASKS:
                    session.rows(self._drop_bodies, ids=uuids(ids))
            if len(ids) < CHUNK:
                return
            yield

    def _try_ddl(
        self,
        connections: Connections,
        sql: str,
        locked: Partition | None = None,
        *,
        unless: str = "",
    ) -> bool:
        """Run it if its lock is to be had, and ``unless`` finds nothing then; whether it was run.

        A partition that another node just made, or dropped, is no error.
        """
        with connections.transaction(settings=_PATIENCE) as session:
            session.script("savepoint before")
            try:
                if locked is not None:
                    session.script(self._of(locked, _LOCK))
                if unless and session.rows(unless):
                    return False
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

    def _creation(self, partition: Partition) -> str:
        day = partition.day
        return self._of(
            partition, _CREATE, start=day.isoformat(), end=(day + timedelta(days=1)).isoformat()
        )

    def _of(self, partition: Partition, sql: str, **more: str) -> str:
        return sql.format(s=self._prefix, name=partition.name, parent=partition.parent, **more)

    def _utc(self, session: Session) -> datetime:
        moment: datetime = session.rows(self._moment)[0][0]
        return moment

    def _names(self, session: Session, parent: str) -> list[str]:
        rows = session.rows(_PARTITIONS, parent=f"{self._prefix}{parent}")
        return [row[0] for row in rows]

    def _days(self, session: Session, parent: str) -> Iterator[Partition]:
        for name in self._names(session, parent):
            stamp = name.removeprefix(f"{parent}_p")
            if stamp.isdecimal():
                day = datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date()
                yield Partition(parent, day)
