"""Take tasks for a node: the swap from waiting to working, and the lease."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from rota.core.task import Claimed, Stored, Want
from rota.errors import AlreadyClaimed, NodeDead, TaskNotFound, WrongState
from rota.storage.sqlite.agenda import parked_kinds

_COLUMNS = """t.id, t.work, t.queue, t.priority, t.attempt + 1, b.params, b.options, t.run_at,
 t.expires_at, t.losses, b.meta, b.parent, b.recurring, b.fire_at"""
_LAZY_COLUMNS = _COLUMNS.replace("b.params", "''")

# CROSS JOIN and INDEXED BY pin the plan: along the ready index, bodies by primary key.
_READY = """select {columns}
 from rota_task t indexed by rota_task_ready cross join rota_body b on b.id = t.id
 where t.state = 0 and t.queue = ? and t.priority = ? and t.run_at >= ? and t.run_at <= ?
 order by t.run_at, t.id limit ?"""
READY = _READY.format(columns=_COLUMNS)
READY_LAZY = _READY.format(columns=_LAZY_COLUMNS)
PARKED = f"""select {_COLUMNS}
 from rota_task t indexed by rota_task_parked cross join rota_body b on b.id = t.id
 where t.state = 2 and t.work = :work and t.run_at <= :until and t.node is not :node
 and t.queue not in (select queue from rota_queue where paused_at is not null)
 order by t.priority desc, t.run_at limit :limit"""
PARKED_KIND = f"""select {_COLUMNS}
 from rota_task t indexed by rota_task_parked cross join rota_body b on b.id = t.id
 where t.state = 2 and t.work = :work and t.priority = :priority and t.run_at <= :now
 and (:queues is null or t.queue in (select value from json_each(:queues)))
 and t.queue not in (select queue from rota_queue where paused_at is not null)
 order by t.run_at limit :limit"""
_ONE = f"""select {_COLUMNS}, t.state
 from rota_task t cross join rota_body b on b.id = t.id where t.id = ?"""
# No token: the row is waiting, and the writer alone with it since it was read.
_TAKE = """update rota_task set state = 1, node = ?, batch = ?, attempt = attempt + 1
 where id = ? and state <> 1"""
_LEASE = "insert into rota_lease (node, batch, ids, deadline) values (?, ?, ?, ?)"

#: Before every instant rota can store.
_EVER = -(2**63)


class Asked(NamedTuple):
    """How many parked tasks a puller asks for; of which queues (None: all), priorities, works."""

    queues: list[str] | None
    limit: int
    floor: int
    but_not: Collection[str]


def claim(
    driver: sqlite3.Connection,
    node: int,
    batch: int,
    wants: Sequence[Want],
    *,
    until: int,
    now: int,
    lazy: bool = False,
    alone: Collection[str] = (),
) -> list[Claimed]:
    """Take what is ready, then what is due by ``until``; nothing of a paused queue."""
    _be_alive(driver, node)
    statement = READY_LAZY if lazy else READY
    wants = _offered(driver, wants)
    rows = _ready(driver, wants, now, statement)
    for want in wants:
        if want.ahead > 0:
            lane = (want.queue, want.priority, now + 1, until, want.ahead)
            rows += driver.execute(statement, lane).fetchall()
    return _take(driver, node, batch, rows, now=now, alone=alone)


def claim_until(
    driver: sqlite3.Connection,
    owner: int,
    batch: int,
    wants: Sequence[Want],
    *,
    deadline: int,
    now: int,
) -> list[Claimed]:
    """Take what is ready for somebody who is no node, in leases that end by themselves."""
    rows = _ready(driver, _offered(driver, wants), now, READY)
    return _take(driver, owner, batch, rows, now=now, deadline=deadline)


def claim_parked(
    driver: sqlite3.Connection,
    node: int,
    batch: int,
    works: Iterable[str],
    limit: int,
    *,
    until: int,
    now: int,
    alone: Collection[str] = (),
) -> list[Claimed]:
    """Take parked tasks of these works, the most urgent first, but none this node parked."""
    _be_alive(driver, node)
    rows: list[Any] = []
    for work in works:
        found = driver.execute(PARKED, {"work": work, "until": until, "node": node, "limit": limit})
        rows += found.fetchall()
    rows.sort(key=lambda row: (-row[3], row[7], row[0]))
    return _take(driver, node, batch, rows[:limit], now=now, alone=alone)


def claim_parked_until(
    driver: sqlite3.Connection, owner: int, batch: int, asked: Asked, *, deadline: int, now: int
) -> list[Claimed]:
    """Take parked tasks of any work, the most urgent first, in leases that end by themselves."""
    rows = parked_rows(driver, asked, now)
    return _take(driver, owner, batch, rows, now=now, deadline=deadline)


def parked_rows(driver: sqlite3.Connection, asked: Asked, now: int) -> list[Any]:
    """What there is for a puller among the parked tasks, kind by kind; only reads."""
    queues = None if asked.queues is None else json.dumps(asked.queues)
    rows: list[Any] = []
    for work, priority in parked_kinds(driver, asked.floor):
        left = asked.limit - len(rows)
        if left <= 0:
            break
        if work in asked.but_not:
            continue
        kind = {"work": work, "priority": priority, "queues": queues, "now": now, "limit": left}
        rows += driver.execute(PARKED_KIND, kind).fetchall()
    return rows


def claim_one(
    driver: sqlite3.Connection, node: int, batch: int, task_id: str, *, now: int
) -> Claimed:
    """Take this very task, due or not, parked or not, whatever its queue."""
    _be_alive(driver, node)
    row = driver.execute(_ONE, (task_id,)).fetchone()
    if row is None:
        raise _not_there(driver, task_id)
    if row[-1] == Stored.WORKING:
        raise AlreadyClaimed(task_id)
    (claimed,) = _take(driver, node, batch, [row[:-1]], now=now, own_leases=False)
    return claimed


def _offered(driver: sqlite3.Connection, wants: Sequence[Want]) -> list[Want]:
    """The wants of queues that are not paused."""
    rows = driver.execute("select queue from rota_queue where paused_at is not null")
    held_back = {queue for (queue,) in rows}
    return [want for want in wants if want.queue not in held_back]


def _ready(
    driver: sqlite3.Connection, wants: Sequence[Want], now: int, statement: str
) -> list[Any]:
    rows: list[Any] = []
    for want in wants:
        since = _EVER if want.cursor is None else want.cursor
        lane = (want.queue, want.priority, since, now, want.ready)
        rows += driver.execute(statement, lane).fetchall()
    return rows


def _take(
    driver: sqlite3.Connection,
    node: int,
    batch: int,
    rows: Sequence[Any],
    *,
    now: int,
    alone: Collection[str] = (),
    deadline: int | None = None,
    own_leases: bool = True,
) -> list[Claimed]:
    """Write the claim: lost tasks and works in ``alone`` in leases of their own, others in one."""
    claimed, together, leases = [], [], []
    own = batch
    for row in rows:
        mine = batch
        if own_leases and (row[9] > 0 or row[1] in alone):
            own += 1
            mine = own
            leases.append((node, mine, json.dumps([row[0]]), deadline))
        else:
            together.append(row[0])
        claimed.append(_claimed(row, mine, now))
    if together:
        leases.append((node, batch, json.dumps(together), deadline))
    driver.executemany(_TAKE, [(node, one.batch, one.id) for one in claimed])
    driver.executemany(_LEASE, leases)
    return claimed


def _claimed(row: Any, batch: int, now: int) -> Claimed:
    expires_at = row[8]
    return Claimed(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        batch,
        row[5],
        row[6],
        (row[7] - now) / 1e6,
        row[7],
        None if expires_at is None else (expires_at - now) / 1e6,
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
    )


def _be_alive(driver: sqlite3.Connection, node: int) -> None:
    if driver.execute("select 1 from rota_node where id = ?", (node,)).fetchone() is None:
        raise NodeDead(
            f"node {node} was declared dead and its tasks were taken over; "
            "join as a new incarnation"
        )


def _not_there(driver: sqlite3.Connection, task_id: str) -> TaskNotFound | WrongState:
    row = driver.execute(
        "select state from rota_done where id = ?1 union all "
        "select state from rota_failed where id = ?1",
        (task_id,),
    ).fetchone()
    if row is None:
        return TaskNotFound(task_id)
    return WrongState(task_id, str(Stored(row[0]).public), "only a waiting task can be claimed")
