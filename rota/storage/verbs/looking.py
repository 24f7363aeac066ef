"""Look at tasks, wherever they are: waiting, working or in history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Table,
    TableValuedAlias,
    Text,
    cast,
    func,
    literal_column,
    select,
    true,
)

from rota.core.codec import load
from rota.core.options import options_or_default
from rota.core.task import Attempt, CancelNotice, NodeView, Stored, Task
from rota.errors import DamagedTask, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rota.storage.tables import Now, Tables

#: Ids in one IN list; far below every database's limit on parameters.
_CHUNK = 500
#: Waiting tasks are counted exactly up to this; one more means "more than".
COUNT_LIMIT = 10_000


def get(conn: Connection, tables: Tables, task_id: str) -> Task | None:
    """The task from its row or, finished, from history.

    The row is looked for first: a task that finishes in between is then found in history.
    """
    row = conn.execute(_unfinished(tables).where(tables.task.c.id == task_id)).first()
    if row is not None:
        return _waiting(row)
    for history in (tables.done, tables.failed):
        row = conn.execute(_finished(tables, history).where(history.c.id == task_id)).first()
        if row is not None:
            return _ended(row)
    return None


def states(conn: Connection, tables: Tables, task_ids: Sequence[str]) -> dict[str, Stored]:
    """The stored state of each id that exists."""
    found: dict[str, Stored] = {}
    for source in (tables.task, tables.done, tables.failed):
        missing = [task_id for task_id in task_ids if task_id not in found]
        for chunk in _chunks(missing):
            rows = conn.execute(select(source.c.id, source.c.state).where(source.c.id.in_(chunk)))
            found.update((row.id, Stored(row.state)) for row in rows)
    return found


def finished_state(conn: Connection, tables: Tables, task_id: str) -> Stored | None:
    """The final state history shows for this id."""
    for history in (tables.done, tables.failed):
        state = conn.execute(select(history.c.state).where(history.c.id == task_id)).scalar()
        if state is not None:
            return Stored(state)
    return None


def attempts_of(
    conn: Connection, tables: Tables, task_ids: Sequence[str]
) -> dict[str, list[Attempt]]:
    """The attempts that ended, oldest first; the outcome that finished a task is its last."""
    found: dict[str, list[Attempt]] = {task_id: [] for task_id in task_ids}
    ended = tables.attempt
    for chunk in _chunks(task_ids):
        query = select(ended).where(ended.c.id.in_(chunk)).order_by(ended.c.finished_at)
        if conn.dialect.name == "sqlite":
            # Its clock may stand still between two transactions; rows are numbered as they come.
            query = query.order_by(literal_column("rota_attempt.rowid"))
        for row in conn.execute(query.order_by(ended.c.attempt, ended.c.batch)):
            found[row.id].append(_attempt(row))
        for history in (tables.done, tables.failed):
            # Without a node it ended while it waited: that was no attempt.
            last = select(history).where(history.c.id.in_(chunk), history.c.node.is_not(None))
            for row in conn.execute(last):
                found[row.id].append(_last_attempt(row))
    return found


def bodies(conn: Connection, tables: Tables, task_ids: Sequence[str]) -> dict[str, str]:
    """The params of each id that has a body, as JSON text."""
    body, found = tables.body, dict[str, str]()
    for chunk in _chunks(task_ids):
        rows = conn.execute(select(body.c.id, body.c.params).where(body.c.id.in_(chunk)))
        found.update((row.id, row.params) for row in rows)
    return found


def still_mine(conn: Connection, tables: Tables, node: int, task_ids: Sequence[str]) -> set[str]:
    """Which of these are working under this node, whatever their batch."""
    task, found = tables.task, set[str]()
    for chunk in _chunks(task_ids):
        query = select(task.c.id).where(task.c.id.in_(chunk), task.c.node == node)
        found.update(conn.execute(query.where(task.c.state == Stored.WORKING.value)).scalars())
    return found


def find_key(conn: Connection, tables: Tables, unique: str, *, now: Now) -> str | None:
    """The unfinished task with this unique key, else the one this period key is taken for."""
    task, period = tables.task, tables.unique
    found: str | None = conn.execute(select(task.c.id).where(task.c.unique_key == unique)).scalar()
    if found is None:
        query = select(task.c.id).join(period, period.c.task == task.c.id)
        taken = query.where(period.c.key == unique, period.c.expires_at > now(0.0))
        found = conn.execute(taken).scalar()
    return found


def strangers(
    conn: Connection, tables: Tables, works: Collection[str], limit: int
) -> list[tuple[str, str]]:
    """Parked tasks (id, work) whose work is none of these.

    From one parked work to the next, so that many parked tasks of known works cost nothing.
    """
    task, known = tables.task, set(works)
    parked = task.c.state == _literal(Stored.PARKED)
    found: list[tuple[str, str]] = []
    work: str | None = ""
    while len(found) < limit:
        work = conn.execute(
            select(func.min(task.c.work)).where(parked, task.c.work > work)
        ).scalar()
        if work is None:
            break
        if work not in known:
            rows = select(task.c.id).where(parked, task.c.work == work).limit(limit - len(found))
            found += [(row.id, work) for row in conn.execute(rows)]
    return found


def counts(conn: Connection, tables: Tables) -> dict[str, int]:
    """Unfinished tasks by status; what waits is counted up to ``COUNT_LIMIT`` + 1."""
    return {
        "scheduled": _count_waiting(conn, tables, Stored.SCHEDULED),
        "working": _count_working(conn, tables),
        "parked": _count_waiting(conn, tables, Stored.PARKED),
    }


def nodes(conn: Connection, tables: Tables, now: Now) -> list[NodeView]:
    """All incarnations with what is left of their leases by the database's clock."""
    node = tables.node
    rows = conn.execute(select(node, now(0.0).label("now")).order_by(node.c.started_at, node.c.id))
    return [
        NodeView(
            id=row.id,
            name=row.name,
            host=row.host,
            pid=row.pid,
            lease=row.lease_seconds,
            lease_left=(row.lease_until - row.now).total_seconds(),
        )
        for row in rows
    ]


