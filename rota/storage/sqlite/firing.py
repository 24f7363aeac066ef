"""The SQLite repository's ledger: what deciding ticks reads and writes, alone with the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from rota.core.task import Inserted, NewTask
from rota.storage.deciding import LOOK_AGAIN, PRUNED, Entry, Standing, Verdict
from rota.storage.sqlite.inserting import insert_tasks
from rota.storage.tables import from_micros, to_micros

_STANDINGS = """select r.id, r.next_fire_at, r.last_fire_at, r.paused, r.version, r.runs
 from json_each(?) j cross join rota_recurring r on r.id = j.value"""
_ENDED = """select c.task from
 (select task from rota_child where recurring = ? order by task limit ?) c
 where not exists (select 1 from rota_task t where t.id = c.task)"""
_FORGET = "delete from rota_child where recurring = ? and task = ?"
_UNFINISHED = """select count(*) from
 (select 1 from rota_child c cross join rota_task t on t.id = c.task
  where c.recurring = ? limit ?)"""
_MOVE = """update rota_recurring set next_fire_at = ?, due_at = ?, last_fire_at = ?, runs = ?
 where id = ?"""
_ADD = "insert or ignore into rota_child (recurring, task) values (?, ?)"
_RECORD = """insert into rota_decision
 (recurring, fire_at, decision, n, task, version, decided_at) values (?, ?, ?, ?, ?, ?, ?)
 on conflict (recurring, fire_at, decision) do update set n = n + excluded.n,
 task = excluded.task, version = excluded.version, decided_at = excluded.decided_at"""


class SQLiteLedger:
    """The writer's connection, in a transaction that began as IMMEDIATE."""

    def __init__(self, driver: sqlite3.Connection, *, now: int) -> None:
        self._driver = driver
        self._now = now

    def lock(self, ids: Sequence[str], by_hand: Sequence[str]) -> dict[str, Standing]:
        """All that exist: the writer is alone."""
        rows = self._driver.execute(_STANDINGS, (json.dumps([*ids, *by_hand]),))
        return {
            name: Standing(
                next_fire_at=_instant(next_fire_at),
                last_fire_at=_instant(last_fire_at),
                paused=bool(paused),
                version=version,
                runs=runs,
            )
            for name, next_fire_at, last_fire_at, paused, version, runs in rows
        }

    def unfinished(self, most: Mapping[str, int]) -> dict[str, int]:
        return {name: self._count(name, limit) for name, limit in most.items()}

    def insert(self, children: Sequence[NewTask]) -> list[Inserted]:
        return insert_tasks(self._driver, children, self._now)

    def insert_keyed(self, child: NewTask) -> Inserted:
        """Never held up: nobody else writes."""
        return insert_tasks(self._driver, [child], self._now)[0]

    def write(self, verdict: Verdict) -> None:
        driver = self._driver
        later = self._now + round(LOOK_AGAIN * 1e6)
        moved = verdict.standings.items()
        driver.executemany(_MOVE, [_moved(name, one, later) for name, one in moved])
        children = verdict.children.items()
        driver.executemany(_ADD, [(made.recurring, task_id) for task_id, made in children])
        entries = verdict.entries.values()
        driver.executemany(_RECORD, [_recorded(entry, self._now) for entry in entries])

    def _count(self, name: str, limit: int) -> int:
        driver = self._driver
        ended = driver.execute(_ENDED, (name, limit + PRUNED)).fetchall()
        driver.executemany(_FORGET, [(name, task_id) for (task_id,) in ended])
        (count,) = driver.execute(_UNFINISHED, (name, limit)).fetchone()
        return int(count)


def _moved(name: str, standing: Standing, later: int) -> tuple[object, ...]:
    next_fire_at = _micros(standing.next_fire_at)
    due_at = later if standing.waiting else next_fire_at
    return next_fire_at, due_at, _micros(standing.last_fire_at), standing.runs, name


def _recorded(entry: Entry, now: int) -> tuple[object, ...]:
    fire_at = to_micros(entry.fire_at)
    what = (entry.recurring, fire_at, entry.decision, entry.count, entry.task, entry.version)
    return (*what, now)


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else to_micros(instant)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
