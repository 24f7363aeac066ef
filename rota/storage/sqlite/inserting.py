"""Put tasks in, and answer with what is there already."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rota.core.task import Along, Fence, Inserted, NewTask, Stored
from rota.errors import LeaseLost
from rota.storage.sqlite.carrying import carry
from rota.storage.sqlite.claiming import claim_new
from rota.storage.sqlite.feeding import note
from rota.storage.tables import to_micros

_TASK = """insert into rota_task
 (id, queue, work, priority, run_at, expires_at, unique_key) values (?, ?, ?, ?, ?, ?, ?)"""
_BODY = """insert into rota_body
 (id, params, options, meta, created_at, due_at, parent, recurring, fire_at)
 values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_TASKS = """insert into rota_task
 (id, queue, work, priority, run_at, expires_at, unique_key)
 select key, ?, ?, ?, ?, ?, ? from json_each(?)"""
_BODIES = """insert into rota_body
 (id, params, options, meta, created_at, due_at, parent, recurring, fire_at)
 select key, replace(value, ?, char(0)), ?, ?, ?, ?, ?, ?, ? from json_each(?)"""
#: Fewer tasks that are alike are not worth statements of their own.
_FEW = 8
#: One text carries at most so many tasks and, beyond the last one, so many characters.
_TASKS_AT_ONCE, _TEXT_AT_ONCE = 1_000, 500_000
_BY_ID = "select id, state from rota_task where id = ?"
_BY_KEY = "select id, state from rota_task where unique_key = ?"
_FENCE = "select 1 from rota_task where id = ? and state = 1 and node = ? and batch = ?"
_TAKE_PERIOD = """insert into rota_unique (key, task, expires_at) values (:key, :task, :until)
 on conflict (key) do update set task = :task, expires_at = :until where expires_at <= :now"""
_PERIOD = "select task from rota_unique where key = ?"
_WAITING = (Stored.SCHEDULED, Stored.PARKED)


def insert_tasks(
    driver: sqlite3.Connection,
    tasks: Sequence[NewTask],
    now: int,
    *,
    repeated: bool = False,
    along: Along | None = None,
) -> list[Inserted]:
    """Write what is not there yet; one answer each, in order.

    Runs in the caller's transaction, which must have begun as IMMEDIATE. Raises
    ``LeaseLost`` for a fence that does not hold, before anything is written. What
    ``along`` names is claimed, if nothing was met.
    """
    keyed = [task for task in tasks if task.keyed]
    if keyed:
        along = None
        for fence in {task.fence for task in keyed if task.fence is not None}:
            _hold(driver, fence)
        keyed = [task for task in keyed if task.given_id or task.unique is not None]
    if not (repeated or keyed) and _write_new(driver, tasks, now):
        taken = {} if along is None else claim_new(driver, along, now)
        return [
            Inserted(task.id, True, Stored.SCHEDULED, claimed=taken.get(task.id)) for task in tasks
        ]
    return [_insert_one(driver, task, now, repeated=repeated) for task in tasks]


def _hold(driver: sqlite3.Connection, fence: Fence) -> None:
    """See that the parent still has its token; the writer is alone, so it keeps it."""
    if driver.execute(_FENCE, (fence.task, fence.node, fence.batch)).fetchone() is None:
        raise LeaseLost(fence.task)


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
    """Write tasks that meet nobody; raises ``IntegrityError`` if one does."""
    each: list[NewTask] = []
    for alike in _alike(tasks):
        if len(alike) < _FEW:
            each += alike
        else:
            _write_alike(driver, alike, now)
    if each:
        rows = [(task.id, task.params, *_columns(task, now)) for task in each]
        driver.executemany(_TASK, [(task_id, *of_task) for task_id, _, of_task, _ in rows])
        driver.executemany(_BODY, [(task_id, params, *body) for task_id, params, _, body in rows])
    note(driver, ((task.id, Stored.SCHEDULED) for task in tasks), now)


