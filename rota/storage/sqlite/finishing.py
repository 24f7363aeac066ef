"""Write outcomes, each fenced by its token, and what becomes of its task."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from rota.core.task import Ending, Finish, NewTask, Stored
from rota.storage.sqlite.ending import (
    Back,
    Ended,
    Held,
    Passed,
    held_tasks,
    put_back,
    remove_tasks,
    write_attempts,
    write_history,
)
from rota.storage.sqlite.feeding import note
from rota.storage.sqlite.inserting import insert_tasks

_TO_PARKED = """update rota_task set state = 2, node = ?, batch = null, run_at = ?, attempt = ?
 where id = ? and state = 1 and node = ? and batch = ?"""
# A lease named as over by mistake stays: without it nobody would find its tasks again.
_DROP_LEASE = """delete from rota_lease where node = ?1 and batch = ?2 and not exists (
 select 1 from json_each(rota_lease.ids) j cross join rota_task t on t.id = j.value
 where t.state = 1 and t.node = ?1 and t.batch = ?2)"""
#: A waiting row by now, changed in the same transaction that put it back.
_NEW_VERSION = "update rota_task set version = version + 1 where id = ? and state = 0"
_NEW_PARAMS = """update rota_body set params = ?2,
 version = (select version from rota_task where id = ?1) where id = ?1"""
_END_RECURRING = """update rota_recurring set next_fire_at = null
 where id = (select recurring from rota_body where id = ?)"""
_ENDED_BY = """select state from rota_done where id = :id and node = :node and batch = :batch
 union all
 select state from rota_failed where id = :id and node = :node and batch = :batch"""
_PASSED_BY = """select 1 from rota_attempt
 where id = :id and node = :node and batch = :batch and outcome = :outcome"""


def finish(
    driver: sqlite3.Connection,
    node: int,
    finishes: Sequence[Finish],
    over: Sequence[int],
    *,
    now: int,
    repeated: bool,
) -> list[Stored | None]:
    """Write the outcomes whose token still is the task's; None for the others, in order.

    Runs in the caller's transaction.
    """
    found = {(task.id, task.batch): task for task in held_tasks(driver, node, _ids(finishes))}
    answers: list[Stored | None] = []
    ended: list[Ended] = []
    going_on: list[tuple[Finish, Held]] = []
    follows: list[NewTask] = []
    for one in finishes:
        # Popped: a second outcome of one attempt in the same call is refused, too.
        task = found.pop((one.id, one.batch), None)
        if task is None:
            answers.append(_recognised(driver, node, one) if repeated else None)
            continue
        state = _leads_to(one, task)
        answers.append(state)
        if state >= Stored.DONE:
            ended.append(Ended(task, state, node, _reason(one, task, state), one.payload, one.ago))
        else:
            going_on.append((one, task))
        if one.follow is not None and (one.ending.terminal or state is not Stored.CANCELLED):
            # What it meets is no reason to refuse the outcome, whose token was its fence.
            follows.append(one.follow._replace(on_conflict="return", fence=None))
        if one.end_recurring:
            driver.execute(_END_RECURRING, (one.id,))
    remove_tasks(driver, node, [one.task for one in ended])
    write_history(driver, ended, now)
    if going_on:
        _go_on(driver, node, going_on, now)
    if follows:
        # After its task has gone, so that it may take that one's key.
        insert_tasks(driver, follows, now)
    driver.executemany(_DROP_LEASE, [(node, batch) for batch in over])
    return answers


def _ids(finishes: Sequence[Finish]) -> list[str]:
    return sorted({one.id for one in finishes})


def _leads_to(one: Finish, task: Held) -> Stored:
    """Every way out but Done and Failed turns a task that was asked to stop into cancelled."""
    ending = one.ending
    if ending is Ending.DONE:
        return Stored.DONE
    if ending is Ending.FAILED:
        return Stored.FAILED
    if ending is Ending.CANCELLED or task.cancel_reason is not None:
        return Stored.CANCELLED
    return Stored.PARKED if ending is Ending.PARK else Stored.SCHEDULED


def _reason(one: Finish, task: Held, state: Stored) -> str | None:
    """Who asked it to stop knows best why a way back became an end."""
    if state is Stored.CANCELLED and not (one.reason and one.ending is Ending.CANCELLED):
        return task.cancel_reason
    return one.reason


def _go_on(
    driver: sqlite3.Connection, node: int, pairs: Sequence[tuple[Finish, Held]], now: int
) -> None:
    put_back(
        driver,
        node,
        [_back(one, task, now) for one, task in pairs if one.ending != Ending.PARK],
        now,
    )
    _park(driver, node, [pair for pair in pairs if pair[0].ending is Ending.PARK], now)
    write_attempts(driver, _passed(node, pairs), now)
    for one, task in pairs:
        if one.ending is Ending.AGAIN and one.params is not None:
            driver.execute(_NEW_VERSION, (task.id,))
            driver.execute(_NEW_PARAMS, (task.id, one.params))


def _park(
    driver: sqlite3.Connection, node: int, pairs: Sequence[tuple[Finish, Held]], now: int
) -> None:
    if not pairs:
        return
    driver.executemany(
        _TO_PARKED,
        [
            (
                node if one.keep_from else None,
                _later(one, task, now),
                task.attempt - 1,
                task.id,
                node,
                task.batch,
            )
            for one, task in pairs
        ],
    )
    note(driver, ((one.id, Stored.PARKED) for one, _ in pairs), now)


def _back(one: Finish, task: Held, now: int) -> Back:
    if one.ending is Ending.RELEASE:
        return Back(task, _later(one, task, now), task.attempt - 1, task.losses)
    # Retry and Again report that the work ran: its losses are forgotten.
    attempt = 0 if one.ending is Ending.AGAIN else task.attempt
    return Back(task, now + round(one.delay * 1e6), attempt, 0)


def _later(one: Finish, task: Held, now: int) -> int:
    return max(task.run_at, now + round(one.delay * 1e6))


def _passed(node: int, pairs: Iterable[tuple[Finish, Held]]) -> list[Passed]:
    return [
        Passed(task, one.ending.name.lower(), node, one.reason, one.payload, one.ago)
        for one, task in pairs
        if one.ending is Ending.RETRY or one.ending is Ending.AGAIN
    ]


def _recognised(driver: sqlite3.Connection, node: int, one: Finish) -> Stored | None:
    """What this very attempt's outcome led to, if an earlier try was committed."""
    token = {"id": one.id, "node": node, "batch": one.batch}
    row = driver.execute(_ENDED_BY, token).fetchone()
    if row is not None:
        return Stored(row[0])
    outcome = one.ending.name.lower()
    if driver.execute(_PASSED_BY, token | {"outcome": outcome}).fetchone() is not None:
        return Stored.SCHEDULED
    return None
