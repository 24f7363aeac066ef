"""Cancel and change one task: its row is locked first, and what was read under the lock decides."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy import func as sql

from rota.core.clock import Seconds, instant, seconds
from rota.core.names import check_priority, check_queue
from rota.core.task import Stored, Task
from rota.errors import InvalidArgument, StaleVersion, TaskNotFound, WrongState
from rota.storage.verbs import looking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rota.storage.tables import Now, Tables

_CHANGEABLE = frozenset({"at", "delay", "priority", "queue", "params"})


def cancel(
    conn: Connection, tables: Tables, task_id: str, reason: str, *, now: Now
) -> Stored | None:
    """Cancel what waits, leave a reason for what works; the state it met.

    Runs in the caller's transaction. The first reason stands.
    """
    row = _lock(conn, tables, task_id, now)
    if row is None:
        return looking.finished_state(conn, tables, task_id)
    met = Stored(row.state)
    if met is Stored.WORKING:
        _ask_to_stop(conn, tables, task_id, reason)
    else:
        _remove(conn, tables, row, reason)
    return met


def change(
    conn: Connection,
    tables: Tables,
    task_id: str,
    changes: Mapping[str, object],
    expected_version: int | None,
    *,
    now: Now,
) -> Task:
    """Change a waiting task and count its version up; the task as it is then.

    Runs in the caller's transaction. Raises ``TaskNotFound``, ``WrongState``,
    ``StaleVersion``, and ``InvalidArgument`` for a field that cannot be changed.
    """
    unknown = sorted(set(changes) - _CHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"{unknown[0]} cannot be changed; change {', '.join(sorted(_CHANGEABLE))}",
            field=unknown[0],
        )
    row = _lock(conn, tables, task_id, now)
    if row is None:
        final = looking.finished_state(conn, tables, task_id)
        if final is None:
            raise TaskNotFound(task_id)
        raise WrongState(task_id, str(final.public), "only a waiting task can be changed")
    if row.state == Stored.WORKING:
        raise WrongState(task_id, "working", "cancel it, or wait until it has ended")
    if expected_version is not None and expected_version != row.version:
        raise StaleVersion(f"task {task_id}", expected_version, row.version)
    _write(conn, tables, row, changes)
    changed = looking.get(conn, tables, task_id)
    if changed is None:
        raise TaskNotFound(task_id)
    return changed


def _lock(conn: Connection, tables: Tables, task_id: str, now: Now) -> Row[Any] | None:
    query = select(tables.task, now(0.0).label("now")).where(tables.task.c.id == task_id)
    return conn.execute(query.with_for_update()).first()


def _ask_to_stop(conn: Connection, tables: Tables, task_id: str, reason: str) -> None:
    task = tables.task
    # No token: the caller asks whichever attempt has it, and the row is locked.
    conn.execute(
        update(task)
        .where(task.c.id == task_id, task.c.state == Stored.WORKING.value)
        .values(cancel_reason=sql.coalesce(task.c.cancel_reason, reason))
    )


def _remove(conn: Connection, tables: Tables, row: Row[Any], reason: str) -> None:
    task = tables.task
    conn.execute(delete(task).where(task.c.id == row.id, task.c.state != Stored.WORKING.value))
    conn.execute(
        insert(tables.done).values(
            id=row.id,
            state=Stored.CANCELLED.value,
            queue=row.queue,
            work=row.work,
            priority=row.priority,
            attempt=row.attempt,
            run_at=row.run_at,
            finished_at=row.now,
            reason=reason,
        )
    )
    conn.execute(
        insert(tables.tally).values(
            minute=row.now.replace(second=0, microsecond=0),
            queue=row.queue,
            work=row.work,
            state=Stored.CANCELLED.value,
            n=1,
            seconds=0.0,
        )
    )


def _write(conn: Connection, tables: Tables, row: Row[Any], changes: Mapping[str, object]) -> None:
    task, body = tables.task, tables.body
    version = row.version + 1
    of_task: dict[str, Any] = {"version": version}
    # The body follows every version: a claim re-reads it when the two differ.
    of_body: dict[str, Any] = {"version": version}
    due = _due(changes, row.now)
    if due is not None:
        of_body["due_at"] = due
    # Whatever enters a lane enters at or after the present, where no cursor has been yet.
    of_task["run_at"] = max(due or row.run_at, row.now)
    if "priority" in changes:
        of_task["priority"] = check_priority(changes["priority"])
    if "queue" in changes:
        of_task["queue"] = check_queue(changes["queue"])
    if "params" in changes:
        of_body["params"] = changes["params"]
    conn.execute(
        update(task)
        .where(task.c.id == row.id, task.c.state != Stored.WORKING.value)
        .values(of_task)
    )
    conn.execute(update(body).where(body.c.id == row.id).values(of_body))


def _due(changes: Mapping[str, object], now: datetime) -> datetime | None:
    if changes.get("at") is not None:
        return instant(changes["at"], "at")
    delay = changes.get("delay")
    if delay is None:
        return None
    wait: float = seconds(cast("Seconds", delay), "delay")
    return now + timedelta(seconds=wait)
