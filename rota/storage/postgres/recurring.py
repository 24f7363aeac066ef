"""Definitions and their firing: the PostgreSQL repository's ``RecurringStore``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rota.core.recurring import Child, Decision, Definition, Fire, Fired, Put
from rota.core.task import NewTask
from rota.storage.deciding import decide
from rota.storage.postgres.firing import PostgresLedger
from rota.storage.postgres.parts import Parts
from rota.storage.verbs import recurring


class PostgresRecurring(Parts):
    """Recurring tasks by id, and what is due of them."""

    def put_recurring(self, definition: Definition, *, replace: bool = True) -> Put:
        return self._change(
            lambda conn: recurring.put(conn, self._tables, definition, replace=replace)
        )

    def get_recurring(self, recurring_id: str) -> Definition | None:
        return self._look(lambda conn: recurring.get(conn, self._tables, recurring_id))

    def list_recurring(self, limit: int = 1000, after: str | None = None) -> list[Definition]:
        return self._look(lambda conn: recurring.listed(conn, self._tables, limit, after))

    def remove_recurring(self, recurring_id: str) -> bool:
        return self._change(lambda conn: recurring.remove(conn, self._tables, recurring_id))

    def pause_recurring(self, recurring_id: str) -> bool | None:
        return self._change(lambda conn: recurring.pause(conn, self._tables, recurring_id))

    def resume_recurring(
        self,
        recurring_id: str,
        expected: datetime | None,
        following: datetime | None,
        missed: Fire | None = None,
    ) -> bool:
        return self._change(
            lambda conn: recurring.resume(
                conn,
                self._tables,
                recurring_id,
                expected=expected,
                following=following,
                missed=missed,
                now=self._now,
            )
        )

    def due_recurring(
        self, within: float, limit: int, *, but: Sequence[str] = ()
    ) -> tuple[list[Definition], float | None]:
        return self._look(
            lambda conn: recurring.due(conn, self._tables, within, limit, but=but, now=self._now)
        )

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Fired]:
        if not fires:
            return []
        with self._connections.transaction() as session:
            return decide(PostgresLedger(session, firing=self._firing), fires)

    def look_again(self, recurring_ids: Sequence[str]) -> None:
        return self._change(lambda conn: recurring.look_again(conn, self._tables, recurring_ids))

    def outstanding(self, recurring_id: str, limit: int = 10_000) -> int:
        """Writes, too: what is found to have ended need not be looked at again."""
        with self._connections.session() as session:
            return self._firing.unfinished(session, {recurring_id: limit})[recurring_id]

    def children_of(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Child]:
        return self._look(
            lambda conn: recurring.children_of(conn, self._tables, recurring_id, limit, before)
        )

    def decisions(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Decision]:
        return self._look(
            lambda conn: recurring.decisions(conn, self._tables, recurring_id, limit, before)
        )
