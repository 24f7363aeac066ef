"""Move ended tasks into history, each fenced by its token."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from rota.core.task import Finish, Stored
from rota.storage.postgres.arrays import reals, texts, uuids, whole
from rota.storage.postgres.connections import Statements
from rota.storage.postgres.feeding import told

# Joined laterally, each with a limit: only so is it certain that the planner looks the tasks
# up one by one, in the order given. Left a choice, it scans the whole table when it takes
# the tasks with this node's token for few.
OWN = """cross join lateral (
    select t.* from {s}rota_task t
    where t.id = o.id and t.batch = o.batch and t.node = %(node)s and t.state = 1
    limit 1 for update of t) k"""

# A lease named as over by mistake stays: without it nobody would find its tasks again.
DROP_LEASES = """delete from {s}rota_lease l
  where l.node = %(node)s and l.batch = any(%(over)s::bigint[]) and not exists (
    select 1 from (
      select unnest(l.ids)
      except
      select f.id from unnest(%(ids)s::uuid[], %(batches)s::bigint[]) as f(id, batch)
      where f.batch = l.batch) as left_over(id)
    cross join lateral (
      select 1 from {s}rota_task t
      where t.id = left_over.id and t.node = l.node and t.batch = l.batch and t.state = 1
      limit 1) w)"""
# The token of an outcome that an attempt has handed in itself, for a repeated finish to find.
_SAID = "node, batch"
# Rescue's own ending: the attempt is told of beside it, so that none is taken for its author.
_UNSAID = "null::bigint, null::bigint"
_LOST = """lost as (
  insert into {s}rota_attempt (id, attempt, outcome, node, batch, finished_at)
  select id, attempt, 'lost', node, batch, {now} from d),
"""


def _ending(token: str, also: str = "") -> str:
    """Move tasks into history. The leases first: the tasks depend on them, in the lock order."""
    return f"""with gone as ({DROP_LEASES} returning 1),
d as materialized (
  select k.id, k.queue, k.work, k.priority, k.attempt, k.node, k.batch, k.run_at,
    o.final, o.payload, o.reason, o.ago
  from unnest(%(ids)s::uuid[], %(batches)s::bigint[], %(states)s::smallint[],
      %(payloads)s::text[], %(reasons)s::text[], %(agos)s::double precision[])
    as o(id, batch, final, payload, reason, ago)
  {OWN}
  where (select count(*) from gone) >= 0),
x as (
  delete from {{s}}rota_task t where t.id = any((select array(select id from d))::uuid[])
    and t.node = %(node)s and t.state = 1 returning 1),
good as (
  insert into {{s}}rota_done (id, state, queue, work, priority, attempt, node, batch, run_at,
    started_at, finished_at, reason, payload)
  select id, final, queue, work, priority, attempt, {token}, run_at,
    {{now}} - make_interval(secs => ago), {{now}}, reason, payload from d where final <> 4),
bad as (
  insert into {{s}}rota_failed (id, state, queue, work, priority, attempt, node, batch, run_at,
    started_at, finished_at, reason, payload)
  select id, final, queue, work, priority, attempt, {token}, run_at,
    {{now}} - make_interval(secs => ago), {{now}}, reason, payload from d where final = 4),
{also}tally as (
  insert into {{s}}rota_tally (minute, queue, work, state, n, seconds)
  select date_trunc('minute', {{now}}), queue, work, final, count(*), coalesce(sum(ago), 0)
  from d group by queue, work, final),
heard as (
  {told("d", state="final")})
select id::text, batch, final from d
where (select count(*) from d) < cardinality(%(ids)s::uuid[])
union all
select null, null, null where (select count(*) from d) = cardinality(%(ids)s::uuid[])"""


Token = tuple[str, int]
#: By number; looked up faster than made.
_STATES = tuple(Stored)


class End(NamedTuple):
    """One task on its way into history."""

    id: str
    batch: int
    state: int
    payload: str | None = None
    reason: str | None = None
    ago: float | None = None


_COLUMNS = tuple(map(attrgetter, ("id", "batch", "ending", "payload", "reason", "ago")))


class Endings:
    """The statements that end tasks for good, for one schema."""

    def __init__(self, *, prefix: str, now: str) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._end, self._end_lost = bound(_ending(_SAID)), bound(_ending(_UNSAID, _LOST))

    def end(
        self,
        session: Statements,
        node: int,
        ends: Sequence[End],
        over: Sequence[int] = (),
        *,
        lost: bool = False,
    ) -> dict[Token, Stored]:
        """Move tasks into history; those whose token still was the task's.

        With ``lost`` the attempt did not say so: it is noted as lost, its token is not kept.
        """
        sql = self._end_lost if lost else self._end
        met = _moved(session, sql, node, over, [*zip(*ends, strict=True)])
        if met is None:
            return {(end.id, end.batch): _STATES[end.state] for end in ends}
        return met

    def finish(
        self, session: Statements, node: int, finishes: Sequence[Finish], over: Sequence[int]
    ) -> list[Stored | None]:
        """The same for outcomes, one per task, in the order of the tasks' ids."""
        columns = [[*map(column, finishes)] for column in _COLUMNS]
        met = _moved(session, self._end, node, over, columns)
        if met is None:
            return [_STATES[finish.ending] for finish in finishes]
        return [met.get((finish.id, finish.batch)) for finish in finishes]


def _moved(
    session: Statements,
    sql: str,
    node: int,
    over: Sequence[int],
    columns: Sequence[Sequence[Any]],
) -> dict[Token, Stored] | None:
    """Which were moved to which state; None for all of them, as asked."""
    ids, batches, states, payloads, reasons, agos = columns
    rows = session.rows(
        sql,
        node=node,
        over=whole(over),
        ids=uuids(ids),
        batches=whole(batches),
        states=whole(map(int, states)),
        payloads=texts(payloads),
        reasons=texts(reasons),
        agos=reals(agos),
    )
    if rows and rows[0][0] is None:
        return None
    return {(row[0], row[1]): _STATES[row[2]] for row in rows}
