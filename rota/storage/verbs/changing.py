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
from rota.storage.verbs import feeding, looking
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rota.storage.tables import Now, Tables

_CHANGEABLE = frozenset({"at", "delay", "priority", "queue", "params"})


def cancel(
    conn: Connection,
    tables: Tables,
    task_id: str,
    reason: str,
    *,
    tombstone: bool = False,
    now: Now,
) -> Stored | None:
    """Cancel what waits, leave a reason for what works; the state it met.

    Runs in the caller's transaction. The first reason stands. With ``tombstone`` an
    unknown id gets a cancelled task's history, and the answer is ``CANCELLED``.
    """
    row = _lock(conn, tables, task_id, now)
    if row is None:
        final = looking.finished_state(conn, tables, task_id)
        if final is not None or not tombstone:
            return final
        if not _bury_unborn(conn, tables, task_id, reason, now=now):
            return cancel(conn, tables, task_id, reason, tombstone=tombstone, now=now)
        feeding.note(conn, tables, [(task_id, Stored.CANCELLED)], now=now)
        return Stored.CANCELLED
    met = Stored(row.state)
    if met is Stored.WORKING:
        _ask_to_stop(conn, tables, task_id, reason)
    else:
        _remove(conn, tables, row, reason)
        feeding.note(conn, tables, [(task_id, Stored.CANCELLED)], now=now)
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


def _bury_unborn(conn: Connection, tables: Tables, task_id: str, reason: str, *, now: Now) -> bool:
    """Write history for a task that never was; False when it has come to be meanwhile."""
    task, body, moment = tables.task, tables.body, now(0.0)
    of_task = {"queue": "default", "work": "", "priority": 0, "attempt": 0, "run_at": moment}
    # The row makes an insert with this id wait for this transaction, and then look in history.
    entered = conn.execute(
        upserting(conn, task)
        .values(**of_task, id=task_id, state=Stored.PARKED.value, losses=0, version=1)
        .on_conflict_do_nothing()
        .returning(task.c.id)
    )
    if entered.first() is None:
        return False
    conn.execute(
        upserting(conn, body)
        .values(id=task_id, version=1, params="{}", options="{}", created_at=moment, due_at=moment)
        .on_conflict_do_nothing(index_elements=[body.c.id])
    )
    conn.execute(delete(task).where(task.c.id == task_id, task.c.state == Stored.PARKED.value))
    _keep(conn, tables, {**of_task, "id": task_id, "finished_at": moment, "reason": reason})
    return True


def _keep(conn: Connection, tables: Tables, values: dict[str, Any]) -> None:
    """Into history as cancelled; nothing may keep a task from ending, not even an older row."""
    statement = insert(tables.done).prefix_with("or replace", dialect="sqlite")
    conn.execute(statement.values(**values, state=Stored.CANCELLED.value))


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
    names = ("id", "queue", "work", "priority", "attempt", "run_at")
    of_task = {name: getattr(row, name) for name in names}
    _keep(conn, tables, {**of_task, "finished_at": row.now, "reason": reason})
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
    due = due_of(changes, row.now)
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


def due_of(changes: Mapping[str, object], now: datetime) -> datetime | None:
    """The time a change asks for, if it asks for one."""
    if changes.get("at") is not None:
        return instant(changes["at"], "at")
    delay = changes.get("delay")
    if delay is None:
        return None
    wait: float = seconds(cast("Seconds", delay), "delay")
    return now + timedelta(seconds=wait)
