"""Count tasks by queue or work, group what failed, and look at the nodes and what they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects import postgresql

from rota.core.finding import COUNT_LIMIT, LOOK, Count, Failures, NodeInfo
from rota.core.task import Stored, Task
from rota.storage.verbs import looking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rota.storage.tables import Now, Tables

ByState = dict[str, dict[Stored, Count]]


def counts_by(conn: Connection, tables: Tables, by: str, since: datetime | None) -> ByState:
    """Counts per ``queue`` or ``work``; what waits is looked at up to a limit."""
    task, found = tables.task, ByState()
    # Each waiting state has an index that leads from one queue, or work, to the next.
    for state, lead in ((Stored.SCHEDULED, task.c.queue), (Stored.PARKED, task.c.work)):
        for name in _names(conn, task, state, lead):
            for group, count in _waiting(conn, task, state, lead == name, task.c[by]):
                _add(found, group, state, count)
    for row in conn.execute(_working(conn, tables, by)):
        _add(found, row.name, Stored.WORKING, Count(row.n))
    for row in conn.execute(_ended(tables.tally, by, since)):
        _add(found, row.name, Stored(row.state), Count(int(row.n)))
    return found


def failures(
    conn: Connection, tables: Tables, since: datetime | None, limit: int
) -> list[Failures]:
    """The newest failed tasks by work and error; the errors stay in the database."""
    failed = tables.failed
    newest = select(
        failed.c.id, failed.c.work, failed.c.finished_at, _error(conn, failed).label("error")
    )
    if since is not None:
        newest = newest.where(failed.c.finished_at >= since)
    some = newest.order_by(failed.c.finished_at.desc()).limit(LOOK).subquery()
    place = func.row_number().over(
        partition_by=(some.c.work, some.c.error), order_by=(some.c.finished_at.desc(), some.c.id)
    )
    n = func.count().over(partition_by=(some.c.work, some.c.error))
    ranked = select(some, place.label("place"), n.label("n")).subquery()
    rows = conn.execute(
        select(ranked)
        .where(ranked.c.place == 1)
        .order_by(ranked.c.finished_at.desc(), ranked.c.id)
        .limit(limit)
    )
    return [Failures(row.work, row.error, row.n, row.finished_at, row.id) for row in rows]


def node_infos(conn: Connection, tables: Tables, now: Now) -> list[NodeInfo]:
    """All incarnations, the oldest first, with how many tasks each holds."""
    node, held = tables.node, looking.through_leases(conn, tables)
    owner = held.task.c.node
    counted = select(owner, func.count().label("n")).select_from(held.origin).group_by(owner)
    tasks = {row.node: row.n for row in conn.execute(counted)}
    rows = conn.execute(select(node, now(0.0).label("now")).order_by(node.c.started_at, node.c.id))
    return [
        NodeInfo(
            id=row.id,
            name=row.name,
            host=row.host,
            pid=row.pid,
            version=row.version,
            started_at=row.started_at,
            lease=row.lease_seconds,
            lease_left=(row.lease_until - row.now).total_seconds(),
            tasks=tasks.get(row.id, 0),
        )
        for row in rows
    ]


def running(conn: Connection, tables: Tables, node: int | None, limit: int) -> list[Task]:
    """Working tasks by id, found through the leases."""
    body, held = tables.body, looking.through_leases(conn, tables, node)
    every = select(held.task).select_from(held.origin)
    some = every.order_by(held.task.c.id).limit(limit).subquery()
    query = select(some, *looking.body_columns(body)).join(body, body.c.id == some.c.id)
    return [looking.told(row) for row in conn.execute(query.order_by(some.c.id))]


def _add(found: ByState, name: str, state: Stored, count: Count) -> None:
    states = found.setdefault(name, {})
    states[state] = count.plus(states.get(state, Count(0)))


def _names(conn: Connection, task: Table, state: Stored, lead: ColumnElement[str]) -> Iterator[str]:
    """Each that has something in this state, along the index: what lies between costs nothing."""
    last = ""
    while True:
        query = select(func.min(lead)).where(_in(task, state), lead > last)
        found: str | None = conn.execute(query).scalar()
        if found is None:
            return
        yield found
        last = found


def _waiting(
    conn: Connection,
    task: Table,
    state: Stored,
    within: ColumnElement[bool],
    by: ColumnElement[str],
) -> list[tuple[str, Count]]:
    """Counts of one queue's, or one parked work's, tasks; one more than the limit is more."""
    some = select(by.label("name")).where(_in(task, state), within).limit(COUNT_LIMIT + 1)
    rows = some.subquery()
    query = select(rows.c.name, func.count().label("n")).group_by(rows.c.name)
    counted = [(row.name, row.n) for row in conn.execute(query)]
    more = sum(n for _, n in counted) > COUNT_LIMIT
    return [(name, Count(min(n, COUNT_LIMIT), more)) for name, n in counted]


def _in(task: Table, state: Stored) -> ColumnElement[bool]:
    # The literal, not a parameter: only then is it seen that the partial index fits.
    return task.c.state == literal_column(str(state.value))


def _working(conn: Connection, tables: Tables, by: str) -> Select[Any]:
    held = looking.through_leases(conn, tables)
    name = held.task.c[by].label("name")
    return select(name, func.count().label("n")).select_from(held.origin).group_by(name)


def _ended(tally: Table, by: str, since: datetime | None) -> Select[Any]:
    name = tally.c[by].label("name")
    query = select(name, tally.c.state, func.sum(tally.c.n).label("n"))
    if since is not None:
        query = query.where(tally.c.minute >= since)
    return query.group_by(name, tally.c.state)


def _error(conn: Connection, failed: Table) -> ColumnElement[str]:
    """The exception's type from the stored error, else the reason."""
    if conn.dialect.name == "postgresql":
        stored = cast(failed.c.payload, postgresql.JSON)["type"].astext
        kind = case((failed.c.payload.like("{%"), stored), else_=cast(null(), Text))
    else:
        kind = case(
            (func.json_valid(failed.c.payload) == 1, func.json_extract(failed.c.payload, "$.type")),
            else_=null(),
        )
    # A reason may be a whole sentence: its beginning is what it has in common with others.
    return func.coalesce(kind, func.substr(failed.c.reason, 1, 200), literal("failed", Text()))
