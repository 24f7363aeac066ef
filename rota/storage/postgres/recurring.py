"""Definitions and their firing: the PostgreSQL repository's ``RecurringStore``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from rota.core.recurring import Decision, Definition, Fire
from rota.core.task import Inserted, NewTask
from rota.storage.postgres.parts import Parts
from rota.storage.tables import Tables
from rota.storage.verbs import recurring


class PostgresRecurring(Parts):
    """Recurring tasks by id, and what is due of them."""

    def put_recurring(self, definition: Definition) -> bool:
        """Insert, or change if the content differs; False when nothing changed."""
        return self._change(lambda conn: recurring.put(conn, self._tables, definition))

    def get_recurring(self, recurring_id: str) -> Definition | None:
        """The stored definition."""
        return self._look(lambda conn: recurring.get(conn, self._tables, recurring_id))

    def list_recurring(self) -> list[Definition]:
        """All definitions."""
        return self._look(lambda conn: recurring.listed(conn, self._tables))

    def remove_recurring(self, recurring_id: str) -> bool:
        """Forget the definition; False when there is none."""
        return self._change(lambda conn: recurring.remove(conn, self._tables, recurring_id))

    def due_recurring(self, within: float, limit: int) -> tuple[list[Definition], float | None]:
        """Definitions due within so many seconds, and in how many the next after them is."""
        return self._look(
            lambda conn: recurring.due(conn, self._tables, within, limit, now=self._now)
        )

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Inserted | None]:
        """CAS each definition and insert its child, one transaction; None where the CAS lost."""
        with self._connections.transaction() as session:
            mine = _lock(session.conn, self._tables, {tick.recurring for tick, _ in fires})
            taken = [index for index, (tick, _) in enumerate(fires) if tick.recurring in mine]
            answers: list[Inserted | None] = [None] * len(fires)
            fired = recurring.fire(
                session.conn,
                self._tables,
                [fires[index] for index in taken],
                insert_children=lambda new: self._inserting.careful(session, new, repeated=False),
                now=self._now,
            )
            for index, answer in zip(taken, fired, strict=True):
                answers[index] = answer
            return answers

    def decisions(self, recurring_id: str, limit: int) -> list[Decision]:
        """What was decided per fire time, latest first."""
        return self._look(lambda conn: recurring.decisions(conn, self._tables, recurring_id, limit))


def _lock(conn: Connection, tables: Tables, ids: Iterable[str]) -> set[str]:
    """Lock these definitions but those held: another node is firing them at this moment."""
    table = tables.recurring
    query = select(table.c.id).where(table.c.id.in_(sorted(ids))).order_by(table.c.id)
    return set(conn.execute(query.with_for_update(skip_locked=True)).scalars())
