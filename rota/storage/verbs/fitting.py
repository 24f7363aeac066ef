"""What a row, its body or its day must be like to fit a filter, as conditions."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Table, Text, cast, func, literal, select
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from rota.core.finding import TaskFilter


def days(table: Table, where: TaskFilter, pruned: bool) -> list[ColumnElement[bool]]:
    """Whole days, which are partitions: those that are not meant need not be walked."""
    if not pruned:
        return []
    ended, days = table.c.finished_at, list[ColumnElement[bool]]()
    if where.finished_after is not None:
        days.append(ended >= where.finished_after.replace(hour=0, minute=0, second=0))
    if where.finished_before is not None:
        last = where.finished_before.replace(hour=0, minute=0, second=0, microsecond=0)
        if last < where.finished_before:
            last += timedelta(days=1)
        days.append(ended < last)
    return days


def of_row(table: Table, where: TaskFilter) -> list[ColumnElement[bool]]:
    """What can be seen in a row of any of the tables."""
    fits: list[ColumnElement[bool]] = []
    if where.works:
        fits.append(table.c.work.in_(where.works))
    if where.queues:
        fits.append(table.c.queue.in_(where.queues))
    return fits


def asks_bodies(where: TaskFilter) -> bool:
    times = (where.created_after, where.created_before, where.due_after, where.due_before)
    return bool(where.meta) or any(one is not None for one in times)


def of_body(conn: Connection, body: Table, where: TaskFilter) -> list[ColumnElement[bool]]:
    """What only the body says."""
    fits: list[ColumnElement[bool]] = []
    if where.created_after is not None:
        fits.append(body.c.created_at >= where.created_after)
    if where.created_before is not None:
        fits.append(body.c.created_at < where.created_before)
    if where.due_after is not None:
        fits.append(body.c.due_at >= where.due_after)
    if where.due_before is not None:
        fits.append(body.c.due_at < where.due_before)
    if where.meta and conn.dialect.name == "postgresql":
        wanted = cast(literal(json.dumps(dict(where.meta)), Text()), postgresql.JSONB)
        fits.append(body.c.meta.op("@>")(wanted))
    elif where.meta:
        fits += [_has(body, key, value) for key, value in where.meta.items()]
    return fits


def _has(body: Table, key: str, value: object) -> ColumnElement[bool]:
    """SQLite: the key with this value, of its JSON type; a path would not find every key."""
    item = func.json_each(body.c.meta).table_valued("key", "value", "type", name="item")
    query = select(item.c.value).where(item.c.key == key)
    if value is None or isinstance(value, bool):
        return query.where(item.c.type == json.dumps(value)).exists()
    kinds = ["text"] if isinstance(value, str) else ["integer", "real"]
    return query.where(item.c.type.in_(kinds), item.c.value == value).exists()