def _alike(tasks: Sequence[NewTask]) -> Iterator[list[NewTask]]:
    """Runs of tasks that differ in id and params only."""
    for _, run in groupby(tasks, _but_id_and_params):
        some: list[NewTask] = []
        size = 0
        for task in run:
            some.append(task)
            size += len(task.params)
            if len(some) >= _TASKS_AT_ONCE or size >= _TEXT_AT_ONCE:
                yield some
                some, size = [], 0
        yield some


def _but_id_and_params(task: NewTask) -> tuple[Any, ...]:
    return task[1:4], task[5:]


def _write_alike(driver: sqlite3.Connection, tasks: Sequence[NewTask], now: int) -> None:
    rows = {task.id: task.params for task in tasks}
    if len(rows) < len(tasks):
        raise sqlite3.IntegrityError("two of these tasks have the same id")
    text, nul = carry(rows)
    of_task, of_body = _columns(tasks[0], now)
    driver.execute(_TASKS, (*of_task, text))
    driver.execute(_BODIES, (nul, *of_body, text))


def _columns(task: NewTask, now: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What its two rows hold besides its id and params."""
    due_at, run_at, expires_at = _times(task, now)
    fire_at = None if task.fire_at is None else to_micros(task.fire_at)
    return (
        (task.queue, task.work, task.priority, run_at, expires_at, _key(task)),
        (task.options, task.meta, now, due_at, task.parent, task.recurring, fire_at),
    )


def _key(task: NewTask) -> str | None:
    """The key of its row; a period key is kept elsewhere, since it may outlast the row."""
    return None if task.period is not None else task.unique


def _times(task: NewTask, now: int) -> tuple[int, int, int | None]:
    """When it is due, when it may run, when it expires; in microseconds."""
    due_at = now + round(task.delay * 1e6) if task.at is None else to_micros(task.at)
    expires_at = None
    if task.expires_at is not None:
        expires_at = to_micros(task.expires_at)
    elif task.expires_in is not None:
        expires_at = due_at + round(task.expires_in * 1e6)
    return due_at, max(due_at, now), expires_at


def _insert_one(driver: sqlite3.Connection, task: NewTask, now: int, *, repeated: bool) -> Inserted:
    """The writer is alone, so looking first and then writing is one step.

    The id goes before the key, in history, too.
    """
    holder: tuple[str, Stored] | None = driver.execute(_BY_ID, (task.id,)).fetchone()
    if holder is None and (task.given_id or repeated):
        final = _final(driver, task.id)
        if final is not None:
            return Inserted(task.id, False, final)
    own = holder is not None and repeated and not task.given_id
    key = _key(task)
    if holder is None and key is not None:
        holder = driver.execute(_BY_KEY, (key,)).fetchone()
    if holder is None and task.period is not None and task.unique is not None:
        holder = _take_period(driver, task, task.period, now)
    if holder is None:
        _write(driver, [task], now)
        return Inserted(task.id, True, Stored.SCHEDULED)
    holder_id, state = holder[0], Stored(holder[1])
    # What an earlier try of this call has written is as it was asked to be.
    if task.on_conflict == "replace" and state in _WAITING and not own:
        _replace(driver, holder_id, task, now)
    return Inserted(holder_id, False, state, holder_id != task.id)


def _take_period(
    driver: sqlite3.Connection, task: NewTask, period: float, now: int
) -> tuple[str, Stored] | None:
    """Take the period key; else whose it is and what has become of that task."""
    until = now + round(period * 1e6)
    taken = {"key": task.unique, "task": task.id, "until": until, "now": now}
    if driver.execute(_TAKE_PERIOD, taken).rowcount > 0:
        return None
    (holder,) = driver.execute(_PERIOD, (task.unique,)).fetchone()
    row = driver.execute(_BY_ID, (holder,)).fetchone()
    if row is not None:
        return holder, Stored(row[1])
    # The period outlasts the task, and may outlast its history.
    return holder, _final(driver, holder) or Stored.DONE


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
        "update rota_body set params = ?2, options = ?3, meta = ?4, due_at = ?5,"
        " version = (select version from rota_task where id = ?1) where id = ?1",
        (holder_id, task.params, task.options, task.meta, due_at),
    )
