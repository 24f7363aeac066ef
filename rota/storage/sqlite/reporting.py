"""Keep the newest progress report of a running attempt, fenced by its token."""

from __future__ import annotations

import sqlite3

from rota.errors import LeaseLost

_HELD = """select attempt, losses from rota_task
 where id = ? and state = 1 and node = ? and batch = ?"""
# Another token's report gives way; of the same token's the one with the higher number stays.
_KEEP = """insert into rota_report (id, attempt, node, batch, n, at, data)
 values (?, ?, ?, ?, ?, ?, ?)
 on conflict (id) do update set attempt = excluded.attempt, node = excluded.node,
 batch = excluded.batch, n = excluded.n, at = excluded.at, data = excluded.data
 where node <> excluded.node or batch <> excluded.batch or n < excluded.n"""
_RAN = """update rota_task set losses = 1
 where id = ? and state = 1 and node = ? and batch = ? and losses > 1"""


def report(
    driver: sqlite3.Connection, node: int, task_id: str, batch: int, *, n: int, data: str, now: int
) -> bool:
    """Keep the report unless this attempt's kept one is as new; whether it was kept.

    Runs in the caller's transaction. Raises ``LeaseLost`` when the token is not the
    task's any more.
    """
    token = (task_id, node, batch)
    row = driver.execute(_HELD, token).fetchone()
    if row is None:
        raise LeaseLost(task_id)
    attempt, losses = row
    if not driver.execute(_KEEP, (task_id, attempt, node, batch, n, now, data)).rowcount:
        return False
    if losses > 1:
        driver.execute(_RAN, token)
    return True
