"""Find tasks in all their tables at once: one statement, one snapshot, a bounded look."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    Text,
    any_,
    cast,
    column,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects import postgresql

from rota.core.finding import LOOK, Matches, Page, TaskFilter
from rota.core.task import Stored
from rota.storage.tables import Id
from rota.storage.verbs import fitting, looking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rota.storage.tables import Tables

#: So many of a family are looked up in one look: each is looked for in every day's partition.
KIN = 1_000
_UNFINISHED = (Stored.SCHEDULED, Stored.WORKING, Stored.PARKED)
_OF_BODY = ("params", "options", "meta", "created_at", "due_at", "parent", "recurring", "fire_at")


class _Source(NamedTuple):
    """One table that may hold some of what is asked for.

    ``ids`` leads to the candidates, where something does; ``walk`` are the rows that are
    looked at one after another where nothing does, or where ``ids`` may be many.
    """

    table: Table
    conditions: list[ColumnElement[bool]]
    ids: Select[Any] | None = None
    walk: Select[Any] | None = None


class _Window(NamedTuple):
    """The part of all ids that one look is about; both ends are exclusive but for ``last``."""

    after: str | None
    last: str | None  #: the look ends with this id; None: with the table
    newest_first: bool

    def holds(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The conditions an id in it meets."""
        beyond = [] if self.after is None else [self._beyond(column, self.after)]
        if self.last is None:
            return beyond
        return [*beyond, column >= self.last if self.newest_first else column <= self.last]

    def order(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return column.desc() if self.newest_first else column.asc()

    def _beyond(self, column: ColumnElement[Any], mark: str) -> ColumnElement[bool]:
        return column < mark if self.newest_first else column > mark


def find(
    conn: Connection,
    tables: Tables,
    where: TaskFilter,
    limit: int,
    after: str | None,
    *,
    newest_first: bool,
) -> Page:
    """Tasks that fit, those behind ``after``; fewer than there are if the look ends before."""
    found, following = _look(
        conn, tables, where, limit, after, newest_first=newest_first, whole=True
    )
    return Page(tuple(looking.told(row) for row in found), following)


def matching(
    conn: Connection, tables: Tables, where: TaskFilter, limit: int, after: str | None
) -> Matches:
    """Their ids alone, newest first."""
    found, following = _look(conn, tables, where, limit, after, newest_first=True, whole=False)
    return Matches([row.id for row in found], following)


def _look(
    conn: Connection,
    tables: Tables,
    where: TaskFilter,
    limit: int,
    after: str | None,
    *,
    newest_first: bool,
    whole: bool,
) -> tuple[list[Any], str | None]:
    window = _Window(after, None, newest_first)
    family = _family(tables, where)
    if family is not None:
        ids = _first_of(conn, family, window)
        family = _listed(conn, ids)
        if len(ids) == KIN:
            window = window._replace(last=ids[-1])
    sources = list(_sources(conn, tables, where, family))
    if not sources:
        return [], None
    for one in sources:
        # Behind the nearest end not every source is looked at, so nobody need walk further.
        window = window._replace(last=_end_of_walk(conn, one, window) or window.last)
    branches = [
        _branch(conn, tables, where, one, window=window, limit=limit + 1, whole=whole)
        for one in sources
    ]
    everything = union_all(*(select(one.subquery()) for one in branches)).subquery()
    query = select(everything).order_by(window.order(everything.c.id)).limit(limit + 1)
    rows = list(conn.execute(query))
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1].id
    return rows, window.last


def _first_of(conn: Connection, family: Select[Any], window: _Window) -> list[str]:
    """The ids of a family that one look is about; all of it are read once, and sorted."""
    every = family.subquery()
    query = select(every.c.id).where(*window.holds(every.c.id))
    return list(conn.execute(query.order_by(window.order(every.c.id)).limit(KIN)).scalars())


