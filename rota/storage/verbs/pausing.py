"""Pause queues and resume them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from rota.storage.tables import Now, Tables


def pause(conn: Connection, tables: Tables, queue: str, reason: str, *, now: Now) -> None:
    """Hold the queue back; pausing again replaces the reason and keeps the moment."""
    statement = upserting(conn, tables.queue).values(queue=queue, paused_at=now(0.0), reason=reason)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[tables.queue.c.queue], set_={"reason": reason}
        )
    )


def resume(conn: Connection, tables: Tables, queue: str) -> bool:
    """Offer the queue again; False when it was not paused."""
    gone = conn.execute(delete(tables.queue).where(tables.queue.c.queue == queue))
    return bool(gone.rowcount)


def paused(conn: Connection, tables: Tables) -> dict[str, str]:
    """The paused queues and why."""
    queue = tables.queue
    rows = conn.execute(
        select(queue.c.queue, queue.c.reason)
        .where(queue.c.paused_at.is_not(None))
        .order_by(queue.c.queue)
    )
    return {row.queue: row.reason or "" for row in rows}


def upserting(conn: Connection, table: Table) -> Any:
    """The dialect's INSERT that knows ON CONFLICT; the two spell it alike."""
    if conn.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
