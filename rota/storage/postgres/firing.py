"""The PostgreSQL repository's ledger: what deciding ticks reads and writes, many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from rota.core.task import Inserted, NewTask
from rota.storage.deciding import LOOK_AGAIN, PRUNED, Standing, Verdict
from rota.storage.postgres.arrays import uuids, whole
from rota.storage.postgres.connections import Session
from rota.storage.postgres.inserting import Inserting

#: A child's key that somebody's open transaction holds is waited for so long, under the
#: locks of the definitions: all the others of the call wait along.
_PATIENCE = "set local lock_timeout = '50ms'"

# One row at a time, in one order everywhere, so that two calls cannot wait for each other.
_LOCK = """select r.id, r.next_fire_at, r.last_fire_at, r.paused, r.version, r.runs
  from unnest(%(ids)b::text[]) as o(id)
  cross join lateral (
    select * from {{s}}rota_recurring x where x.id = o.id limit 1 for update {how}) r
  order by r.id"""
# Joined laterally, each with a limit: an anti-join may walk all tasks for each child.
# Those whose task is there are counted, so whoever has not been forgotten yet does no harm.
_UNFINISHED = """with o as materialized (
  select * from unnest(%(ids)b::text[], %(most)s::integer[]) as o(id, most)),
d as (
  delete from {s}rota_child k where k.ctid = any(array(
    select l.ctid from {s}rota_child l where l.ctid = any(array(
      select c.place from o cross join lateral (
        select x.ctid as place, x.task from {s}rota_child x
        where x.recurring = o.id order by x.task limit o.most + %(more)s) c
      left join lateral (select 1 as there from {s}rota_task t where t.id = c.task limit 1) t
        on true
      where t.there is null))
    for update skip locked)))
select o.id, (select count(*) from (
    select 1 from {s}rota_child c
    cross join lateral (select 1 from {s}rota_task t where t.id = c.task limit 1) t
    where c.recurring = o.id order by c.task limit o.most) n)
  from o"""
# By row address: the rows are locked, so they stay where they are.
_WRITE = """with moved as (
  update {s}rota_recurring r set next_fire_at = o.next,
    due_at = case when o.waits then {now} + make_interval(secs => %(later)s) else o.next end,
    last_fire_at = o.last, runs = o.runs
  from unnest(%(ids)b::text[], %(nexts)b::timestamptz[], %(lasts)b::timestamptz[],
      %(runs)s::bigint[], %(waits)b::boolean[]) as o(id, next, last, runs, waits)
  cross join lateral (
    select x.ctid as place from {s}rota_recurring x where x.id = o.id limit 1) k
  where r.ctid = k.place),
made as (
  insert into {s}rota_child (recurring, task)
  select * from unnest(%(parents)b::text[], %(children)s::uuid[])
  on conflict do nothing)
insert into {s}rota_decision as d (recurring, fire_at, decision, n, task, version, decided_at)
  select o.*, {now} from unnest(%(recurring)b::text[], %(fire_ats)b::timestamptz[],
    %(decisions)b::text[], %(counts)s::bigint[], %(tasks)s::uuid[], %(versions)s::integer[]) as o
  on conflict (recurring, fire_at, decision) do update set n = d.n + excluded.n,
    task = excluded.task, version = excluded.version, decided_at = excluded.decided_at"""


class Firing:
    """The statements about ticks, for one schema."""

    def __init__(self, *, prefix: str, now: str, inserting: Inserting) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self.inserting = inserting
        self._lock_free = bound(_LOCK.format(how="skip locked"))
        self._lock_each = bound(_LOCK.format(how=""))
        self._unfinished, self._write = bound(_UNFINISHED), bound(_WRITE)

    def lock(self, session: Session, ids: Sequence[str], *, wait: bool) -> dict[str, Standing]:
        """The definitions, locked; without ``wait`` those that nobody else has."""
        if not ids:
            return {}
        rows = session.rows(self._lock_each if wait else self._lock_free, ids=list(ids))
        return {
            name: Standing(
                next_fire_at=next_fire_at,
                last_fire_at=last_fire_at,
                paused=paused,
                version=version,
                runs=runs,
            )
            for name, next_fire_at, last_fire_at, paused, version, runs in rows
        }

    def unfinished(self, session: Session, most: Mapping[str, int]) -> dict[str, int]:
        """Count the children that have not ended, and forget some that have."""
        rows = session.rows(
            self._unfinished, ids=list(most), most=whole(most.values()), more=PRUNED
        )
        return dict(rows)

    def write(self, session: Session, verdict: Verdict) -> None:
        """Move the definitions on, note the children, record the decisions; one statement."""
        entries = list(verdict.entries.values())
        session.rows(
            self._write,
            later=LOOK_AGAIN,
            **_moves(verdict.standings),
            parents=[made.recurring for made in verdict.children.values()],
            children=uuids(verdict.children),
            recurring=[entry.recurring for entry in entries],
            fire_ats=[entry.fire_at for entry in entries],
            decisions=[str(entry.decision) for entry in entries],
            counts=whole(entry.count for entry in entries),
            tasks=uuids(entry.task for entry in entries),
            versions=whole(entry.version for entry in entries),
        )


class PostgresLedger:
    """One transaction of ``fire`` on this session."""

    def __init__(self, session: Session, *, firing: Firing) -> None:
        self._session = session
        self._firing = firing

    def lock(self, ids: Sequence[str], by_hand: Sequence[str]) -> dict[str, Standing]:
        """Those to wait for first: with nothing else locked that wait cannot be part of a ring."""
        waited = self._firing.lock(self._session, by_hand, wait=True)
        self._session.script(_PATIENCE)
        return waited | self._firing.lock(self._session, ids, wait=False)

    def unfinished(self, most: Mapping[str, int]) -> dict[str, int]:
        return self._firing.unfinished(self._session, most)

    def insert(self, children: Sequence[NewTask]) -> list[Inserted]:
        return self._firing.inserting.careful(self._session, children, repeated=False)

    def insert_keyed(self, child: NewTask) -> Inserted | None:
        """In a savepoint: waiting in vain for its key costs only its own tick."""
        session = self._session
        session.script("savepoint child")
        try:
            answer = self._firing.inserting.careful(session, [child], repeated=False)[0]
        except psycopg.errors.LockNotAvailable:
            session.script("rollback to child")
            return None
        session.script("release child")
        return answer

    def write(self, verdict: Verdict) -> None:
        self._firing.write(self._session, verdict)


def _moves(standings: Mapping[str, Standing]) -> dict[str, Any]:
    moved = list(standings.values())
    return {
        "ids": list(standings),
        "nexts": [one.next_fire_at for one in moved],
        "lasts": [one.last_fire_at for one in moved],
        "runs": whole(one.runs for one in moved),
        "waits": [one.waiting for one in moved],
    }
