"""Which lanes have something scheduled: one index descent per lane, whatever the backlog."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from rota.core.task import Lane

_ALL = """select min(queue) from rota_task indexed by rota_task_ready where state = 0
 union all
 select (select min(t.queue) from rota_task t indexed by rota_task_ready
         where t.state = 0 and t.queue > q.queue) from q where q.queue is not null"""
_NAMED = "select value from json_each(:queues)"
_LANES = """with recursive q(queue) as ({queues}),
 lane(queue, priority) as (
  select queue, (select max(t.priority) from rota_task t indexed by rota_task_ready
                 where t.state = 0 and t.queue = q.queue)
  from q where queue is not null
  and queue not in (select p.queue from rota_queue p where p.paused_at is not null)
  union all
  select queue, (select max(t.priority) from rota_task t indexed by rota_task_ready
                 where t.state = 0 and t.queue = lane.queue and t.priority < lane.priority)
  from lane where lane.priority is not null)
 select queue, priority, (select min(t.run_at) from rota_task t indexed by rota_task_ready
                          where t.state = 0 and t.queue = lane.queue
                          and t.priority = lane.priority) as run_at
 from lane where priority is not null order by queue, priority desc"""

PARKED_KINDS = """with recursive w(work) as (
  select min(work) from rota_task indexed by rota_task_parked where state = 2
  union all
  select (select min(t.work) from rota_task t indexed by rota_task_parked
          where t.state = 2 and t.work > w.work) from w where w.work is not null),
 kind(work, priority) as (
  select work, (select max(t.priority) from rota_task t indexed by rota_task_parked
                where t.state = 2 and t.work = w.work)
  from w where work is not null
  union all
  select work, (select max(t.priority) from rota_task t indexed by rota_task_parked
                where t.state = 2 and t.work = kind.work and t.priority < kind.priority)
  from kind where kind.priority is not null)
 select work, priority from kind where priority >= ?
 order by priority desc, (select min(t.run_at) from rota_task t indexed by rota_task_parked
  where t.state = 2 and t.work = kind.work and t.priority = kind.priority)"""

#: A loose scan: SQLite has no skip scan for DISTINCT, a recursive query makes one.
EVERY_LANE = _LANES.format(queues=_ALL)
NAMED_LANES = _LANES.format(queues=_NAMED)


def agenda(driver: sqlite3.Connection, queues: Sequence[str] | None, now: int) -> list[Lane]:
    """The lanes of these queues (None: all) that are not paused, and when each is due."""
    if queues is None:
        rows = driver.execute(EVERY_LANE)
    else:
        names = sorted(set(queues))
        rows = driver.execute(NAMED_LANES, {"queues": json.dumps(names)})
    return [Lane(queue, priority, (run_at - now) / 1e6) for queue, priority, run_at in rows]


def parked_kinds(driver: sqlite3.Connection, floor: int) -> list[tuple[str, int]]:
    """The (work, priority) of what is parked, from ``floor`` up, the most urgent first."""
    return driver.execute(PARKED_KINDS, (floor,)).fetchall()
