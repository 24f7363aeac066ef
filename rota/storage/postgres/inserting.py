"""Write new tasks: fast when nothing can be met, carefully when something may."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from rota.core.task import Along, Claimed, Fence, Inserted, NewTask, Stored
from rota.errors import LeaseLost, StorageUnavailable
from rota.storage.postgres.arrays import reals, texts, uuids, whole
from rota.storage.postgres.connections import Statements
from rota.storage.postgres.feeding import told
from rota.storage.tables import to_micros

_COLUMNS = (
    ("id", "uuid"),
    ("queue", "text"),
    ("work", "text"),
    ("priority", "smallint"),
    ("at", "timestamptz"),
    ("delay", "double precision"),
    ("expires_at", "timestamptz"),
    ("expires_in", "double precision"),
    ("unique", "text"),
    ("params", "text"),
    ("options", "text"),
    ("meta", "text"),
    ("parent", "uuid"),
    ("recurring", "text"),
    ("fire_at", "timestamptz"),
)
_NAMES = ", ".join(f'"{name}"' for name, _ in _COLUMNS)
_LITERAL = {"uuid", "smallint", "double precision", "text"}
_ARRAYS = ", ".join(
    f"%({name}){'s' if kind in _LITERAL else 'b'}::{kind}[]" for name, kind in _COLUMNS
)
_ASKED = f"""asked as materialized (
  select a.*, coalesce(a."at", {{now}} + make_interval(secs => a.delay)) as due
  from unnest({_ARRAYS}) with ordinality as a({_NAMES}, place))"""
# Whatever enters a lane enters at or after the present, where no cursor has been yet.
_RUN_AT = "greatest(a.due, {now})"
_EXPIRES = "coalesce(a.expires_at, a.due + make_interval(secs => a.expires_in))"
_TASK = f"""insert into {{s}}rota_task
    (id, queue, work, priority, run_at, expires_at, unique_key)
  select a.id, a.queue, a.work, a.priority, {_RUN_AT}, {_EXPIRES}, a."unique" from asked a"""
_BODY = """insert into {s}rota_body
    (id, params, options, meta, created_at, due_at, parent, recurring, fire_at)
  select a.id, a.params, a.options, a.meta::jsonb, {now}, a.due, a.parent, a.recurring, a.fire_at
  from asked a"""

_NEWS = f"c as ({told('asked', state='0')})"

_PLAIN = f"with {_ASKED}, t as ({_TASK}), {_NEWS} {_BODY}"
# Working from the start: for a node that is entered, and while their queues are not paused.
_ALONG = f"""with n as (
  select id from {{s}}rota_node
  where id = %(node)s and not exists (
    select 1 from {{s}}rota_queue q
    where q.queue = any(%(queues)s::text[]) and q.paused_at is not null)
  for key share),
{_ASKED},
own as materialized (
  select a.*, a.place = any(%(along)s::bigint[]) and exists (select 1 from n) as taken
  from asked a),
t as (
  insert into {{s}}rota_task
    (id, queue, work, priority, run_at, expires_at, state, node, batch, attempt)
  select a.id, a.queue, a.work, a.priority, {_RUN_AT}, {_EXPIRES}, a.taken::integer,
    case when a.taken then %(node)s::bigint end, case when a.taken then %(batch)s::bigint end,
    a.taken::integer
  from own a
  returning id, run_at, expires_at, state),
le as (
  insert into {{s}}rota_lease (node, batch, ids)
  select %(node)s::bigint, %(batch)s::bigint, array_agg(a.id) from own a
  where a.taken having count(*) > 0),
{_NEWS}, b as ({_BODY})
select t.id::text, (date_part('epoch', t.run_at) * 1000000)::bigint,
  date_part('epoch', t.expires_at - {{now}})