def cancels(conn: Connection, tables: Tables, node: int) -> list[CancelNotice]:
    """Running tasks of this node that carry a cancel reason."""
    task = tables.task
    rows = conn.execute(
        select(task.c.id, task.c.batch, task.c.cancel_reason)
        .where(task.c.node == node, task.c.cancel_reason.is_not(None))
        .where(task.c.state == Stored.WORKING.value)
        .order_by(task.c.id)
    )
    return [CancelNotice(id=row.id, batch=row.batch, reason=row.cancel_reason) for row in rows]


def _count_waiting(conn: Connection, tables: Tables, state: Stored) -> int:
    task = tables.task
    # The literal, not a parameter: only then does SQLite see that the partial index fits.
    some = select(task.c.id).where(task.c.state == _literal(state)).limit(COUNT_LIMIT + 1)
    return conn.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def _count_working(conn: Connection, tables: Tables) -> int:
    held = through_leases(conn, tables)
    return conn.execute(select(func.count()).select_from(held.origin)).scalar_one()


class Held(NamedTuple):
    """Working tasks, led to by their leases: where they come from, and their columns."""

    origin: FromClause
    task: FromClause


def through_leases(conn: Connection, tables: Tables, node: int | None = None) -> Held:
    """Working tasks, of one node or all: no index leads to them, but leases name them all.

    PostgreSQL is told by the limit to look them up one by one.
    """
    task, lease = tables.task, tables.lease
    of_node = lease if node is None else lease.select().where(lease.c.node == node).subquery("l")
    held = members(conn, of_node)
    each = of_node.join(held, true())
    working = (task.c.id == held.c.value) & (task.c.state == Stored.WORKING.value)
    if conn.dialect.name == "postgresql":
        token = (task.c.node == of_node.c.node) & (task.c.batch == of_node.c.batch)
        one = select(task).where(working & token).limit(1).lateral("t")
        return Held(each.join(one, true()), one)
    # The sum keeps it from going the other way, from all tasks to the leases' key.
    token = (task.c.node == of_node.c.node + 0) & (task.c.batch == of_node.c.batch + 0)
    return Held(each.join(task, working & token), task)


def members(conn: Connection, lease: FromClause) -> TableValuedAlias:
    """The ids of each lease as rows of one column, ``value``."""
    if conn.dialect.name == "postgresql":
        return func.unnest(lease.c.ids).table_valued("value", name="held").render_derived()
    return func.json_each(lease.c.ids).table_valued("value", name="held")


def _literal(value: int) -> ColumnElement[int]:
    return literal_column(str(int(value)))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def told(row: Row[Any]) -> Task:
    """The task of a row that has the columns of all the tables."""
    return _ended(row) if Stored(row.state).public.final else _waiting(row)


def body_columns(body: Table) -> list[ColumnElement[Any]]:
    """What a task's body says of it."""
    return [
        body.c.params,
        body.c.options,
        cast(body.c.meta, Text).label("meta"),
        body.c.created_at,
        body.c.due_at,
        body.c.parent,
        body.c.recurring,
        body.c.fire_at,
    ]


def _read(row: Row[Any], text: str | None) -> Any:
    """The value of the row's JSON; a damaged row says whose it is."""
    try:
        return load(text)
    except InvalidArgument as error:
        raise DamagedTask(row.id, str(error)) from error


def _unfinished(tables: Tables) -> Select[Any]:
    task, body = tables.task, tables.body
    return select(task, *body_columns(body)).join(body, body.c.id == task.c.id)


def _finished(tables: Tables, history: Table) -> Select[Any]:
    body = tables.body
    return select(history, body.c.version, *body_columns(body)).join(
        body, body.c.id == history.c.id
    )


def _asked(row: Row[Any]) -> dict[str, Any]:
    """What the body and both kinds of row have in common."""
    return {
        "id": row.id,
        "work": row.work,
        "params": _read(row, row.params),
        "state": Stored(row.state).public,
        "queue": row.queue,
        "priority": row.priority,
        "run_at": row.run_at,
        "due_at": row.due_at,
        "created_at": row.created_at,
        "attempt": row.attempt,
        "max_attempts": options_or_default(row.options).max_attempts,
        "version": row.version,
        "node": row.node,
        "batch": row.batch,
        "meta": _read(row, row.meta),
        "parent": row.parent,
        "recurring": row.recurring,
        "fire_at": row.fire_at,
    }


def _waiting(row: Row[Any]) -> Task:
    return Task(
        **_asked(row),
        expires_at=row.expires_at,
        losses=row.losses,
        parked=row.state == Stored.PARKED,
        unique=row.unique_key,
        cancel_reason=row.cancel_reason,
    )


def _ended(row: Row[Any]) -> Task:
    done = row.state == Stored.DONE
    return Task(
        **_asked(row),
        started_at=row.started_at,
        finished_at=row.finished_at,
        result=_read(row, row.payload) if done else None,
        error=None if done else _read(row, row.payload),
        reason=row.reason,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        task_id=row.id,
        attempt=row.attempt,
        outcome=row.outcome,
        node=row.node,
        batch=row.batch,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason=row.reason,
        error=_read(row, row.error),
    )


def _last_attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        task_id=row.id,
        attempt=row.attempt,
        outcome=str(Stored(row.state).public),
        node=row.node,
        batch=row.batch,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason=row.reason,
        error=None if row.state == Stored.DONE else _read(row, row.payload),
    )
