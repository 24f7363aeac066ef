"""Finish one task inside the caller's own transaction, fenced by its token."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from rota.core.task import Ending, Finish, Stored
from rota.errors import InvalidArgument, LeaseLost
from rota.storage.verbs import feeding, joining, looking

if TYPE_CHECKING:
    from rota.storage.tables import Now, Tables


def finish_joined(conn: Connection, tables: Tables, node: int, finish: Finish, *, now: Now) -> None:
    """Move the task into history, drop its lease, and insert what follows it.

    Locks lease, then task, as everywhere. Raises ``LeaseLost``, with nothing written,
    when the token is not the task's, and ``InvalidArgument`` for an outcome after which
    the task goes on.
    """
    if not finish.ending.terminal:
        raise InvalidArgument(
            f"{finish.ending.name.lower()} cannot be written in your transaction, since the task "
            "goes on; finish it there with done, failed or cancelled, or return the outcome",
            field="finish",
        )
    row = _lock(conn, tables, node, finish, now)
    if row is None:
        raise LeaseLost(finish.id)
    _remove(conn, tables, node, finish)
    _keep(conn, tables, row, finish)
    _drop_lease(conn, tables, node, finish.batch)
    if finish.end_recurring:
        _end_recurring(conn, tables, finish.id)
    feeding.note(conn, tables, [(finish.id, Stored(finish.ending.value))], now=now)
    if finish.follow is not None:
        # The token above was its fence, and what it meets is no reason not to finish.
        follow = finish.follow._replace(on_conflict="return", fence=None)
        joining.insert_joined(conn, tables, [follow], now=now)


def _lock(conn: Connection, tables: Tables, node: int, finish: Finish, now: Now) -> Row[Any] | None:
    task, lease = tables.task, tables.lease
    conn.execute(
        select(lease.c.batch)
        .where(lease.c.node == node, lease.c.batch == finish.batch)
        .with_for_update()
    ).first()
    mine = select(task, now(0.0).label("now")).where(*_token(task, node, finish))
    return conn.execute(mine.with_for_update()).first()


def _token(task: Any, node: int, finish: Finish) -> tuple[Any, ...]:
    return (
        task.c.id == finish.id,
        task.c.state == Stored.WORKING.value,
        task.c.node == node,
        task.c.batch == finish.batch,
    )


def _remove(conn: Connection, tables: Tables, node: int, finish: Finish) -> None:
    conn.execute(delete(tables.task).where(*_token(tables.task, node, finish)))


def _keep(conn: Connection, tables: Tables, row: Row[Any], finish: Finish) -> None:
    """Into history and the counts; nothing may keep a task from ending, not an older row."""
    failed = finish.ending is Ending.FAILED
    statement = insert(tables.failed if failed else tables.done)
    reason = finish.reason
    if finish.ending is Ending.CANCELLED:
        reason = reason or row.cancel_reason
    conn.execute(
        statement.prefix_with("or replace", dialect="sqlite").values(
            id=row.id,
            state=finish.ending.value,
            queue=row.queue,
            work=row.work,
            priority=row.priority,
            attempt=row.attempt,
            node=row.node,
            batch=row.batch,
            run_at=row.run_at,
            started_at=None if finish.ago is None else row.now - timedelta(seconds=finish.ago),
            finished_at=row.now,
            reason=reason,
            payload=finish.payload,
        )
    )
    conn.execute(
        insert(tables.tally).values(
            minute=row.now.replace(second=0, microsecond=0),
            queue=row.queue,
            work=row.work,
            state=finish.ending.value,
            n=1,
            seconds=finish.ago or 0.0,
        )
    )


def _drop_lease(conn: Connection, tables: Tables, node: int, batch: int) -> None:
    """Unless others still work under it: without the lease nobody would find them again."""
    lease, task = tables.lease, tables.task
    held = looking.members(conn, lease)
    others = (
        exists()
        .select_from(held)
        .where(task.c.id == held.c.value, task.c.state == Stored.WORKING.value)
        .where(task.c.node == node, task.c.batch == batch)
        .correlate(lease)
    )
    conn.execute(delete(lease).where(lease.c.node == node, lease.c.batch == batch, ~others))


def _end_recurring(conn: Connection, tables: Tables, task_id: str) -> None:
    body, recurring = tables.body, tables.recurring
    mine = select(body.c.recurring).where(body.c.id == task_id).scalar_subquery()
    conn.execute(update(recurring).where(recurring.c.id == mine).values(next_fire_at=None))
