"""What the database alone could do: claim and finish of the same layout, in a raw loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

from benchmarks.drain import drain
from benchmarks.noops import put
from benchmarks.place import Connection, Place, WrongResult

BATCHES = (100, 500, 1_000)
NODE = 1

# The statements of `../shared/research/storage-layout.md`, with the columns the layout has now.
_CLAIM = """with n as (select id from {s}rota_node where id = %(node)s for key share),
c as (
  update {s}rota_task set state = 1, node = %(node)s, batch = %(batch)s, attempt = attempt + 1
  where ctid = any(array(
    select ctid from {s}rota_task where state = 0 and queue = 'default' and priority = 0
      and run_at <= now() and exists (select 1 from n)
    order by queue, priority desc, run_at, id limit %(limit)s for update skip locked))
  returning id, work, attempt, run_at),
l as (
  insert into {s}rota_lease (node, batch, ids)
  select %(node)s, %(batch)s, array_agg(id) from c having count(*) > 0)
select c.id, c.work, c.attempt, b.params, b.options, c.run_at
from c cross join lateral (select * from {s}rota_body x where x.id = c.id limit 1) b"""
_FINISH = """with d as (
  delete from {s}rota_task
  where id = any(%(ids)b) and node = %(node)s and batch = %(batch)s and state = 1
  returning id, queue, work, priority, attempt, node, batch, run_at),
f as (delete from {s}rota_lease where node = %(node)s and batch = %(batch)s),
h as (
  insert into {s}rota_done (id, state, queue, work, priority, attempt, node, batch, run_at,
    started_at, finished_at)
  select id, 3, queue, work, priority, attempt, node, batch, run_at, now(), now() from d)
insert into {s}rota_tally (minute, queue, work, state, n, seconds)
select date_trunc('minute', now()), queue, work, 3, count(*), 0 from d group by queue, work"""
_JOIN = """insert into {s}rota_node (id, name, host, pid, started_at, lease_seconds, lease_until)
values (1, 'limit', '', 0, now(), 3600, now() + interval '1 hour') on conflict do nothing"""
#: As rota sets them: a stale statistic must not decide the plan.
_PLANNER = ("jit", "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")

_READ = """select t.id, t.queue, t.work, t.priority, t.attempt + 1, t.run_at, b.params, b.options
 from rota_task t indexed by rota_task_ready cross join rota_body b on b.id = t.id
 where t.state = 0 and t.queue = 'default' and t.priority = 0 and t.run_at <= ?
 order by t.run_at, t.id limit ?"""
_TAKE = """update rota_task set state = 1, node = ?, batch = ?, attempt = attempt + 1
 where id = ? and state = 0"""
_LEASE = "insert into rota_lease (node, batch, ids) values (?, ?, ?)"
_REMOVE = "delete from rota_task where id = ? and state = 1 and node = ? and batch = ?"
_DONE = """insert into rota_done (id, state, queue, work, priority, attempt, node, batch, run_at,
 started_at, finished_at) values (?, 3, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_TALLY = """insert into rota_tally (minute, queue, work, state, n, seconds)
 values (?, 'default', 'bench.noop', 3, ?, 0)"""
_OVER = "delete from rota_lease where node = ? and batch = ?"
_MINUTE = 60_000_000

#: Claims and finishes up to so many tasks as a batch of this number; how many there were.
Step = Callable[[int, int], int]


async def limit(place: Place, *, tasks: int) -> dict[str, Any]:
    """The raw loop at each size of batch, the best of them, and a drain's share of that."""
    per_s: dict[int, float] = {}
    done = 0
    for size in BATCHES:
        await put(place, tasks)
        place.settle()
        with closing(place.connect()) as connection:
            step = _sqlite(connection) if place.kind == "sqlite" else _postgres(place, connection)
            per_s[size] = tasks / _emptied(step, tasks, size)
        done += tasks
        place.verify_done(done)
    best = max(per_s, key=per_s.__getitem__)
    _forget(place)
    drained = await drain(place, tasks=tasks)
    return {
        "tasks_per_s": round(per_s[best]),
        "best_batch": best,
        **{f"batch_{size}_per_s": round(rate) for size, rate in per_s.items()},
        "drain_per_s": drained["tasks_per_s"],
        "ratio": round(drained["tasks_per_s"] / per_s[best], 3),
        "tasks": tasks,
    }


def _emptied(step: Step, tasks: int, size: int) -> float:
    began = time.perf_counter()
    ended = batch = 0
    while ended < tasks:
        batch += 1
        taken = step(batch, size)
        if not taken:
            raise WrongResult(f"the raw loop found {ended} of {tasks} tasks")
        ended += taken
    return time.perf_counter() - began


def _forget(place: Place) -> None:
    """Let the drain begin with an empty history, as by itself."""
    with closing(place.connect()) as connection:
        for table in ("rota_done", "rota_tally", "rota_body", "rota_node"):
            connection.execute(f"delete from {place.prefix}{table}")


def _postgres(place: Place, connection: Connection) -> Step:
    claim, finish = _CLAIM.format(s=place.prefix), _FINISH.format(s=place.prefix)
    connection.execute(_JOIN.format(s=place.prefix))
    for name in _PLANNER:
        connection.execute(f"set {name} = off")
    execute = cast("Any", connection).execute

    def step(batch: int, size: int) -> int:
        token = {"node": NODE, "batch": batch}
        rows = execute(claim, {**token, "limit": size}, binary=True, prepare=True).fetchall()
        execute(finish, {**token, "ids": [row[0] for row in rows]}, prepare=True)
        return len(rows)

    return step


def _sqlite(connection: Connection) -> Step:
    driver = cast("Any", connection)
    for pragma in (
        "synchronous=full",
        "wal_autocheckpoint=4000",
        "cache_size=-16000",
        "temp_store=memory",
    ):
        driver.execute(f"pragma {pragma}")

    def step(batch: int, size: int) -> int:
        driver.execute("begin immediate")
        rows = driver.execute(_READ, (_micros(), size)).fetchall()
        driver.executemany(_TAKE, [(NODE, batch, row[0]) for row in rows])
        driver.execute(_LEASE, (NODE, batch, json.dumps([row[0] for row in rows])))
        driver.execute("commit")
        now = _micros()
        driver.execute("begin immediate")
        driver.executemany(_REMOVE, [(row[0], NODE, batch) for row in rows])
        driver.executemany(_DONE, [(*row[:5], NODE, batch, row[5], now, now) for row in rows])
        driver.execute(_TALLY, (now - now % _MINUTE, len(rows)))
        driver.execute(_OVER, (NODE, batch))
        driver.execute("commit")
        return len(rows)

    return step


def _micros() -> int:
    return time.time_ns() // 1_000
