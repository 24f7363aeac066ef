"""What is done now and then for all nodes: expiry, whose turn a chore is, retention."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from rota.core.task import Stored
from rota.storage.sqlite.feeding import note

EXPIRED = """select id, queue, work, priority, attempt, run_at
 from rota_task indexed by rota_task_expires
 where expires_at is not null and state <> 1 and expires_at <= ? order by expires_at limit ?"""
_END = """insert or replace into rota_done
 (id, state, queue, work, priority, attempt, run_at, finished_at, reason)
 values (?, ?, ?, ?, ?, ?, ?, ?, 'expired')"""
_COUNT = """insert into rota_tally (minute, queue, work, state, n, seconds)
 values (?, ?, ?, ?, 1, 0)"""
_TAKE_CHORE = """insert into rota_chore (name, next_at) values (:name, :next)
 on conflict (name) do update set next_at = :next where next_at <= :now"""
_FOLDED = """select minute - minute % :width as start, queue, work, state, sum(n), sum(seconds)
 from rota_tally where minute < :before
 group by start, queue, work, state having count(*) > 1 limit :limit"""
_NOTED = """select c.recurring, c.task, t.id from rota_child c
 left join rota_task t on t.id = c.task
 where (c.recurring, c.task) > (?, ?) order by c.recurring, c.task limit ?"""
_MINUTE = 60_000_000


def overdue(driver: sqlite3.Connection, now: int) -> bool:
    """Whether anything that waits is past its expiry."""
    return driver.execute(EXPIRED, (now, 1)).fetchone() is not None


def expire(driver: sqlite3.Connection, limit: int, now: int) -> list[str]:
    """Cancel waiting tasks past their expiry, the longest past first; their ids."""
    rows = driver.execute(EXPIRED, (now, limit)).fetchall()
    # No token: these rows wait, which WHERE says, and nobody holds them.
    driver.executemany(
        "delete from rota_task where id = ? and state <> 1", [(row[0],) for row in rows]
    )
    state = int(Stored.CANCELLED)
    driver.executemany(_END, [(row[0], state, *row[1:], now) for row in rows])
    minute = now - now % _MINUTE
    driver.executemany(_COUNT, [(minute, row[1], row[2], state) for row in rows])
    if rows:
        note(driver, ((row[0], Stored.CANCELLED) for row in rows), now)
    return [row[0] for row in rows]


def chore_due(driver: sqlite3.Connection, name: str, now: int) -> bool:
    """Whether nobody has done the chore lately."""
    row = driver.execute("select next_at from rota_chore where name = ?", (name,)).fetchone()
    return row is None or row[0] <= now


def take_chore(driver: sqlite3.Connection, name: str, every: float, now: int) -> bool:
    """Take the chore unless somebody else did within ``every`` seconds."""
    values = {"name": name, "next": now + round(every * 1e6), "now": now}
    return driver.execute(_TAKE_CHORE, values).rowcount > 0


def forget_tasks(driver: sqlite3.Connection, table: str, before: int, limit: int) -> int:
    """Remove tasks that finished before this, with bodies and attempts; how many."""
    rows = driver.execute(
        f"select id from {table} where finished_at < ? order by finished_at limit ?",
        (before, limit),
    ).fetchall()
    ids = json.dumps([row[0] for row in rows])
    for each in ("rota_attempt", "rota_body", "rota_report", table):
        driver.execute(f"delete from {each} where id in (select value from json_each(?))", (ids,))
    return len(rows)


def oldest_end(driver: sqlite3.Connection, now: int) -> int:
    """When the first task of the history ended; ``now`` if there is none."""
    row = driver.execute(
        "select min((select coalesce(min(finished_at), ?1) from rota_done),"
        " (select coalesce(min(finished_at), ?1) from rota_failed))",
        (now,),
    ).fetchone()
    return int(row[0])


def forget_attempts(driver: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove old attempts of tasks that go on; how many."""
    return driver.execute(
        "delete from rota_attempt where rowid in"
        " (select rowid from rota_attempt where finished_at < ? order by finished_at limit ?)",
        (before, limit),
    ).rowcount


def forget_counts(driver: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove old counts; how many rows."""
    return driver.execute(
        "delete from rota_tally where rowid in"
        " (select rowid from rota_tally where minute < ? order by minute limit ?)",
        (before, limit),
    ).rowcount


def forget_decisions(driver: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove old decisions about fire times; how many."""
    return driver.execute(
        "delete from rota_decision where (recurring, fire_at, decision) in"
        " (select recurring, fire_at, decision from rota_decision where decided_at < ?"
        " order by decided_at limit ?)",
        (before, limit),
    ).rowcount


def ended_children(
    driver: sqlite3.Connection, after: tuple[str, str], limit: int
) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
    """Children noted as unfinished that have ended, beyond ``after``, and where to go on."""
    rows = driver.execute(_NOTED, (*after, limit)).fetchall()
    ended = [(recurring, task) for recurring, task, there in rows if there is None]
    return ended, None if len(rows) < limit else (rows[-1][0], rows[-1][1])


def forget_children(driver: sqlite3.Connection, ended: Sequence[tuple[str, str]]) -> None:
    """Remove these; a task that has ended never comes back."""
    driver.executemany("delete from rota_child where recurring = ? and task = ?", ended)


def free_periods(driver: sqlite3.Connection, after: str, now: int, limit: int) -> list[str]:
    """Period keys beyond ``after`` that may be taken again, in order."""
    rows = driver.execute(
        "select key from rota_unique where key > ? and expires_at <= ? order by key limit ?",
        (after, now, limit),
    )
    return [key for (key,) in rows]


def forget_periods(driver: sqlite3.Connection, keys: Sequence[str], now: int) -> None:
    """Remove those of these keys that nobody has taken again meanwhile."""
    driver.executemany(
        "delete from rota_unique where key = ? and expires_at <= ?", [(key, now) for key in keys]
    )


def forget_changes(driver: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove the oldest changes of the feed; how many. Their numbers are never used again."""
    return driver.execute(
        "delete from rota_change where n in (select n from"
        " (select n, at from rota_change where n > 0 order by n limit ?) where at < ?)",
        (limit, before),
    ).rowcount


def fold_counts(driver: sqlite3.Connection, before: int, width: int, limit: int) -> int:
    """Make one row of what ended alike within ``width`` microseconds; how many rows."""
    values = {"before": before, "width": width, "limit": limit}
    rows = driver.execute(_FOLDED, values).fetchall()
    driver.executemany(
        "delete from rota_tally"
        " where minute >= ? and minute < ? and queue = ? and work = ? and state = ?",
        [(row[0], row[0] + width, *row[1:4]) for row in rows],
    )
    driver.executemany(
        "insert into rota_tally (minute, queue, work, state, n, seconds) values (?, ?, ?, ?, ?, ?)",
        rows,
    )
    return len(rows)
