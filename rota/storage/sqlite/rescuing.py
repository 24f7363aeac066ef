"""Nodes and their leases: join, beat, leave, bury; and take back what the dead held."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from rota.core.options import options_or_default
from rota.core.task import Membership, NewTask, Rescued, Stored
from rota.storage.following import follow_lost
from rota.storage.schema import ledger
from rota.storage.sqlite.ending import Back, Held, Leaving, Left, held_tasks
from rota.storage.sqlite.inserting import insert_tasks

_JOIN = """insert or replace into rota_node
 (id, name, host, pid, started_at, lease_seconds, lease_until, version)
 values (?, ?, ?, ?, ?, ?, ?, ?)"""
_BEAT = (
    "update rota_node set lease_until = ?, lease_seconds = ? where id = ? returning "
    + ledger.STANDING.format(s="")
)
_ORPHANS = """select l.node, l.batch, l.ids from rota_lease l
 where (l.deadline is null and not exists (select 1 from rota_node n where n.id = l.node))
 or l.deadline <= ? limit ?"""
_OPTIONS = """select b.id, b.options
 from json_each(?) j cross join rota_body b on b.id = j.value"""
_DROP_LEASE = "delete from rota_lease where node = ? and batch = ?"
#: What is left of an attempt that nobody told the end of.
_NOTHING: Left = None


class Neighbour(NamedTuple):
    """Another node, as a witness looks at it."""

    id: int
    host: str
    lease_until: int


class _Saved(NamedTuple):
    """One lease's tasks, sorted by what becomes of them, and what follows those that failed."""

    failed: dict[str, Left]
    cancelled: dict[str, Left]
    back: dict[str, Back]
    follows: dict[str, NewTask]


def join(driver: sqlite3.Connection, member: Membership, now: int) -> None:
    """Enter the incarnation; saying it twice is fine, its id is its own."""
    until = now + round(member.lease * 1e6)
    driver.execute(
        _JOIN,
        (member.id, member.name, member.host, member.pid, now, member.lease, until, member.version),
    )


def beat(
    driver: sqlite3.Connection, node: int, lease: float, now: int
) -> tuple[int | None, int | None] | None:
    """Extend the lease; how the schema stands, for ``ledger.require``, None without a row."""
    rows = driver.execute(_BEAT, (now + round(lease * 1e6), lease, node)).fetchall()
    return (rows[0][0], rows[0][1]) if rows else None


def leave(driver: sqlite3.Connection, node: int) -> None:
    """Remove the row; leases that are left are found by `rescue`."""
    driver.execute("delete from rota_node where id = ?", (node,))


def neighbours(driver: sqlite3.Connection, node: int) -> tuple[str | None, list[Neighbour]]:
    """The asking node's host, None if it has no row, and all other nodes."""
    rows = [
        Neighbour(*row) for row in driver.execute("select id, host, lease_until from rota_node")
    ]
    host = next((row.host for row in rows if row.id == node), None)
    return host, [row for row in rows if row.id != node]


def bury(
    driver: sqlite3.Connection, proven: Iterable[int], over: Iterable[int], now: int
) -> list[int]:
    """Remove nodes proven dead, and those whose lease is still over; the ones removed."""
    late = "delete from rota_node where id = ? and lease_until < ?"
    dead = [
        node
        for node in proven
        if driver.execute("delete from rota_node where id = ?", (node,)).rowcount
    ]
    return dead + [node for node in over if driver.execute(late, (node, now)).rowcount]


def orphans(driver: sqlite3.Connection, limit: int, now: int) -> list[tuple[int, int, str]]:
    """Leases whose node is gone, or whose own deadline has passed: (node, batch, ids)."""
    return driver.execute(_ORPHANS, (now, limit)).fetchall()