def _listed(conn: Connection, ids: list[str]) -> Select[Any]:
    """These ids as rows."""
    if conn.dialect.name == "postgresql":
        kind = postgresql.ARRAY(postgresql.UUID(as_uuid=False))
        listed = func.unnest(literal(ids, kind)).table_valued(column("id", Id), name="family")
        return select(listed.render_derived().c.id)
    listed = func.json_each(json.dumps(ids)).table_valued(column("value", Id), name="family")
    return select(listed.c.value.label("id"))


def _end_of_walk(conn: Connection, source: _Source, window: _Window) -> str | None:
    """The last id this look may come to; None if it comes to the end."""
    if source.walk is None:
        return None
    walked = source.walk.subquery()
    query = select(walked.c.id).where(*window.holds(walked.c.id))
    end: str | None = conn.execute(
        query.order_by(window.order(walked.c.id)).offset(LOOK - 1).limit(1)
    ).scalar()
    return end


def _branch(
    conn: Connection,
    tables: Tables,
    where: TaskFilter,
    source: _Source,
    *,
    window: _Window,
    limit: int,
    whole: bool,
) -> Select[Any]:
    table = source.table
    conditions = [*source.conditions, *window.holds(table.c.id)]
    if source.ids is not None:
        conditions.append(_among(conn, table.c.id, source.ids, window))
    of_body = fitting.of_body(conn, tables.body, where)
    origin: FromClause = table
    columns: list[ColumnElement[Any]] = [table.c.id]
    if whole or of_body:
        origin, body = _with_body(conn, tables, table, of_body)
        columns = _columns(tables, table, body) if whole else columns
    query = select(*columns).select_from(origin).where(*conditions)
    return query.order_by(window.order(table.c.id)).limit(limit)


def _with_body(
    conn: Connection, tables: Tables, table: Table, conditions: list[ColumnElement[bool]]
) -> tuple[FromClause, Any]:
    """The table's rows with their bodies, looked up one by one.

    PostgreSQL is told by the limit: left a choice it may walk through all bodies.
    """
    body = tables.body
    if conn.dialect.name != "postgresql":
        joined = table.join(body, body.c.id == table.c.id)
        return (joined if not conditions else table.join(body, _all(body, table, conditions))), body
    wanted = [*looking.body_columns(body), body.c.version]
    asked = select(*wanted).where(body.c.id == table.c.id, *conditions).limit(1).lateral("asked")
    return table.join(asked, true()), asked


