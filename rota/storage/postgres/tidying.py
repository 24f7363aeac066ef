"""Keep the house: expiry, whose turn a chore is, folded counts, old keys and changes."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.retention import Keeping
from rota.storage import folding
from rota.storage.postgres.connections import Connections, Session
from rota.storage.postgres.feeding import told
from rota.storage.postgres.partitions import Partitions

CHUNK = 2000
_CHANGES_DAYS = 7
_DECISIONS_DAYS = 30
_NIL = "00000000-0000-0000-0000-000000000000"

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

# What ended alike within one stretch of time becomes one row.
_FOLD = """with many as (
  select to_timestamp(floor(extract(epoch from minute) / %(width)s) * %(width)s) as start,
    queue, work, state
  from {s}rota_tally
  where minute < to_timestamp(
    floor(extract(epoch from {now} - make_interval(secs => %(after)s)) / %(width)s) * %(width)s)
  group by start, queue, work, state having count(*) > 1 limit %(limit)s),
d as (
  delete from {s}rota_tally t using many m
  where t.minute >= m.start and t.minute < m.start + make_interval(secs => %(width)s)
    and t.queue = m.queue and t.work = m.work and t.state = m.state
  returning m.start, t.queue, t.work, t.state, t.n, t.seconds)
insert into {s}rota_tally (minute, queue, work, state, n, seconds)
  select start, queue, work, state, sum(n), sum(seconds) from d
  group by start, queue, work, state
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


class Tidying:
    """Statements of expiry and upkeep, for one schema."""

    def __init__(self, *, prefix: str, now: str, partitions: Partitions) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._partitions = partitions
        self._expire, self._take_chore = bound(_EXPIRE), bound(_TAKE_CHORE)
        self._fold, self._old_tally = bound(_FOLD), bound(_OLD_TALLY)
        self._old_keys, self._old_changes = bound(_OLD_KEYS), bound(_OLD_CHANGES)
        self._old_decisions = bound(_OLD_DECISIONS)
        self._ended_children = bound(_ENDED_CHILDREN)

    def expire(self, session: Session, limit: int) -> list[str]:
        """Cancel what waits past its expiry; one statement."""
        return [row[0] for row in session.rows(self._expire, limit=limit)]

    def take_chore(self, session: Session, name: str, every: float) -> bool:
        """Move the chore's next time on if it has come; one statement, so one caller wins."""
        return bool(session.rows(self._take_chore, name=name, every=float(every)))

    def tidy(self, connections: Connections, keeping: Callable[[], Keeping]) -> bool:
        """Everything, each step in a transaction of its own; whether history is left over."""
        self._partitions.make(connections)
        if self._partitions.retire(connections, keeping()):
            return True
        with connections.session() as session:
            for fold in folding.FOLDS:
                self._in_chunks(session, self._fold, **fold._asdict())
            session.rows(self._old_tally, days=folding.KEPT_DAYS)
            self._in_chunks(session, self._old_keys)
            self._in_chunks(session, self._old_changes, days=_CHANGES_DAYS)
            self.tidy_recurring(session)
        return False

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