def rescue(driver: sqlite3.Connection, limit: int, now: int) -> list[Rescued]:
    """Make claimable what orphaned leases still hold, and remove the leases."""
    rescued: list[Rescued] = []
    for node, batch, ids in orphans(driver, limit, now):
        members = json.loads(ids)
        tasks = _still_held(driver, node, batch, members)
        options = _options(driver, members)
        saved = _sort(tasks, now, options=options, alone=len(members) == 1)
        leaving = Leaving(driver, node, [batch], now)
        leaving.keep({task.id: _NOTHING for task in tasks}, "lost")
        leaving.put_back(saved.back)
        leaving.end(saved.failed, Stored.FAILED, by=None)
        leaving.end(saved.cancelled, Stored.CANCELLED, by=None)
        driver.execute(_DROP_LEASE, (node, batch))
        if saved.follows:
            # After its task has gone, as every follow-up.
            insert_tasks(driver, list(saved.follows.values()), now)
        rescued += _told(node, tasks, saved)
    return rescued


def held(driver: sqlite3.Connection, node: int) -> list[tuple[int, list[str]]]:
    """The node's leases: (batch, ids)."""
    rows = driver.execute(
        "select batch, ids from rota_lease where node = ? order by batch", (node,)
    )
    return [(batch, json.loads(ids)) for batch, ids in rows]


def drop_lease(driver: sqlite3.Connection, node: int, batch: int, now: int) -> int:
    """Release what is left in the lease, without cost; how many tasks that were."""
    row = driver.execute(
        "select ids from rota_lease where node = ? and batch = ?", (node, batch)
    ).fetchone()
    if row is None:
        return 0
    tasks = _still_held(driver, node, batch, json.loads(row[0]))
    stopped = {
        task.id: (None, task.cancel_reason, None)
        for task in tasks
        if task.cancel_reason is not None
    }
    back = {
        task.id: Back(max(task.run_at, now), task.attempt - 1, task.losses)
        for task in tasks
        if task.cancel_reason is None
    }
    leaving = Leaving(driver, node, [batch], now)
    leaving.keep(dict.fromkeys(stopped, _NOTHING), "lost")
    leaving.end(stopped, Stored.CANCELLED, by=None)
    leaving.put_back(back)
    driver.execute(_DROP_LEASE, (node, batch))
    return len(tasks)


def extend(driver: sqlite3.Connection, owner: int, batch: int, until: int) -> bool:
    """Move the deadline of a pulled claim's lease; False when the lease is gone."""
    moved = driver.execute(
        "update rota_lease set deadline = ? where node = ? and batch = ? and deadline is not null",
        (until, owner, batch),
    )
    return moved.rowcount > 0


def _still_held(
    driver: sqlite3.Connection, node: int, batch: int, members: list[str]
) -> list[Held]:
    """The lease's list may be stale; only rows that still say so count."""
    return [task for task in held_tasks(driver, node, members) if task.batch == batch]


def _options(driver: sqlite3.Connection, ids: list[str]) -> dict[str, str]:
    return dict(driver.execute(_OPTIONS, (json.dumps(ids),)).fetchall())


def _sort(tasks: list[Held], now: int, *, options: dict[str, str], alone: bool) -> _Saved:
    saved = _Saved({}, {}, {}, {})
    for task in tasks:
        losses = task.losses + 1 if alone else max(task.losses, 1)
        asked = options.get(task.id)
        limit = None if asked is None else options_or_default(asked).max_rescues
        if task.cancel_reason is not None:
            saved.cancelled[task.id] = None, task.cancel_reason, None
        elif asked is not None and limit is not None and losses - 1 >= limit:
            saved.failed[task.id] = None, "lost", None
            follow = follow_lost(task.id, asked)
            if follow is not None:
                saved.follows[task.id] = follow
        else:
            saved.back[task.id] = Back(max(task.run_at, now), task.attempt - 1, losses)
    return saved


def _told(node: int, tasks: Iterable[Held], saved: _Saved) -> list[Rescued]:
    return [
        Rescued(
            task.id,
            task.work,
            task.queue,
            task.priority,
            node,
            _became(task.id, saved),
            saved.follows.get(task.id),
        )
        for task in tasks
    ]


def _became(task_id: str, saved: _Saved) -> Stored:
    if task_id in saved.failed:
        return Stored.FAILED
    return Stored.CANCELLED if task_id in saved.cancelled else Stored.SCHEDULED
