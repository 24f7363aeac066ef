"""Recurring definitions: keep them, find what is due, fire it, list what was decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, delete, select, text, update

from rota.core.recurring import Decision, Definition, Fire
from rota.core.task import Inserted, NewTask, Stored
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from rota.storage.tables import Now, Tables

#: Inserts children on the fire's own connection and transaction; one answer each.
InsertChildren = Callable[[Sequence[NewTask]], list[Inserted]]

_CONTENT = ("work", "params", "trigger", "options", "queue", "priority", "paused")


def put(conn: Connection, tables: Tables, definition: Definition) -> bool:
    """Insert, or change if the content differs; False when nothing changed.

    Runs in the caller's transaction; of two that insert at once the second one changes.
    """
    table = tables.recurring
    values = definition._asdict() | {"version": 1}
    created = conn.execute(
        upserting(conn, table).values(values).on_conflict_do_nothing(index_elements=[table.c.id])
    )
    if created.rowcount:
        return True
    row = conn.execute(select(table).where(table.c.id == definition.id).with_for_update()).one()
    content = {name: values[name] for name in _CONTENT}
    if all(getattr(row, name) == value for name, value in content.items()):
        return False
    conn.execute(
        update(table)
        .where(table.c.id == definition.id)
        .values(**content, next_fire_at=definition.next_fire_at, version=row.version + 1)
    )
    return True


def get(conn: Connection, tables: Tables, recurring_id: str) -> Definition | None:
    """The stored definition."""
    table = tables.recurring
    row = conn.execute(select(table).where(table.c.id == recurring_id)).first()
    return None if row is None else _definition(row)


def listed(conn: Connection, tables: Tables) -> list[Definition]:
    """All definitions, by id."""
    rows = conn.execute(select(tables.recurring).order_by(tables.recurring.c.id))
    return [_definition(row) for row in rows]


def remove(conn: Connection, tables: Tables, recurring_id: str) -> bool:
    """Forget the definition; its children and decisions stay."""
    table = tables.recurring
    return bool(conn.execute(delete(table).where(table.c.id == recurring_id)).rowcount)


def due(
    conn: Connection, tables: Tables, within: float, limit: int, *, now: Now
) -> tuple[list[Definition], float | None]:
    """Definitions due within so many seconds, and in how many the next after them is."""
    table = tables.recurring
    rows = conn.execute(
        select(table, now(0.0).label("now"), now(within).label("horizon"))
        # As the partial index spells it, so that both databases see that it fits.
        .where(text("next_fire_at is not null and not paused"))
        .order_by(table.c.next_fire_at, table.c.id)
        .limit(limit + 1)
    ).all()
    ripe = [row for row in rows[:limit] if row.next_fire_at <= row.horizon]
    after = rows[len(ripe)] if len(ripe) < len(rows) else None
    wait = None if after is None else max(0.0, (after.next_fire_at - after.now).total_seconds())
    return [_definition(row) for row in ripe], wait


def fire(
    conn: Connection,
    tables: Tables,
    fires: Sequence[tuple[Fire, NewTask | None]],
    *,
    insert_children: InsertChildren,
    now: Now,
) -> list[Inserted | None]:
    """Fire in order: the CAS, the child, the decision; None where the CAS was lost.

    Runs in the caller's transaction. A tick won without a child answers
    ``created=False``. A paused definition loses the CAS.
    """
    return [
        _fire_one(conn, tables, tick, child, insert_children=insert_children, now=now)
        if _win(conn, tables, tick)
        else None
        for tick, child in fires
    ]


def decisions(conn: Connection, tables: Tables, recurring_id: str, limit: int) -> list[Decision]:
    """What was decided per fire time, newest first."""
    table = tables.decision
    rows = conn.execute(
        select(table)
        .where(table.c.recurring == recurring_id)
        .order_by(table.c.fire_at.desc(), table.c.decided_at.desc())
        .limit(limit)
    )
    return [
        Decision(row.recurring, row.fire_at, row.decision, row.n, row.task, row.decided_at)
        for row in rows
    ]


def _win(conn: Connection, tables: Tables, tick: Fire) -> bool:
    table = tables.recurring
    won = conn.execute(
        update(table)
        .where(table.c.id == tick.recurring, table.c.next_fire_at == tick.expected)
        .where(table.c.paused.is_(False))
        .values(next_fire_at=tick.following, last_fire_at=tick.fire_at)
    )
    return bool(won.rowcount)


def _fire_one(
    conn: Connection,
    tables: Tables,
    tick: Fire,
    child: NewTask | None,
    *,
    insert_children: InsertChildren,
    now: Now,
) -> Inserted:
    if child is None:
        answer = Inserted(tick.task or "", created=False, state=Stored.CANCELLED)
    else:
        answer = insert_children([child])[0]
    _record(conn, tables, tick, answer.id or None, now)
    return answer


def _record(conn: Connection, tables: Tables, tick: Fire, task_id: str | None, now: Now) -> None:
    table = tables.decision
    statement = upserting(conn, table).values(
        recurring=tick.recurring,
        fire_at=tick.fire_at,
        decision=tick.decision,
        n=tick.count,
        task=task_id,
        decided_at=now(0.0),
    )
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.recurring, table.c.fire_at, table.c.decision],
            set_={
                "n": table.c.n + statement.excluded.n,
                "task": statement.excluded.task,
                "decided_at": statement.excluded.decided_at,
            },
        )
    )


def _definition(row: Row[Any]) -> Definition:
    return Definition(**{name: getattr(row, name) for name in Definition._fields})
