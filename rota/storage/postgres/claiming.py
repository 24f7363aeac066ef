"""Take tasks to run: the claims, and the agenda that says where there are any."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rota.core.task import Claimed, Lane, Stored, Want
from rota.errors import AlreadyClaimed, NodeDead, TaskNotFound, WrongState
from rota.storage.postgres.agenda import EVERY_LANE, NAMED_LANES
from rota.storage.postgres.arrays import uuids
from rota.storage.postgres.connections import Statements

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NODE = "n as (select id from {s}rota_node where id = %(node)s for key share)"
#: A pulled claim belongs to no node; its lease ends by itself.
_NOBODY = "n as (select 1)"
_NO_DEADLINE = "null::timestamptz"
_DEADLINE = "{now} + make_interval(secs => %(lease)s)"
# Through an array of row addresses: joined to a subquery the planner may re-run it,
# claiming more than wanted, or hash-join the whole table.
_READY = """p as (select array(
  select x.tid
  from (select * from unnest(%(queues)b::text[], %(priorities)b::smallint[],
          %(cursors)b::timestamptz[], %(early)b::boolean[], %(limits)b::integer[])
          as w(queue, priority, "cursor", early, want)
        where not exists (select 1 from {s}rota_queue q
                          where q.queue = w.queue and q.paused_at is not null)) l
  cross join lateral (
    select t.ctid as tid from {s}rota_task t
    where t.state = 0 and t.queue = l.queue and t.priority = l.priority
      and t.run_at >= case when l.early then {now} + interval '1 microsecond'
                           else coalesce(l."cursor", '-infinity') end
      and t.run_at <= case when l.early then {now} + make_interval(secs => %(look_ahead)s)
                           else {now} end
      and exists (select 1 from n)
    order by t.queue, t.priority desc, t.run_at, t.id
    limit l.want for update of t skip locked) x) as tids)"""
_PARKED = """p as (select array(
  select x.tid
  from unnest(%(works)b::text[]) as l(work)
  cross join lateral (
    select t.ctid as tid from {s}rota_task t
    where t.state = 2 and t.work = l.work and t.node is distinct from %(node)s
      and t.run_at <= {now} + make_interval(secs => %(look_ahead)s)
      and not exists (select 1 from {s}rota_queue q
                      where q.queue = t.queue and q.paused_at is not null)
      and exists (select 1 from n)
    order by t.work, t.priority desc, t.run_at
    limit %(limit)s for update of t skip locked) x
  limit %(limit)s) as tids)"""
# For those who know no work: first which (work, priority) there are, each one descent of the
# index, then the highest first, as far as the limit.
_ANY_PARKED = """works(work) as (
  (select t.work from {s}rota_task t where t.state = 2
   order by t.work, t.priority desc, t.run_at limit 1)
  union all
  select (select t.work from {s}rota_task t where t.state = 2 and t.work > l.work
          order by t.work, t.priority desc, t.run_at limit 1)
  from works l where l.work is not null),
kinds as (
  select f.* from works l cross join lateral (
    select t.work, t.priority, t.run_at from {s}rota_task t
    where t.state = 2 and t.work = l.work
    order by t.work, t.priority desc, t.run_at limit 1) f
  where f.priority >= %(floor)s
  union all
  select f.* from kinds l cross join lateral (
    select t.work, t.priority, t.run_at from {s}rota_task t
    where t.state = 2 and t.work = l.work and t.priority < l.priority
      and t.priority >= %(floor)s
    order by t.work, t.priority desc, t.run_at limit 1) f),
