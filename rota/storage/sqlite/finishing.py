"""Write outcomes, each fenced by its token, and what becomes of its task."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rota.core.task import Ending, Finish, NewTask, Stored
from rota.storage.sqlite.carrying import carry
from rota.storage.sqlite.ending import (
    Back,
    Held,
    Leaving,
    Left,
    Parked,
    held_batches,
    held_tasks,
    left,
)
from rota.storage.sqlite.inserting import insert_tasks

# A lease named as over by mistake stays: without it nobody would find its tasks again.
_DROP_LEASE = """delete from rota_lease where node = ?1 and batch = ?2 and not exists (
 select 1 from json_each(rota_lease.ids) j cross join rota_task t on t.id = j.value
 where t.state = 1 and t.node = ?1 and t.batch = ?2)"""
#: Waiting rows by now, changed in the same transaction that put them back. The sign keeps
#: the index of what is ready out of it.
NEW_VERSION = """update rota_task set version = version + 1
 where id in (select key from json_each(?)) and +state = 0"""
# As when tasks are put back: an insert that meets its row, so that the join's order is ours.
NEW_PARAMS = """insert into rota_body (id, version, params, options, created_at, due_at)
 select b.id, t.version, replace(j.value, ?2, char(0)), b.options, b.created_at, b.due_at
 from json_each(?1) j cross join rota_body b on b.id = j.key cross join rota_task t on t.id = b.id
 where true on conflict (id) do update set params = excluded.params, version = excluded.version"""
_END_RECURRING = """update rota_recurring set next_fire_at = null
 where id = (select recurring from rota_body where id = ?)"""
_ENDED_BY = """select state from rota_done where id = :id and node = :node and batch = :batch
 union all
 select state from rota_failed where id = :id and node = :node and batch = :batch"""
_PASSED_BY = """select 1 from rota_attempt
 where id = :id and node = :node and batch = :batch and outcome = :outcome"""


# Looked up in the class, or hashed, a member of an enumeration costs more than all else here.
_DONE, _FAILED = Ending.DONE, Ending.FAILED
_IS_DONE, _HAS_FAILED = Stored.DONE, Stored.FAILED
#: What says by itself what becomes of its task, whatever its row says.
_SAID = _DONE, _FAILED


class _Other(NamedTuple):
    """An accepted outcome, its task's row and the state it leads to."""

    finish: Finish
    task: Held
    state: Stored


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
    batches = held_batches(driver, node, [one.id for one in finishes])
    held = _held(driver, node, finishes)
    answers: list[Stored | None] = []
    accepted: set[str] = set()
    done: dict[str, Left] = {}
    failed: dict[str, Left] = {}
    others: list[_Other] = []
    with_more: list[tuple[Finish, Stored]] = []
    for one, batch in zip(finishes, batches, strict=True):
        # A second outcome of one attempt in the same call is refused, too.
        if batch != one.batch or one.id in accepted:
            answers.append(_recognised(driver, node, one) if repeated else None)
            continue
        accepted.add(one.id)
        if one.ending is _DONE:
            state = _IS_DONE
            done[one.id] = left(one, now, one.reason)
        elif one.ending is _FAILED:
            state = _HAS_FAILED
            failed[one.id] = left(one, now, one.reason)
        else:
            state = _leads_to(one, held[one.id])
            others.append(_Other(one, held[one.id], state))
        answers.append(state)
        if one.follow is not None or one.end_recurring:
            with_more.append((one, state))
    leaving = Leaving(driver, node, {one.batch for one in finishes}, now)
    leaving.end(done, Stored.DONE, by=node)
    leaving.end(failed, Stored.FAILED, by=node)
    if others:
        _write_others(driver, node, leaving, others, now)
    if with_more:
        _write_more(driver, with_more, now)
    driver.executemany(_DROP_LEASE, [(node, batch) for batch in over])
    return answers


def _held(driver: sqlite3.Connection, node: int, finishes: Sequence[Finish]) -> dict[str, Held]:
    """The rows of those outcomes whose consequence depends on them."""
    ids = [one.id for one in finishes if one.ending not in _SAID]
    return {task.id: task for task in held_tasks(driver, node, ids)} if ids else {}


def _leads_to(one: Finish, task: Held) -> Stored:
    """Every way out but Done and Failed turns a task that was asked to stop into cancelled."""
    if one.ending is Ending.CANCELLED or task.cancel_reason is not None:
        return Stored.CANCELLED
    return Stored.PARKED if one.ending is Ending.PARK else Stored.SCHEDULED


def _reason(one: Finish, task: Held) -> str | None:
    """Of a cancelled task: who asked it to stop knows best why a way back became an end."""
    said = one.reason if one.ending is Ending.CANCELLED else None
    return said or task.cancel_reason


def _write_more(
    driver: sqlite3.Connection, pairs: Sequence[tuple[Finish, Stored]], now: int
) -> None:
    """What an accepted outcome asks for besides."""
    follows: list[NewTask] = []
    for one, state in pairs:
        if one.follow is not None and (one.ending.terminal or state is not Stored.CANCELLED):
            # What it meets is no reason to refuse the outcome, whose token was its fence.
            follows.append(one.follow._replace(on_conflict="return", fence=None))
        if one.end_recurring:
            driver.execute(_END_RECURRING, (one.id,))
    if follows:
        # After its task has gone, so that it may take that one's key.
        insert_tasks(driver, follows, now)


def _write_others(
    driver: sqlite3.Connection, node: int, leaving: Leaving, others: Iterable[_Other], now: int
) -> None:
    """Cancelled tasks, and those that go on: to wait again or to be set aside."""
    cancelled: dict[str, Left] = {}
    passed: dict[str, dict[str, Left]] = defaultdict(dict)
    back: dict[str, Back] = {}
    parked: dict[str, Parked] = {}
    params: dict[str, str] = {}
    for one, task, state in others:
        ending = one.ending
        if state is Stored.CANCELLED:
            cancelled[one.id] = left(one, now, _reason(one, task))
        elif ending is Ending.PARK:
            whom = node if one.keep_from else None
            parked[one.id] = Parked(_later(one, task, now), task.attempt - 1, whom)
        else:
            back[one.id] = _back(one, task, now)
            if ending is not Ending.RELEASE:
                passed[ending.name.lower()][one.id] = left(one, now, one.reason)
            if ending is Ending.AGAIN and one.params is not None:
                params[one.id] = one.params
    leaving.end(cancelled, Stored.CANCELLED, by=node)
    for outcome, attempts in passed.items():
        leaving.keep(attempts, outcome)
    leaving.put_back(back)
    leaving.park(parked)
    if params:
        text, nul = carry(params)
        driver.execute(NEW_VERSION, (text,))
        driver.execute(NEW_PARAMS, (text, nul))


def _back(one: Finish, task: Held, now: int) -> Back:
    if one.ending is Ending.RELEASE:
        return Back(_later(one, task, now), task.attempt - 1, task.losses)
    # Retry and Again report that the work ran: its losses are forgotten.
    attempt = 0 if one.ending is Ending.AGAIN else task.attempt
    return Back(now + round(one.delay * 1e6), attempt, 0)


def _later(one: Finish, task: Held, now: int) -> int:
    return max(task.run_at, now + round(one.delay * 1e6))


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