def _all(body: Table, table: Table, conditions: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    met = body.c.id == table.c.id
    for condition in conditions:
        met = met & condition
    return met


def _columns(tables: Tables, table: Table, body: Any) -> list[ColumnElement[Any]]:
    """The same columns from each table, so that they can be one result."""
    known = {one.name: one for one in (*tables.task.c, *tables.done.c)}
    columns: list[ColumnElement[Any]] = []
    for name, one in known.items():
        if name in table.c:
            columns.append(table.c[name])
        elif name == "version":
            columns.append(body.c.version)
        else:
            columns.append(cast(null(), one.type).label(name))
    of_body = [body.c[name] for name in _OF_BODY if name != "meta"]
    return [*columns, *of_body, cast(body.c.meta, Text).label("meta")]


def _among(
    conn: Connection, column: ColumnElement[Any], ids: Select[Any], window: _Window
) -> ColumnElement[bool]:
    some = ids.subquery()
    chosen = select(some.c.id).where(*window.holds(some.c.id))
    if conn.dialect.name != "postgresql":
        return column.in_(chosen)
    # An array is made first and then looked up; a semi-join might be turned around.
    kind = postgresql.ARRAY(postgresql.UUID(as_uuid=False))
    return column == any_(func.array(chosen.scalar_subquery(), type_=kind))


def _sources(
    conn: Connection, tables: Tables, where: TaskFilter, family: Select[Any] | None
) -> Iterator[_Source]:
    wanted = where.stored
    unfinished = [state for state in _UNFINISHED if state in wanted]
    if unfinished:
        yield from _unfinished(conn, tables, where, unfinished, family)
    finals = [state for state in (Stored.DONE, Stored.CANCELLED) if state in wanted]
    if finals:
        some = [] if len(finals) == 2 else [tables.done.c.state == finals[0].value]
        yield _history(conn, tables.done, where, some, family)
    if Stored.FAILED in wanted:
        yield _history(conn, tables.failed, where, [], family)


def _family(tables: Tables, where: TaskFilter) -> Select[Any] | None:
    """What a parent or a recurring task leads to."""
    body = tables.body
    if where.parent is None and where.recurring is None:
        return None
    query = select(body.c.id)
    if where.parent is not None:
        query = query.where(body.c.parent == where.parent)
    if where.recurring is not None:
        query = query.where(body.c.recurring == where.recurring)
    # No index has the children of a definition in the order of ids. The offset makes a
    # database collect them by the one there is, not walk through all bodies in that order.
    return query if where.parent is not None else query.offset(0)


def _unfinished(
    conn: Connection,
    tables: Tables,
    where: TaskFilter,
    states: list[Stored],
    family: Select[Any] | None,
) -> Iterator[_Source]:
    task = tables.task
    fits = fitting.of_row(task, where)
    retrying = where.stored.get(Stored.SCHEDULED, False)
    every = len(states) == len(_UNFINISHED) and not retrying
    if where.unique is not None:
        by_key = select(task.c.id).where(task.c.unique_key == where.unique)
        family = by_key if family is None else by_key.where(task.c.id.in_(family))
    if family is not None:
        allowed = or_(*(_in_state(task, state, retrying=retrying) for state in states))
        walk = None if where.unique is None else family
        yield _Source(task, fits if every else [*fits, allowed], family, walk)
    elif every:
        unfit = bool(fits or fitting.of_body(conn, tables.body, where))
        yield _Source(task, fits, walk=select(task.c.id) if unfit else None)
    else:
        for state in states:
            conditions = [*fits, _in_state(task, state, retrying=retrying)]
            ids = _way_to(conn, tables, where, state)
            walk = select(task.c.id) if ids is None else None
            yield _Source(task, conditions, ids, walk)


def _in_state(task: Table, state: Stored, *, retrying: bool) -> ColumnElement[bool]:
    # The literal, not a parameter: only then is it seen that the partial index fits.
    met = task.c.state == literal_column(str(state.value))
    return met & (task.c.attempt > 0) if retrying and state is Stored.SCHEDULED else met


def _way_to(
    conn: Connection, tables: Tables, where: TaskFilter, state: Stored
) -> Select[Any] | None:
    """An index that leads to all tasks of this state that can fit, if they are few."""
    task = tables.task
    if state is Stored.WORKING:
        held = looking.through_leases(conn, tables)
        return select(held.task.c.id).select_from(held.origin)
    query = select(task.c.id).where(_in_state(task, state, retrying=False))
    if state is Stored.PARKED and where.works:
        query = query.where(task.c.work.in_(where.works))
    elif state is Stored.SCHEDULED:
        if not where.queues:
            return None
        query = query.where(task.c.queue.in_(where.queues))
    return query if _few(conn, query) else None


def _few(conn: Connection, query: Select[Any]) -> bool:
    some = query.limit(LOOK + 1).subquery()
    return conn.execute(select(func.count()).select_from(some)).scalar_one() <= LOOK


def _history(
    conn: Connection,
    table: Table,
    where: TaskFilter,
    fits: list[ColumnElement[bool]],
    family: Select[Any] | None,
) -> _Source:
    ended = table.c.finished_at
    range_ = [] if where.finished_after is None else [ended >= where.finished_after]
    range_ += [] if where.finished_before is None else [ended < where.finished_before]
    conditions = [*fits, *fitting.of_row(table, where), *range_]
    if family is not None:
        return _Source(table, conditions, family)
    pruned = conn.dialect.name == "postgresql"
    if range_ and not (pruned and table.name == "rota_done"):
        within = select(table.c.id).where(*range_)
        if _few(conn, within):
            return _Source(table, conditions, within)
    if not conditions and not fitting.asks_bodies(where):
        return _Source(table, conditions)
    return _Source(
        table, conditions, walk=select(table.c.id).where(*fitting.days(table, where, pruned))
    )