p as (select array(
  select x.tid
  from (select * from kinds where work <> all(%(but_not)b::text[])
        order by priority desc, run_at) l
  cross join lateral (
    select t.ctid as tid from {s}rota_task t
    where t.state = 2 and t.work = l.work and t.priority = l.priority and t.run_at <= {now}
      and (%(queues)b::text[] is null or t.queue = any(%(queues)b::text[]))
      and not exists (select 1 from {s}rota_queue q
                      where q.queue = t.queue and q.paused_at is not null)
    order by t.work, t.priority desc, t.run_at
    limit %(limit)s for update of t skip locked) x
  limit %(limit)s) as tids)"""
# The row is locked by the statement before.
_THIS = "p as (select array(select ctid from {s}rota_task where id = %(id)s::uuid) as tids)"
# Lost before: a lease of its own, so that the next loss says who did it.
# Works that finish in a transaction of their own want one, too.
_TAKE = """c as (
  update {s}rota_task t set state = 1, node = %(node)s, attempt = t.attempt + 1,
    batch = %(batch)s + case
      when t.losses > 0 or t.work = any(%(alone)b::text[])
      then array_position((select tids from p), t.ctid) else 0 end
  where t.ctid = any((select tids from p)::tid[]) and t.state <> 1
  returning t.id, t.work, t.queue, t.priority, t.attempt, t.batch, t.run_at, t.expires_at,
    t.losses, t.version),
le as (insert into {s}rota_lease (node, batch, ids, deadline)
  select %(node)s, c.batch, array_agg(c.id), {deadline} from c group by c.batch)
select c.id::text, c.work, c.queue, c.priority, c.attempt, c.batch,
  case when b.version = c.version then {params} end, b.options,
  date_part('epoch', c.run_at - {now}), (date_part('epoch', c.run_at) * 1000000)::bigint,
  date_part('epoch', c.expires_at - {now}), c.losses, b.meta::text, b.parent::text, b.recurring,
  (date_part('epoch', b.fire_at) * 1000000)::bigint
from n left join c on true left join lateral (
  select * from {s}rota_body x where x.id = c.id limit 1) b on true