from t where t.state = 1"""
# Keys in one order everywhere, so that two groups cannot wait for each other; of two alike
# the first in the call.
_TRY = f"""with {_ASKED} {_TASK}
  order by a."unique", a.place on conflict do nothing returning id::text"""
# A body left over from a history that is being removed is not this task's any more.
_BODIES = f"""with {_ASKED}, {_NEWS} {_BODY}
  on conflict (id) do update set (version, params, options, meta, created_at, due_at, parent,
    recurring, fire_at) = (1, excluded.params, excluded.options, excluded.meta,
    excluded.created_at, excluded.due_at, excluded.parent, excluded.recurring, excluded.fire_at)"""
# Of two alike the caller passes one. A key whose time is over goes to whoever asks first.
_TAKE_PERIODS = """insert into {s}rota_unique as u (key, task, expires_at)
  select o.key, o.task, {now} + make_interval(secs => o.period)
  from unnest(%(keys)b::text[], %(ids)s::uuid[], %(periods)b::double precision[])
    as o(key, task, period)
  order by o.key
  on conflict (key) do update set task = excluded.task, expires_at = excluded.expires_at
  where u.expires_at <= {now} returning u.task::text"""
# Shared, so that siblings need not wait for each other; whoever ends the parent does.
_FENCED = """select o.id::text from unnest(%(ids)s::uuid[], %(nodes)b::bigint[],
    %(batches)b::bigint[]) as o(id, node, batch)
  cross join lateral (
    select 1 from {s}rota_task t
    where t.id = o.id and t.node = o.node and t.batch = o.batch and t.state = 1
    limit 1 for share of t) k"""
_ENDED = """select h.id::text, h.state from {s}rota_done h where h.id = any(%(ids)s::uuid[])
  union all
  select h.id::text, h.state from {s}rota_failed h where h.id = any(%(ids)s::uuid[])"""
# No token: these rows were inserted by this very transaction, nobody else has seen them.
_WITHDRAW = "delete from {s}rota_task where id = any(%(ids)s::uuid[])"
_BY_ID = "select id::text, state from {s}rota_task where id = any(%(ids)s::uuid[])"
_BY_KEY = """select unique_key, id::text, state from {s}rota_task
  where unique_key is not null and unique_key = any(%(keys)b::text[])"""
# The period outlasts the task, and may outlast its history.
_BY_PERIOD = """select k.key, k.task::text, coalesce(t.state, d.state, f.state, 3)
  from unnest(%(keys)b::text[]) as o(key)
  cross join lateral (
    select u.key, u.task from {s}rota_unique u
    where u.key = o.key and u.expires_at > {now} limit 1) k
  left join lateral (select x.state from {s}rota_task x where x.id = k.task limit 1) t on true
  left join lateral (select x.state from {s}rota_done x where x.id = k.task limit 1) d on true
  left join lateral (select x.state from {s}rota_failed x where x.id = k.task limit 1) f on true"""
_LOCK_WAITING = """select id::text, state from {s}rota_task
  where id = %(id)s::uuid and state <> 1 for update"""
# No token: the row was locked while it waited.
_REPLACE = f"""with {_ASKED},
t as (
  update {{s}}rota_task t set queue = a.queue, priority = a.priority, run_at = {_RUN_AT},
    expires_at = {_EXPIRES}, version = t.version + 1
  from asked a where t.id = %(holder)s::uuid and t.state <> 1
  returning t.id, t.version)
