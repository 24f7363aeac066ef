"""What every way out of a lease shares: the fence, history's rows, the way back to waiting."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rota.core.task import Stored
from rota.storage.sqlite.feeding import note

#: Working rows by id, along the primary key; the caller compares the batch.
HELD = """select t.id, t.batch, t.queue, t.work, t.priority, t.attempt, t.losses, t.run_at,
 t.cancel_reason
 from json_each(?) j cross join rota_task t on t.id = j.value
 where t.state = 1 and t.node = ?"""
REMOVE = "delete from rota_task where id = ? and state = 1 and node = ? and batch = ?"
_TO_WAITING = """update rota_task set state = 0, node = null, batch = null, run_at = ?,
 attempt = ?, losses = ? where id = ? and state = 1 and node = ? and batch = ?"""
_HISTORY = """{insert} into {table} (id, state, queue, work, priority, attempt, node,
 batch, run_at, started_at, finished_at, reason, payload)
 values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ATTEMPT = """insert into rota_attempt
 (id, attempt, outcome, node, batch, started_at, finished_at, reason, error)
 values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_TALLY = """insert into rota_tally (minute, queue, work, state, n, seconds)
 values (?, ?, ?, ?, ?, ?)"""
_MINUTE = 60_000_000


class Held(NamedTuple):
    """A working task's row, as read under the writer's lock."""

    id: str
    batch: int
    queue: str
    work: str
    priority: int
    attempt: int
    losses: int
    run_at: int
    cancel_reason: str | None


class Ended(NamedTuple):
    """A task's last row; without a node no attempt's outcome ended it."""

    task: Held
    state: Stored
    node: int | None
    reason: str | None
    payload: str | None = None
    ago: float | None = None


class Passed(NamedTuple):
    """An attempt that ended and left its task unfinished."""

    task: Held
    outcome: str
    node: int
    reason: str | None = None
    error: str | None = None
    ago: float | None = None


class Back(NamedTuple):
    """A task that waits again: when, with which attempt and losses."""

    task: Held
    run_at: int
    attempt: int
    losses: int


def held_tasks(driver: sqlite3.Connection, node: int, ids: Iterable[str]) -> list[Held]:
    """Those of these tasks that the node holds now, under whichever batch."""
    return [*map(Held._make, driver.execute(HELD, (json.dumps(list(ids)), node)))]


def remove_tasks(driver: sqlite3.Connection, node: int, tasks: Iterable[Held]) -> None:
    """Take finished tasks' rows away."""
    driver.executemany(REMOVE, [(task.id, node, task.batch) for task in tasks])


def put_back(driver: sqlite3.Connection, node: int, tasks: Sequence[Back], now: int) -> None:
    """Let tasks wait again."""
    if not tasks:
        return
    driver.executemany(
        _TO_WAITING,
        [
            (back.run_at, back.attempt, back.losses, back.task.id, node, back.task.batch)
            for back in tasks
        ],
    )
    note(driver, ((back.task.id, Stored.SCHEDULED) for back in tasks), now)


def write_history(driver: sqlite3.Connection, ended: Sequence[Ended], now: int) -> None:
    """Put ended tasks into history and count them."""
    if not ended:
        return
    done: list[tuple[Any, ...]] = []
    failed: list[tuple[Any, ...]] = []
    tally: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0, 0.0])
    for task, state, node, reason, payload, ago in ended:
        row = (
            task.id,
            int(state),
            task.queue,
            task.work,
            task.priority,
            task.attempt,
            node,
            None if node is None else task.batch,
            task.run_at,
            started(now, ago),
            now,
            reason,
            payload,
        )
        (failed if state is Stored.FAILED else done).append(row)
        count = tally[task.queue, task.work, int(state)]
        count[0] += 1
        count[1] += ago or 0.0
    _put(driver, "rota_done", done)
    _put(driver, "rota_failed", failed)
    minute = now - now % _MINUTE
    driver.executemany(_TALLY, [(minute, *key, n, seconds) for key, (n, seconds) in tally.items()])
    note(driver, ((one.task.id, one.state) for one in ended), now)


def _put(driver: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Nothing may keep a task from ending, not even an older row with its id."""
    try:
        driver.executemany(_HISTORY.format(insert="insert", table=table), rows)
    except sqlite3.IntegrityError:
        driver.executemany(_HISTORY.format(insert="insert or replace", table=table), rows)


def write_attempts(driver: sqlite3.Connection, passed: Iterable[Passed], now: int) -> None:
    """Keep attempts that did not end their task."""
    driver.executemany(
        _ATTEMPT,
        [
            (
                one.task.id,
                one.task.attempt,
                one.outcome,
                one.node,
                one.task.batch,
                started(now, one.ago),
                now,
                one.reason,
                one.error,
            )
            for one in passed
        ],
    )


def started(now: int, ago: float | None) -> int | None:
    """When an attempt began, from how long ago that was."""
    return None if ago is None else now - round(ago * 1e6)
