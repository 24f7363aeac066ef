"""The SQLite repository's ``RecurringStore``: which verb reads, which one writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rota.core.recurring import Child, Decision, Definition, Fire, Fired, Put
from rota.core.task import NewTask
from rota.storage.deciding import decide
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.firing import SQLiteLedger
from rota.storage.verbs import recurring


class SQLiteRecurring:
    """Definitions and their firing."""

    _desk: Desk

    def put_recurring(self, definition: Definition, *, replace: bool = True) -> Put:
        tables = self._desk.tables
        return self._desk.write(
            lambda conn: recurring.put(conn, tables, definition, replace=replace)
        )

    def get_recurring(self, recurring_id: str) -> Definition | None:
        with self._desk.reading() as conn:
            return recurring.get(conn, self._desk.tables, recurring_id)

    def list_recurring(self, limit: int = 1000, after: str | None = None) -> list[Definition]:
        with self._desk.reading() as conn:
            return recurring.listed(conn, self._desk.tables, limit, after)

    def remove_recurring(self, recurring_id: str) -> bool:
        return self._desk.write(
            lambda conn: recurring.remove(conn, self._desk.tables, recurring_id)
        )

    def pause_recurring(self, recurring_id: str) -> bool | None:
        return self._desk.write(lambda conn: recurring.pause(conn, self._desk.tables, recurring_id))

    def resume_recurring(
        self,
        recurring_id: str,
        expected: datetime | None,
        following: datetime | None,
        missed: Fire | None = None,
    ) -> bool:
        return self._desk.write(
            lambda conn: recurring.resume(
                conn,
                self._desk.tables,
                recurring_id,
                expected=expected,
                following=following,
                missed=missed,
                now=self._desk.moment(),
            )
        )

    def due_recurring(
        self, within: float, limit: int, *, but: Sequence[str] = ()
    ) -> tuple[list[Definition], float | None]:
        with self._desk.reading() as conn:
            return recurring.due(
                conn, self._desk.tables, within, limit, but=but, now=self._desk.moment()
            )

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Fired]:
        return self._desk.write(
            lambda conn: decide(SQLiteLedger(raw(conn), now=self._desk.micros()), fires)
        )

    def look_again(self, recurring_ids: Sequence[str]) -> None:
        tables = self._desk.tables
        return self._desk.write(lambda conn: recurring.look_again(conn, tables, recurring_ids))

    def outstanding(self, recurring_id: str, limit: int = 10_000) -> int:
        """Writes, too: what is found to have ended need not be looked at again."""
        wanted = {recurring_id: limit}
        return self._desk.write(
            lambda conn: SQLiteLedger(raw(conn), now=self._desk.micros()).unfinished(wanted)
        )[recurring_id]

    def children_of(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Child]:
        with self._desk.reading() as conn:
            return recurring.children_of(conn, self._desk.tables, recurring_id, limit, before)

    def decisions(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Decision]:
        with self._desk.reading() as conn:
            return recurring.decisions(conn, self._desk.tables, recurring_id, limit, before)