update {{s}}rota_body b set params = a.params, options = a.options, meta = a.meta::jsonb,
    due_at = a.due, version = t.version
  from t, asked a where b.id = %(holder)s::uuid"""

_ROUNDS = 6  #: the last one only looks whether all are answered


class Inserting:
    """The statements that put tasks in, for one schema."""

    def __init__(self, *, prefix: str, now: str) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._plain, self._try, self._bodies = bound(_PLAIN), bound(_TRY), bound(_BODIES)
        self._along = bound(_ALONG)
        self._ended, self._withdraw = bound(_ENDED), bound(_WITHDRAW)
        self._by_id, self._by_key = bound(_BY_ID), bound(_BY_KEY)
        self._take_periods, self._by_period = bound(_TAKE_PERIODS), bound(_BY_PERIOD)
        self._fenced = bound(_FENCED)
        self._lock_waiting, self._replace = bound(_LOCK_WAITING), bound(_REPLACE)

    def plain(self, session: Statements, tasks: Sequence[NewTask]) -> list[Inserted]:
        """All of them in one statement; psycopg's ``UniqueViolation`` if any id is taken."""
        session.rows(self._plain, **_arrays(tasks))
        return [Inserted(task.id, True, Stored.SCHEDULED) for task in tasks]

    def plain_along(
        self, session: Statements, tasks: Sequence[NewTask], along: Along
    ) -> list[Inserted]:
        """The same, and claims those ``along`` names."""
        places = [place for place, task in enumerate(tasks, 1) if task.id in along.ids]
        rows = session.rows(
            self._along,
            node=along.node,
            batch=along.batch,
            along=whole(places),
            queues=texts(sorted({tasks[place - 1].queue for place in places})),
            **_arrays(tasks),
        )
        taken = {task_id: rest for task_id, *rest in rows}
        return [
            Inserted(
                task.id,
                True,
                Stored.SCHEDULED,
                claimed=_claimed(task, along.batch, *taken[task.id]) if task.id in taken else None,
            )
            for task in tasks
        ]

    def careful(
        self, session: Statements, tasks: Sequence[NewTask], *, repeated: bool
    ) -> list[Inserted]:
        """Those that meet nothing, in the caller's transaction; the rest are answered.

        Each statement takes a fresh snapshot: what was met may have ended before the next.
        Raises ``LeaseLost`` for a fence that does not hold, before anything is written.
        """
        self._hold_fences(session, {task.fence for task in tasks if task.fence is not None})
        answers: dict[int, Inserted] = {}
        for _ in range(_ROUNDS):
            left = [index for index in range(len(tasks)) if index not in answers]
            if not left:
                return [answers[index] for index in range(len(tasks))]
            self._round(session, tasks, left, answers, repeated=repeated)
        raise StorageUnavailable("tasks with the same unique key kept coming and going; try again")

    def _round(
        self,
        session: Statements,
        tasks: Sequence[NewTask],
        left: Sequence[int],
        answers: dict[int, Inserted],
        *,
        repeated: bool,
    ) -> None:
        """Try those left; whoever met something that is gone by now stays unanswered."""
        first = {tasks[index].id: index for index in reversed(left)}
        entered = session.rows(self._try, **_arrays([tasks[index] for index in left]))
        created = {str(row[0]): first[str(row[0])] for row in entered}
        suspects = [i for i in created if repeated or tasks[created[i]].given_id]
        ended = self._ended_of(session, suspects)
        for task_id, state in ended.items():
            answers[created.pop(task_id)] = Inserted(task_id, False, state)
        late = self._without_period(session, [tasks[index] for index in created.values()])
        if ended or late:
            session.rows(self._withdraw, ids=uuids([*ended, *late]))
        for task_id in late:
            del created[task_id]
        if created:
            session.rows(self._bodies, **_arrays([tasks[index] for index in created.values()]))
            for task_id, index in created.items():
                answers[index] = Inserted(task_id, True, Stored.SCHEDULED)
        met = [i for i in left if i not in answers]
        self._answer_met(session, tasks, met, answers, repeated=repeated)

    def _answer_met(
        self,
        session: Statements,
        tasks: Sequence[NewTask],
        met: Sequence[int],
        answers: dict[int, Inserted],
        *,
        repeated: bool,
    ) -> None:
        if not met:
            return
        ids = [tasks[index].id for index in met]
        by_id = {row[0]: Stored(row[1]) for row in session.rows(self._by_id, ids=uuids(ids))}
        by_id |= self._ended_of(session, [task_id for task_id in ids if task_id not in by_id])
        by_key = self._holders(session, [tasks[index] for index in met])
        for index in met:
            task = tasks[index]
            if task.id in by_id:
                answer = Inserted(task.id, False, by_id[task.id])
            elif (task.unique, task.period is None) in by_key:
                holder, state = by_key[task.unique, task.period is None]
                answer = Inserted(holder, False, Stored(state), by_key=True)
            else:
                continue
            # What an earlier try of this call has written is as it was asked to be.
            own = repeated and not task.given_id and answer.id == task.id
            settled = answer if own else self._replaced(session, task, answer)
            if settled is not None:
                answers[index] = settled

    def _hold_fences(self, session: Statements, fences: Collection[Fence]) -> None:
        """See that the parents still have their tokens, and keep it so until the end."""
        if not fences:
            return
        wanted = sorted(fences, key=lambda fence: fence.task)
        rows = session.rows(
            self._fenced,
            ids=uuids(fence.task for fence in wanted),
            nodes=[fence.node for fence in wanted],
            batches=[fence.batch for fence in wanted],
        )
        held = {row[0] for row in rows}
        for fence in wanted:
            if fence.task not in held:
                raise LeaseLost(fence.task)

    def _without_period(self, session: Statements, entered: Sequence[NewTask]) -> list[str]:
        """Take the period keys; the ids of those whose key was somebody's already."""
        asking = [task for task in entered if task.unique is not None and task.period is not None]
        if not asking:
            return []
        chosen = {task.unique: task for task in reversed(asking)}
        rows = session.rows(
            self._take_periods,
            keys=list(chosen),
            ids=uuids(task.id for task in chosen.values()),
            periods=[float(task.period or 0.0) for task in chosen.values()],
        )
        took = {row[0] for row in rows}
        return [task.id for task in asking if task.id not in took]

    def _holders(
        self, session: Statements, tasks: Sequence[NewTask]
    ) -> dict[tuple[str | None, bool], tuple[str, int]]:
        """Who has the keys: by (key, whether it ends with its task), the id and the state."""
        found = {}
        for sql, plain in ((self._by_key, True), (self._by_period, False)):
            keys = {t.unique for t in tasks if t.unique and (t.period is None) is plain}
            rows = session.rows(sql, keys=list(keys)) if keys else []
            found.update({(key, plain): (holder, state) for key, holder, state in rows})
        return found

    def _replaced(self, session: Statements, task: NewTask, met: Inserted) -> Inserted | None:
        """The answer, after replacing what waits if asked; None if it was gone by then."""
        waiting = met.state in {Stored.SCHEDULED, Stored.PARKED}
        if task.on_conflict != "replace" or not waiting:
            return met
        locked = session.rows(self._lock_waiting, id=met.id)
        if not locked:
            return None
        session.rows(self._replace, holder=met.id, **_arrays([task]))
        return met._replace(state=Stored(locked[0][1]))

    def _ended_of(self, session: Statements, ids: Sequence[str]) -> dict[str, Stored]:
        if not ids:
            return {}
        return {row[0]: Stored(row[1]) for row in session.rows(self._ended, ids=uuids(ids))}


def _claimed(task: NewTask, batch: int, run_at: int, expires_in: float | None) -> Claimed:
    """As a claim would have read it back."""
    return Claimed(
        task.id,
        task.work,
        task.queue,
        task.priority,
        1,
        batch,
        task.params,
        task.options,
        0.0,
        run_at,
        expires_in,
        0,
        task.meta,
        task.parent,
        task.recurring,
        None if task.fire_at is None else to_micros(task.fire_at),
    )


def _arrays(tasks: Sequence[NewTask]) -> dict[str, Any]:
    """One array per column; of a column of nothing none, since ``unnest`` fills it up."""
    fields = dict(zip(NewTask._fields, zip(*tasks, strict=True), strict=True))
    # A period key is not the task's: it stands in a table of its own.
    fields["unique"] = tuple(task.unique if task.period is None else None for task in tasks)
    return {name: _DUMP.get(kind, _instants)(fields[name]) for name, kind in _COLUMNS}


def _instants(moments: Sequence[datetime | None]) -> list[datetime | None]:
    return list(moments) if any(moments) else []


_DUMP: dict[str, Callable[[Any], Any]] = {
    "uuid": uuids,
    "smallint": whole,
    "double precision": reals,
    "text": texts,
}
