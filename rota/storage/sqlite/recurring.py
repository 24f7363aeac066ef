"""The SQLite repository's ``RecurringStore``: the portable verbs on the writer's connection."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from rota.core.recurring import Decision, Definition, Fire
from rota.core.task import Inserted, NewTask
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.inserting import insert_tasks
from rota.storage.verbs import recurring


class SQLiteRecurring:
    """Definitions and their firing."""

    _desk: Desk

    def put_recurring(self, definition: Definition) -> bool:
        return self._desk.write(lambda conn: recurring.put(conn, self._desk.tables, definition))

    def get_recurring(self, recurring_id: str) -> Definition | None:
        with self._desk.reading() as conn:
            return recurring.get(conn, self._desk.tables, recurring_id)

    def list_recurring(self) -> list[Definition]:
        with self._desk.reading() as conn:
            return recurring.listed(conn, self._desk.tables)

    def remove_recurring(self, recurring_id: str) -> bool:
        return self._desk.write(
            lambda conn: recurring.remove(conn, self._desk.tables, recurring_id)
        )

    def due_recurring(self, within: float, limit: int) -> tuple[list[Definition], float | None]:
        with self._desk.reading() as conn:
            return recurring.due(conn, self._desk.tables, within, limit, now=self._desk.moment())

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Inserted | None]:
        def act(conn: Connection) -> list[Inserted | None]:
            return recurring.fire(
                conn,
                self._desk.tables,
                fires,
                insert_children=lambda tasks: insert_tasks(raw(conn), tasks, self._desk.micros()),
                now=self._desk.moment(),
            )

        return self._desk.write(act)

    def decisions(self, recurring_id: str, limit: int) -> list[Decision]:
        with self._desk.reading() as conn:
            return recurring.decisions(conn, self._desk.tables, recurring_id, limit)
