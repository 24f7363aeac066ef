"""Look at the progress report a task has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from rota.core.task import Report

if TYPE_CHECKING:
    from rota.storage.tables import Tables


def reported(conn: Connection, tables: Tables, task_id: str) -> Report | None:
    """The newest report of the task, running, waiting again or finished."""
    kept = tables.report
    row = conn.execute(select(kept).where(kept.c.id == task_id)).first()
    return None if row is None else Report(row.id, row.attempt, row.n, row.at, row.data)
