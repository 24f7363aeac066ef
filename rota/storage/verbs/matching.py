"""Change many tasks in one transaction: each is locked first, in the order of ids, then judged."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from rota.core.task import Lane, Stored
from rota.storage.verbs import changing, feeding, looking
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rota.storage.tables import Now, Tables


def cancel_many(
    conn: Connection, tables: Tables, task_ids: Sequence[str], reason: str, *, now: Now
) -> dict[str, Stored]:
    """Cancel what waits, ask what works; the states met, of those that exist."""
    task = tables.task
    rows = _locked(conn, tables, task_ids, now)
    met = {row.id: Stored(row.state) for row in rows}
    working = [row.id for row in rows if row.state == Stored.WORKING]
    if working:
        # No token: the caller asks whichever attempt has it, and the rows are locked.
        conn.execute(
            update(task)
            .where(task.c.id.in_(working), task.c.state == Stored.WORKING.value)
            .values(cancel_reason=func.coalesce(task.c.cancel_reason, reason))
        )
    _end(conn, tables, [row for row in rows if row.state != Stored.WORKING], reason, now)
    return met | looking.states(conn, tables, [one for one in task_ids if one not in met])


def reschedule_many(
    conn: Connection,
    tables: Tables,
    task_ids: Sequence[str],
    changes: Mapping[str, object],
    *,
    now: Now,
) -> dict[str, Lane]:
    """Give those that wait another time; the lanes they wait in now."""
    task, body = tables.task, tables.body
    rows = [row for row in _locked(conn, tables, task_ids, now) if row.state != Stored.WORKING]
    if not rows:
        return {}
    moment: datetime = rows[0].now
    due = changing.due_of(changes, moment) or moment
    ids = [row.id for row in rows]
    # Whatever enters a lane enters at or after the present, where no cursor has been yet.
    conn.execute(
        update(task)
        .where(task.c.id.in_(ids), task.c.state != Stored.WORKING.value)
        .values(run_at=max(due, moment), version=task.c.version + 1)
    )
    follows = select(task.c.version).where(task.c.id == body.c.id).scalar_subquery()
    conn.execute(update(body).where(body.c.id.in_(ids)).values(due_at=due, version=follows))
    due_in = max(0.0, (due - moment).total_seconds())
    return {row.id: Lane(row.queue, row.priority, due_in) for row in rows}


def retry_many(
    conn: Connection, tables: Tables, task_ids: Sequence[str], *, now: Now
) -> dict[str, Lane]:
    """Take failed and cancelled tasks out of history, to wait again; the lanes they wait in."""
    lanes: dict[str, Lane] = {}
    for history in (tables.failed, tables.done):
        rows = _ended(conn, history, task_ids, now)
        for row in _revived(conn, tables, history, rows):
            lanes[row.id] = Lane(row.queue, row.priority, 0.0)
    feeding.note(conn, tables, [(one, Stored.SCHEDULED) for one in lanes], now=now)
    return lanes


def delete_many(
    conn: Connection, tables: Tables, task_ids: Sequence[str], before: datetime | None = None
) -> set[str]:
    """Remove finished tasks, if need be only those that ended before; which."""
    gone: set[str] = set()
    for history in (tables.done, tables.failed):
        mine: list[ColumnElement[bool]] = [history.c.id.in_(sorted(task_ids))]
        mine += [] if before is None else [history.c.finished_at < before]
        locked = select(history.c.id).where(*mine).order_by(history.c.id).with_for_update()
        gone.update(conn.execute(locked).scalars())
        conn.execute(delete(history).where(*mine))
    if gone:
        task, body = tables.task, tables.body
        for table in (tables.attempt, tables.report):
            conn.execute(delete(table).where(table.c.id.in_(gone)))
        # An id that was taken anew has a body that belongs to the new task.
        anew = conn.execute(select(task.c.id).where(task.c.id.in_(gone))).scalars().all()
        conn.execute(delete(body).where(body.c.id.in_(gone.difference(anew))))
    return gone


def _ended(
    conn: Connection, history: Table, task_ids: Sequence[str], now: Now
) -> Sequence[Row[Any]]:
    """Failed or cancelled ones of these, locked in the order of ids."""
    query = (
        select(history, now(0.0).label("now"))
        .where(history.c.id.in_(sorted(task_ids)), history.c.state != Stored.DONE.value)
        .order_by(history.c.id)
    )
    return conn.execute(query.with_for_update()).all()


def _revived(
    conn: Connection, tables: Tables, history: Table, rows: Sequence[Row[Any]]
) -> list[Row[Any]]:
    """Move these; those, not written, whose id waits or works already are left out."""
    if not rows:
        return []
    task, body = tables.task, tables.body
    asked = select(body.c.id, body.c.version, body.c.recurring)
    bodies = {
        row.id: row for row in conn.execute(asked.where(body.c.id.in_([row.id for row in rows])))
    }
    waiting = [_waiting_again(row, bodies[row.id].version + 1) for row in rows if row.id in bodies]
    if not waiting:
        return []
    statement = upserting(conn, task).values(waiting).on_conflict_do_nothing()
    entered = set(conn.execute(statement.returning(task.c.id)).scalars())
    moved = [row for row in rows if row.id in entered]
    if not moved:
        return []
    conn.execute(delete(history).where(history.c.id.in_(entered)))
    conn.execute(
        update(body)
        .where(body.c.id.in_(entered))
        .values(version=body.c.version + 1, due_at=rows[0].now)
    )
    conn.execute(insert(tables.attempt).values([_as_attempt(row) for row in moved]))
    children = [
        {"recurring": bodies[row.id].recurring, "task": row.id}
        for row in moved
        if bodies[row.id].recurring is not None
    ]
    if children:
        conn.execute(upserting(conn, tables.child).values(children).on_conflict_do_nothing())
    return moved


def _waiting_again(row: Row[Any], version: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "queue": row.queue,
        "work": row.work,
        "priority": row.priority,
        "state": Stored.SCHEDULED.value,
        "run_at": row.now,
        "attempt": 0,
        "losses": 0,
        "version": version,
    }


def _as_attempt(row: Row[Any]) -> dict[str, Any]:
    """The outcome that had ended the task, as one that did not."""
    return {
        "id": row.id,
        "attempt": row.attempt,
        "outcome": str(Stored(row.state).public),
        "node": row.node,
        "batch": row.batch,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "reason": row.reason,
        "error": row.payload,
    }


def _locked(
    conn: Connection, tables: Tables, task_ids: Sequence[str], now: Now
) -> Sequence[Row[Any]]:
    """Unfinished ones of these, locked in the order of ids."""
    task = tables.task
    query = select(task, now(0.0).label("now")).where(task.c.id.in_(sorted(task_ids)))
    return conn.execute(query.order_by(task.c.id).with_for_update(of=task)).all()


def _end(conn: Connection, tables: Tables, rows: Sequence[Row[Any]], reason: str, now: Now) -> None:
    """Move waiting tasks, which are locked, into history as cancelled, and count them."""
    if not rows:
        return
    task, state = tables.task, Stored.CANCELLED.value
    ids = [row.id for row in rows]
    conn.execute(delete(task).where(task.c.id.in_(ids), task.c.state != Stored.WORKING.value))
    names = ("id", "queue", "work", "priority", "attempt", "run_at")
    ended = [
        {
            **{name: getattr(row, name) for name in names},
            "state": state,
            "finished_at": row.now,
            "reason": reason,
        }
        for row in rows
    ]
    # Nothing may keep a task from ending, not even an older row.
    conn.execute(insert(tables.done).prefix_with("or replace", dialect="sqlite").values(ended))
    minute = rows[0].now.replace(second=0, microsecond=0)
    counted = Counter((row.queue, row.work) for row in rows)
    conn.execute(
        insert(tables.tally).values(
            [
                {
                    "minute": minute,
                    "queue": queue,
                    "work": work,
                    "state": state,
                    "n": n,
                    "seconds": 0.0,
                }
                for (queue, work), n in counted.items()
            ]
        )
    )
    feeding.note(conn, tables, [(one, Stored.CANCELLED) for one in ids], now=now)
