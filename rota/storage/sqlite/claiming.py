"""Take tasks for a node: the swap from waiting to working, and the lease."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from rota.core.task import Along, Claimed, Stored, Want
from rota.errors import AlreadyClaimed, NodeDead, TaskNotFound, WrongState
from rota.storage.sqlite.agenda import parked_kinds
from rota.storage.sqlite.carrying import listed

#: In the order of ``Claimed``; the nulls are for the claim to fill in.
_COLUMNS = """t.id, t.work, t.queue, t.priority, t.attempt + 1, null, b.params, b.options,
 null, t.run_at, t.expires_at, t.losses, b.meta, b.parent, b.recurring, b.fire_at"""
#: A text longer than this is read by itself, so that what is read at once stays small.
_LONG = 4_096
#: Stands between texts that are read at once; inside JSON it is written in another way.
_BETWEEN = "\x1e"

# Every column as one text: the statement is one step, taken beside the event loop, while a step
# for each row would give the interpreter away and have to ask for it again as often. LEFT JOIN
# and INDEXED BY pin the plan: along the ready index, bodies by primary key. A task whose body is
# gone is taken, too, and fails: passed over, it would stand there for ever.
_READY = f"""select json_group_array(id), json_group_array(work), json_group_array(attempt),
 json_group_array(run_at),
 json_group_object(id, json_array(expires_at, losses, iif(length(meta) > {_LONG}, 0, meta), parent,
 recurring, fire_at)) filter (where losses > 0
 or coalesce(expires_at, meta, parent, recurring, fire_at) is not null),
 group_concat(iif(length(params) <= {_LONG}, params, ''), char(30)),
 group_concat(iif(length(options) <= {_LONG}, options, ''), char(30))
 from (select t.id, t.work, t.attempt + 1 as attempt, t.run_at, t.expires_at, t.losses, b.meta,
 b.parent, b.recurring, b.fire_at, {{params}} as params, b.options
 from rota_task t indexed by rota_task_ready left join rota_body b on b.id = t.id
 where t.state = 0 and t.queue = ? and t.priority = ? and t.run_at >= ? and t.run_at <= ?
 order by t.run_at, t.id limit ?)"""
READY = _READY.format(params="b.params")
READY_LAZY = _READY.format(params="''")
TEXTS = "select params, options, meta from rota_body where id = ?"
PARKED = f"""select {_COLUMNS}
 from rota_task t indexed by rota_task_parked left join rota_body b on b.id = t.id
 where t.state = 2 and t.work = :work and t.run_at <= :until and t.node is not :node
 and t.queue not in (select queue from rota_queue where paused_at is not null)
 order by t.priority desc, t.run_at limit :limit"""
PARKED_KIND = f"""select {_COLUMNS}
 from rota_task t indexed by rota_task_parked left join rota_body b on b.id = t.id
 where t.state = 2 and t.work = :work and t.priority = :priority and t.run_at <= :now
 and (:queues is null or t.queue in (select value from json_each(:queues)))
 and t.queue not in (select queue from rota_queue where paused_at is not null)
 order by t.run_at limit :limit"""
NEW = f"""select {_COLUMNS}
 from rota_task t join rota_body b on b.id = t.id
 where t.id in (select value from json_each(?))
 and t.queue not in (select queue from rota_queue where paused_at is not null)"""
_ONE = f"""select {_COLUMNS}, t.state
 from rota_task t left join rota_body b on b.id = t.id where t.id = ?"""
# No token: the row is waiting, and the writer alone with it since it was read.
TAKE = """update rota_task set state = 1, node = ?, batch = ?, attempt = attempt + 1
 where state <> 1 and id in (select value from json_each(?))"""
_LEASE = "insert into rota_lease (node, batch, ids, deadline) values (?, ?, ?, ?)"

#: What few tasks have: expires_at, losses, meta (0: too long), parent, recurring, fire_at.
_Rare = tuple[int | None, int, str | int | None, str | None, str | None, int | None]
_NOTHING: _Rare = (None, 0, None, None, None, None)
#: Of a task whose row in rota_body is gone.
_NO_BODY = (None, None, None)
#: Before every instant rota can store.
_EVER = -(2**63)


class _Lane(NamedTuple):
    """What a look into one lane is bounded by; instants in microseconds, both included."""

    queue: str
    priority: int
    since: int
    until: int
    limit: int


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
    wants = _offered(driver, wants)
    tasks = _ready(driver, wants, batch, now, lazy=lazy)
    for want in wants:
        if want.ahead > 0:
            lane = _Lane(want.queue, want.priority, now + 1, until, want.ahead)
            tasks += _look(driver, lane, batch, now, lazy=lazy)
    return _take(driver, node, batch, tasks, alone=alone)


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
    tasks = _ready(driver, _offered(driver, wants), batch, now)
    return _take(driver, owner, batch, tasks, deadline=deadline)


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
    rows.sort(key=lambda row: (-row[3], row[9], row[0]))
    tasks = [_claimed(row, batch, now) for row in rows[:limit]]
    return _take(driver, node, batch, tasks, alone=alone)


def claim_parked_until(
    driver: sqlite3.Connection, owner: int, batch: int, asked: Asked, *, deadline: int, now: int
) -> list[Claimed]:
    """Take parked tasks of any work, the most urgent first, in leases that end by themselves."""
    tasks = [_claimed(row, batch, now) for row in parked_rows(driver, asked, now)]
    return _take(driver, owner, batch, tasks, deadline=deadline)


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
    claimed = _claimed(row[:-1], batch, now)
    _write(driver, node, batch, [task_id], None)
    return claimed


def claim_new(driver: sqlite3.Connection, along: Along, now: int) -> dict[str, Claimed]:
    """Take what this transaction has just put in, by id; nothing for a node that is dead."""
    if not _lives(driver, along.node):
        return {}
    rows = driver.execute(NEW, (listed(sorted(along.ids)),)).fetchall()
    tasks = [_claimed(row, along.batch, now) for row in rows]
    return {task.id: task for task in _take(driver, along.node, along.batch, tasks)}


def _offered(driver: sqlite3.Connection, wants: Sequence[Want]) -> list[Want]:
    """The wants of queues that are not paused."""
    rows = driver.execute("select queue from rota_queue where paused_at is not null")
    held_back = {queue for (queue,) in rows}
    return [want for want in wants if want.queue not in held_back]


def _ready(
    driver: sqlite3.Connection, wants: Sequence[Want], batch: int, now: int, *, lazy: bool = False
) -> list[Claimed]:
    tasks: list[Claimed] = []
    for want in wants:
        since = _EVER if want.cursor is None else want.cursor
        lane = _Lane(want.queue, want.priority, since, now, want.ready)
        tasks += _look(driver, lane, batch, now, lazy=lazy)
    return tasks


def _look(
    driver: sqlite3.Connection, lane: _Lane, batch: int, now: int, *, lazy: bool
) -> list[Claimed]:
    """What the lane offers, in its order, as it will be once the batch has it."""
    *columns, params, options = driver.execute(READY_LAZY if lazy else READY, lane).fetchone()
    ids, works, attempts, run_at, rare = map(json.loads, columns)
    if not ids:
        return []
    texts = [params.split(_BETWEEN), options.split(_BETWEEN)]
    if any(len(some) != len(ids) for some in texts):
        texts = [[""] * len(ids)] * 2
    if "" in texts[1] or ("" in texts[0] and not lazy):
        texts = _read_long(driver, ids, texts, lazy=lazy)
    few = _few(driver, ids, rare, now) if rare else [repeat(None), repeat(0), *[repeat(None)] * 4]
    expires_in, losses, *rest = few
    same = repeat(lane.queue), repeat(lane.priority)
    due_in = [(at - now) / 1e6 for at in run_at]
    columns = [works, *same, attempts, repeat(batch), *texts, due_in, run_at, expires_in, losses]
    # By the ids, which are as many as there are tasks: `repeat` has no end.
    return [*map(Claimed._make, zip(ids, *columns, *rest, strict=False))]


def _few(
    driver: sqlite3.Connection, ids: Sequence[str], rare: Mapping[str, _Rare], now: int
) -> list[Sequence[Any]]:
    """The columns, from ``expires_in`` on, that few tasks have anything in."""
    rows = []
    for task_id in ids:
        expires_at, losses, meta, *rest = rare.get(task_id, _NOTHING)
        if meta == 0:
            *_, meta = driver.execute(TEXTS, (task_id,)).fetchone()
        rows.append((None if expires_at is None else (expires_at - now) / 1e6, losses, meta, *rest))
    return [*zip(*rows, strict=True)]


def _read_long(
    driver: sqlite3.Connection, ids: Sequence[str], texts: Sequence[Sequence[str]], *, lazy: bool
) -> list[Sequence[str]]:
    """Params and options with those that were left out because of their length."""
    rows = []
    for task_id, params, options in zip(ids, *texts, strict=True):
        row = params, options
        if not options or not (params or lazy):
            row = (driver.execute(TEXTS, (task_id,)).fetchone() or _NO_BODY)[:2]
        rows.append(("", row[1]) if lazy else row)
    return [*zip(*rows, strict=True)]


def _take(
    driver: sqlite3.Connection,
    node: int,
    batch: int,
    tasks: list[Claimed],
    *,
    alone: Collection[str] = (),
    deadline: int | None = None,
) -> list[Claimed]:
    """Write the claim: lost tasks and works in ``alone`` in leases of their own, others in one."""
    together: list[str] = []
    own = batch
    for place, task in enumerate(tasks):
        if task.losses > 0 or task.work in alone:
            own += 1
            tasks[place] = task._replace(batch=own)
            _write(driver, node, own, [task.id], deadline)
        else:
            together.append(task.id)
    if together:
        _write(driver, node, batch, together, deadline)
    return tasks


def _write(
    driver: sqlite3.Connection, node: int, batch: int, ids: list[str], deadline: int | None
) -> None:
    """Set these tasks working, under one lease."""
    text = listed(ids)
    driver.execute(TAKE, (node, batch, text))
    driver.execute(_LEASE, (node, batch, text, deadline))


def _claimed(row: Sequence[Any], batch: int, now: int) -> Claimed:
    task = Claimed._make(row)
    return task._replace(
        batch=batch,
        due_in=(task.run_at - now) / 1e6,
        expires_in=None if task.expires_in is None else (task.expires_in - now) / 1e6,
    )


def _lives(driver: sqlite3.Connection, node: int) -> bool:
    row = driver.execute("select 1 from rota_node where id = ?", (node,)).fetchone()
    return row is not None


def _be_alive(driver: sqlite3.Connection, node: int) -> None:
    if not _lives(driver, node):
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
