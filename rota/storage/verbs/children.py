"""A task's children, through the bodies that name it as their parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from rota.core.task import Stored

if TYPE_CHECKING:
    from rota.storage.tables import Tables


def children(
    conn: Connection, tables: Tables, parent: str, limit: int, after: str | None
) -> list[tuple[str, str, Stored]]:
    """Children as (id, work, state), by id, those after ``after``; wherever they are now."""
    body, places = _families(tables)
    query = (
        select(body.c.id, _first(tables, "work"), _first(tables, "state"))
        .select_from(places)
        # What has a body but no row is being removed with its history.
        .where(body.c.parent == parent, _first(tables, "state").is_not(None))
        .order_by(body.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(body.c.id > after)
    return [(row.id, row.work, Stored(row.state)) for row in conn.execute(query)]


def count_children(conn: Connection, tables: Tables, parent: str) -> dict[Stored, int]:
    """How many children there are in each state that any of them is in."""
    body, places = _families(tables)
    state = _first(tables, "state")
    query = (
        select(state, func.count().label("n"))
        .select_from(places)
        .where(body.c.parent == parent, state.is_not(None))
        .group_by(state)
    )
    return {Stored(row.state): row.n for row in conn.execute(query)}


def _families(tables: Tables) -> tuple[Any, FromClause]:
    body = tables.body
    places = (
        body.outerjoin(tables.task, tables.task.c.id == body.c.id)
        .outerjoin(tables.done, tables.done.c.id == body.c.id)
        .outerjoin(tables.failed, tables.failed.c.id == body.c.id)
    )
    return body, places


def _first(tables: Tables, column: str) -> ColumnElement[Any]:
    """The column from the one place that has the task."""
    places = (tables.task, tables.done, tables.failed)
    return func.coalesce(*(place.c[column] for place in places)).label(column)
