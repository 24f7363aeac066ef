"""Put tasks in, and answer with what is there already."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from rota.core.task import Inserted, NewTask, Stored
from rota.storage.tables import to_micros

_TASK = """insert into rota_task
 (id, queue, work, priority, run_at, expires_at, unique_key) values (?, ?, ?, ?, ?, ?, ?)"""
_BODY = """insert into rota_body
 (id, params, options, meta, created_at, due_at, parent, recurring, fire_at)
 values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class _Times(NamedTuple):
    """One task's times in microseconds."""

    due_at: int
    run_at: int
    expires_at: int | None


def insert_tasks(
    driver: sqlite3.Connection, tasks: Sequence[NewTask], now: int, *, repeated: bool = False
) -> list[Inserted]:
    """Write what is not there yet; one answer each, in order.

    Runs in the caller's transaction, which must have begun as IMMEDIATE.
    """
    if not (repeated or any(task.keyed for task in tasks)) and _write_new(driver, tasks, now):
        return [Inserted(task.id, True, Stored.SCHEDULED) for task in tasks]
    return [_insert_one(driver, task, now, repeated=repeated) for task in tasks]


def _write_new(driver: sqlite3.Connection, tasks: Sequence[NewTask], now: int) -> bool:
    """Write tasks that should meet nobody; False, and nothing written, if one did."""
    driver.execute("savepoint write_new")
    try:
        _write(driver, tasks, now)
        met = False
    except sqlite3.IntegrityError:
        driver.execute("rollback to write_new")
        met = True
    driver.execute("release write_new")
    return not met


def _write(driver: sqlite3.Connection, tasks: Sequence[NewTask], now: int) -> None:
    task_rows, body_rows = [], []
    for task in tasks:
        due_at, run_at, expires_at = _times(task, now)
        task_rows.append(
            (task.id, task.queue, task.work, task.priority, run_at, expires_at, task.unique)
        )
        body_rows.append(
            (
                task.id,
                task.params,
                task.options,
                task.meta,
                now,
                due_at,
                task.parent,
                task.recurring,
                None if task.fire_at is None else to_micros(task.fire_at),
            )
        )
    driver.executemany(_TASK, task_rows)
    driver.executemany(_BODY, body_rows)


def _times(task: NewTask, now: int) -> _Times:
    due_at = now + round(task.delay * 1e6) if task.at is None else to_micros(task.at)
    expires_at = None
    if task.expires_at is not None:
        expires_at = to_micros(task.expires_at)
    elif task.expires_in is not None:
        expires_at = due_at + round(task.expires_in * 1e6)
    return _Times(due_at, max(due_at, now), expires_at)


def _insert_one(driver: sqlite3.Connection, task: NewTask, now: int, *, repeated: bool) -> Inserted:
    """The writer is alone, so looking first and then writing is one step."""
    holder = _unfinished(driver, task)
    if holder is not None:
        holder_id, state = holder
        if task.on_conflict == "replace" and state != Stored.WORKING and not repeated:
            _replace(driver, holder_id, task, now)
        return Inserted(holder_id, False, Stored(state), holder_id != task.id)
    if task.given_id or repeated:
        final = _final(driver, task.id)
        if final is not None:
            return Inserted(task.id, False, final)
    _write(driver, [task], now)
    return Inserted(task.id, True, Stored.SCHEDULED)


def _unfinished(driver: sqlite3.Connection, task: NewTask) -> tuple[str, int] | None:
    """The unfinished task with this id, else the one with this unique key."""
    row: Any = driver.execute("select id, state from rota_task where id = ?", (task.id,)).fetchone()
    if row is None and task.unique is not None:
        row = driver.execute(
            "select id, state from rota_task where unique_key = ?", (task.unique,)
        ).fetchone()
    return None if row is None else (row[0], row[1])


def _final(driver: sqlite3.Connection, task_id: str) -> Stored | None:
    row = driver.execute(
        "select state from rota_done where id = ?1 union all "
        "select state from rota_failed where id = ?1",
        (task_id,),
    ).fetchone()
    return None if row is None else Stored(row[0])


def _replace(driver: sqlite3.Connection, holder_id: str, task: NewTask, now: int) -> None:
    """Let the waiting task be what the new one asks for; its id, key and attempts stay."""
    due_at, run_at, expires_at = _times(task, now)
    driver.execute(
        "update rota_task set queue = ?, priority = ?, run_at = ?, expires_at = ?,"
        " version = version + 1 where id = ? and state <> 1",
        (task.queue, task.priority, run_at, expires_at, holder_id),
    )
    driver.execute(
        "update rota_body set params = ?2, meta = ?3, due_at = ?4,"
        " version = (select version from rota_task where id = ?1) where id = ?1",
        (holder_id, task.params, task.meta, due_at),
    )
