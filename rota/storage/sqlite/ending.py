"""What every way out of a lease shares: the fence, history's rows, the way back to waiting."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from rota.core.task import Finish, Stored
from rota.storage.sqlite.carrying import Carried, carry, listed
from rota.storage.sqlite.feeding import note

#: Working rows by id, along the primary key; the caller compares the batch.
HELD = """select t.id, t.batch, t.queue, t.work, t.priority, t.attempt, t.losses, t.run_at,
 t.cancel_reason
 from json_each(?) j cross join rota_task t on t.id = j.value
 where t.state = 1 and t.node = ?"""
#: Under which batch the node holds each of these now; null: not at all.
BATCHES = """select json_group_array(t.batch)
 from json_each(?) j left join rota_task t on t.id = j.value and t.state = 1 and t.node = ?"""
_FENCE = "state = 1 and node = :node and batch in (select value from json_each(:batches))"
_HELD = f"from json_each(:rows) j cross join rota_task t on t.id = j.key where {_FENCE}"
_STARTED = "iif(j.type = 'array', j.value->>0, j.value)"
_REASON = "iif(j.type = 'array', replace(j.value->>1, :nul, char(0)), null)"
_PAYLOAD = "iif(j.type = 'array', replace(j.value->>2, :nul, char(0)), null)"
HISTORY = f"""{{insert}} into {{table}} (id, state, queue, work, priority, attempt, node,
 batch, run_at, started_at, finished_at, reason, payload)
 select t.id, :state, t.queue, t.work, t.priority, t.attempt, :by,
 iif(:by is null, null, t.batch), t.run_at, {_STARTED}, :now, {_REASON}, {_PAYLOAD} {_HELD}"""
TALLY = f"""insert into rota_tally (minute, queue, work, state, n, seconds)
 select :minute, t.queue, t.work, :state, count(*), total(:now - {_STARTED}) / 1e6 {_HELD}
 group by t.queue, t.work"""
REMOVE = f"""delete from rota_task where id in (select key from json_each(:rows)) and {_FENCE}"""
ATTEMPTS = f"""insert into rota_attempt
 (id, attempt, outcome, node, batch, started_at, finished_at, reason, error)
 select t.id, t.attempt, :outcome, t.node, t.batch, {_STARTED}, :now, {_REASON}, {_PAYLOAD}
 {_HELD}"""
# An insert that always meets its row: unlike an update's, its join is in the order written,
# whatever a statistic says of the table.
_CHANGE = f"""insert into rota_task
 (id, queue, work, priority, state, run_at, node, attempt, losses)
 select t.id, t.queue, t.work, t.priority, {{state}}, j.value->>0, {{node}}, j.value->>1, {{losses}}
 {_HELD} on conflict (id) do update set state = excluded.state, run_at = excluded.run_at,
 node = excluded.node, batch = null, attempt = excluded.attempt, losses = excluded.losses
 where {_FENCE}"""
TO_WAITING = _CHANGE.format(state=0, node="null", losses="j.value->>2")
TO_PARKED = _CHANGE.format(state=2, node="j.value->>2", losses="t.losses")
_MINUTE = 60_000_000

#: What an attempt left behind: when it began, a reason, and a result or an error; or the first
#: of these alone, since an array is parsed once for each look into it.
Left = int | None | tuple[int | None, str | None, str | None]
_Values = dict[str, int | str | None]


class Held(NamedTuple):
    """A working task's row, as read under the writer's lock."""

    id: str
    batch: int
    queue: str
    work: str
    priority: int
    attempt: int
    losses: int
    run_at: int
    cancel_reason: str | None


class Back(NamedTuple):
    """How a task waits again: when, with which attempt and losses."""

    run_at: int
    attempt: int
    losses: int


class Parked(NamedTuple):
    """How a task is set aside: until when, with which attempt, and which node is not offered it."""

    run_at: int
    attempt: int
    keep_from: int | None


def held_tasks(driver: sqlite3.Connection, node: int, ids: Iterable[str]) -> list[Held]:
    """Those of these tasks that the node holds now, under whichever batch."""
    return [*map(Held._make, driver.execute(HELD, (listed([*ids]), node)))]


def held_batches(driver: sqlite3.Connection, node: int, ids: list[str]) -> list[int | None]:
    """Under which batch the node holds each of these tasks now; None: not at all."""
    (batches,) = driver.execute(BATCHES, (listed(ids), node)).fetchone()
    found: list[int | None] = json.loads(batches)
    return found


class Leaving:
    """Takes a node's tasks out of their leases, many by one statement.

    Every statement looks for working rows of the node and these ``batches``; that each
    task is held under its own the caller has read in the same transaction.
    """

    def __init__(
        self, driver: sqlite3.Connection, node: int, batches: Collection[int], now: int
    ) -> None:
        self._driver = driver
        self._now = now
        self._fence: _Values = {"node": node, "batches": listed([*batches]), "now": now}

    def end(self, tasks: Mapping[str, Left], state: Stored, *, by: int | None) -> None:
        """Move tasks into history and count them; ``by`` is whose outcome ended them, if any."""
        if not tasks:
            return
        values = self._values(carry(tasks)) | {
            "state": int(state),
            "by": by,
            "minute": self._now - self._now % _MINUTE,
        }
        table = "rota_failed" if state is Stored.FAILED else "rota_done"
        try:
            self._driver.execute(HISTORY.format(insert="insert", table=table), values)
        except sqlite3.IntegrityError:
            # Nothing may keep a task from ending, not even an older row with its id.
            self._driver.execute(HISTORY.format(insert="insert or replace", table=table), values)
        self._driver.execute(TALLY, values)
        self._driver.execute(REMOVE, values)
        note(self._driver, ((task_id, state) for task_id in tasks), self._now)

    def keep(self, attempts: Mapping[str, Left], outcome: str) -> None:
        """Keep attempts that do not end their tasks; before these are moved."""
        if attempts:
            values = self._values(carry(attempts)) | {"outcome": outcome}
            self._driver.execute(ATTEMPTS, values)

    def put_back(self, tasks: Mapping[str, Back]) -> None:
        """Let tasks wait again."""
        if tasks:
            self._driver.execute(TO_WAITING, self._values(carry(tasks)))
            note(self._driver, ((task_id, Stored.SCHEDULED) for task_id in tasks), self._now)

    def park(self, tasks: Mapping[str, Parked]) -> None:
        """Set tasks aside for a node that knows their work."""
        if tasks:
            self._driver.execute(TO_PARKED, self._values(carry(tasks)))
            note(self._driver, ((task_id, Stored.PARKED) for task_id in tasks), self._now)

    def _values(self, rows: Carried) -> _Values:
        return {**self._fence, "rows": rows.text, "nul": rows.nul}


def left(one: Finish, now: int, reason: str | None) -> Left:
    """What the attempt left, which said how long ago it had begun."""
    began = None if one.ago is None else now - round(one.ago * 1e6)
    if reason is None and one.payload is None:
        return began
    return began, reason, one.payload