order by c.priority desc, c.run_at, c.id"""
_EXTEND = """update {s}rota_lease set deadline = {now} + make_interval(secs => %(lease)s)
  where node = %(node)s and batch = %(batch)s and deadline is not null returning 1"""

_ALIVE = "select 1 from {s}rota_node where id = %(node)s for key share"
_LOCK_ONE = "select state from {s}rota_task where id = %(id)s::uuid for update"
_ENDED = """select state from {s}rota_done where id = %(id)s::uuid
  union all select state from {s}rota_failed where id = %(id)s::uuid"""
_BODIES = """select id::text, params, meta::text, options from {s}rota_body
  where id = any(%(ids)s::uuid[])"""


class Claiming:
    """The statements that take tasks, for one schema."""

    def __init__(self, *, prefix: str, now: str) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        def taking(
            which: str, *, who: str = _NODE, params: str = "b.params", deadline: str = _NO_DEADLINE
        ) -> str:
            sql = f"with {who}, {which}, {_TAKE}"
            return sql.format(s=prefix, now=now, params=params, deadline=deadline.format(now=now))

        self._ready, self._ready_lazily = taking(_READY), taking(_READY, params="''")
        self._ready_until = taking(_READY, who=_NOBODY, deadline=_DEADLINE)
        self._parked, self._this = taking(_PARKED), taking(_THIS)
        self._parked_until = taking(_ANY_PARKED, who=f"recursive {_NOBODY}", deadline=_DEADLINE)
        self._extend = bound(_EXTEND)
        self._alive, self._lock_one, self._ended = bound(_ALIVE), bound(_LOCK_ONE), bound(_ENDED)
        self._bodies = bound(_BODIES)
        self._agenda_all = bound(EVERY_LANE)
        self._agenda_of = bound(NAMED_LANES)

    def agenda(self, session: Statements, queues: Sequence[str] | None) -> list[Lane]:
        """The lanes with something scheduled, and in how many seconds their first is due."""
        if queues is None:
            rows = session.rows(self._agenda_all)
        else:
            rows = session.rows(self._agenda_of, queues=list(queues))
        return [Lane(*row) for row in rows]

    def claim(
        self,
        session: Statements,
        node: int,
        batch: int,
        wants: Sequence[Want],
        look_ahead: float,
        *,
        lazy: bool,
        alone: Sequence[str],
    ) -> list[Claimed]:
        """Take what is ready in every lane, then what will be soon; one statement."""
        rows = session.rows(
            self._ready_lazily if lazy else self._ready,
            node=node,
            batch=batch,
            look_ahead=float(look_ahead),
            alone=list(alone),
            **_lanes(wants),
        )
        if not rows:
            raise _dead(node)
        return self._claimed(session, rows, lazy=lazy)

    def claim_until(
        self, session: Statements, owner: int, batch: int, wants: Sequence[Want], lease: float
    ) -> list[Claimed]:
        """Take what is ready under a lease with a deadline; one statement."""
        rows = session.rows(
            self._ready_until,
            node=owner,
            batch=batch,
            look_ahead=0.0,
            alone=[],
            lease=float(lease),
            **_lanes([want._replace(ahead=0) for want in wants]),
        )
        return self._claimed(session, rows)

    def claim_parked_until(
        self,
        session: Statements,
        owner: int,
        batch: int,
        queues: Sequence[str] | None,
        *,
        limit: int,
        lease: float,
        floor: int,
        but_not: Collection[str],
    ) -> list[Claimed]:
        """Take parked tasks of any work under a lease with a deadline; one statement."""
        rows = session.rows(
            self._parked_until,
            node=owner,
            batch=batch,
            queues=None if queues is None else list(queues),
            limit=limit,
            floor=floor,
            but_not=list(but_not),
            alone=[],
            lease=float(lease),
        )
        return self._claimed(session, rows)

    def extend(self, session: Statements, owner: int, batch: int, lease: float) -> bool:
        """Move the deadline, unless the lease has none or is gone."""
        return bool(session.rows(self._extend, node=owner, batch=batch, lease=float(lease)))

    def claim_parked(
        self,
        session: Statements,
        node: int,
        batch: int,
        works: Sequence[str],
        *,
        limit: int,
        look_ahead: float,
        alone: Sequence[str],
    ) -> list[Claimed]:
        """Take parked tasks of these works; one statement."""
        rows = session.rows(
            self._parked,
            node=node,
            batch=batch,
            works=list(dict.fromkeys(works)),
            limit=limit,
            look_ahead=float(look_ahead),
            alone=list(alone),
        )
        if not rows:
            raise _dead(node)
        return self._claimed(session, rows)

    def claim_one(self, session: Statements, node: int, batch: int, task_id: str) -> Claimed:
        """Take this task, in the caller's transaction: locked first, then judged."""
        if not session.rows(self._alive, node=node):
            raise _dead(node)
        locked = session.rows(self._lock_one, id=task_id)
        if not locked:
            ended = session.rows(self._ended, id=task_id)
            if not ended:
                raise TaskNotFound(task_id)
            state = str(Stored(ended[0][0]).public)
            raise WrongState(task_id, state, "only a waiting task can be claimed")
        if locked[0][0] == Stored.WORKING:
            raise AlreadyClaimed(task_id)
        rows = session.rows(self._this, node=node, batch=batch, id=task_id, alone=[])
        return self._claimed(session, rows)[0]

    def _claimed(
        self, session: Statements, rows: Sequence[tuple[Any, ...]], *, lazy: bool = False
    ) -> list[Claimed]:
        if rows[0][0] is None:
            return []
        claimed = [*map(Claimed._make, rows)]
        changed = [one.id for one in claimed if one.params is None]
        return self._read_again(session, claimed, changed, lazy=lazy) if changed else claimed

    def _read_again(
        self,
        session: Statements,
        claimed: Sequence[Claimed],
        changed: Sequence[str],
        *,
        lazy: bool,
    ) -> list[Claimed]:
        """With the bodies that an update changed between the claim's snapshot and its lock."""
        bodies = {row[0]: row[1:] for row in session.rows(self._bodies, ids=uuids(changed))}
        return [
            one._replace(params="" if lazy else body[0], meta=body[1], options=body[2])
            if (body := bodies.get(one.id)) is not None
            else one
            for one in claimed
        ]


def _lanes(wants: Sequence[Want]) -> dict[str, list[Any]]:
    entries = [(w, False, w.ready) for w in wants if w.ready > 0]
    entries += [(w, True, w.ahead) for w in wants if w.ahead > 0]
    return {
        "queues": [want.queue for want, _, _ in entries],
        "priorities": [want.priority for want, _, _ in entries],
        "cursors": [_instant(want.cursor) for want, _, _ in entries],
        "early": [early for _, early, _ in entries],
        "limits": [limit for _, _, limit in entries],
    }


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def _dead(node: int) -> NodeDead:
    return NodeDead(
        f"node {node} was declared dead by another node; stop its tasks and join as a new one"
    )
