"""The SQLite repository's ``TaskStore``: which verb reads, which one writes, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from rota.core.conflict import refuse_met
from rota.core.task import Along, Attempt, Change, Inserted, NewTask, Report, Stored, Task
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.inserting import insert_tasks
from rota.storage.sqlite.reporting import report
from rota.storage.verbs import changing, children, feeding, joining, looking, reporting


class SQLiteTasks:
    """Tasks by id."""

    _desk: Desk

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> list[Inserted]:
        if not tasks:
            return []
        desk = self._desk

        def act(conn: Connection) -> list[Inserted]:
            answers = insert_tasks(raw(conn), tasks, desk.micros(), repeated=repeated, along=along)
            return refuse_met(tasks, answers, repeated=repeated) if together else answers

        return desk.write(act)

    def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        """Gathered first: the file's only writer is not held while they are made."""
        return self.insert([task for part in parts for task in part], together=True)

    def insert_in(
        self, connection: object, tasks: Sequence[NewTask], *, together: bool = False
    ) -> list[Inserted]:
        """Raises ``InvalidArgument`` unless ``connection`` is in a transaction on this file."""
        desk = self._desk
        with desk.joined(connection) as conn, joining.as_one(conn):
            answers = joining.insert_joined(conn, desk.tables, tasks, now=desk.moment())
            return refuse_met(tasks, answers) if together else answers

    def get(self, task_id: str) -> Task | None:
        with self._desk.reading() as conn:
            return looking.get(conn, self._desk.tables, task_id)

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        with self._desk.reading() as conn:
            return looking.states(conn, self._desk.tables, task_ids)

    def attempts(self, task_id: str) -> list[Attempt]:
        with self._desk.reading() as conn:
            return looking.attempts_of(conn, self._desk.tables, [task_id])[task_id]

    def find_key(self, unique: str) -> str | None:
        with self._desk.reading() as conn:
            return looking.find_key(conn, self._desk.tables, unique, now=self._desk.moment())

    def cancel(self, task_id: str, reason: str, *, tombstone: bool = False) -> Stored | None:
        desk = self._desk
        return desk.write(
            lambda conn: changing.cancel(
                conn, desk.tables, task_id, reason, tombstone=tombstone, now=desk.moment()
            )
        )

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        desk = self._desk
        return desk.write(
            lambda conn: changing.change(
                conn, desk.tables, task_id, changes, expected_version, now=desk.moment()
            )
        )

    def report(self, node: int, task_id: str, batch: int, n: int, data: str) -> bool:
        desk = self._desk
        return desk.write(
            lambda conn: report(raw(conn), node, task_id, batch, n=n, data=data, now=desk.micros())
        )

    def reported(self, task_id: str) -> Report | None:
        with self._desk.reading() as conn:
            return reporting.reported(conn, self._desk.tables, task_id)

    def children(
        self, parent: str, limit: int, after: str | None = None
    ) -> list[tuple[str, str, Stored]]:
        with self._desk.reading() as conn:
            return children.children(conn, self._desk.tables, parent, limit, after)

    def count_children(self, parent: str) -> dict[Stored, int]:
        with self._desk.reading() as conn:
            return children.count_children(conn, self._desk.tables, parent)

    def bodies(self, task_ids: Sequence[str]) -> dict[str, str]:
        with self._desk.reading() as conn:
            return looking.bodies(conn, self._desk.tables, task_ids)

    def feed(self, *, on: bool) -> None:
        self._desk.write(lambda conn: feeding.switch(conn, self._desk.tables, on=on))

    def updated_since(self, cursor: str | None, limit: int) -> tuple[list[Change], str]:
        """By a counter: one transaction writes at a time, so it grows in commit order."""
        with self._desk.reading() as conn:
            return feeding.counted_since(conn, self._desk.tables, cursor, limit)

    def counts(self) -> dict[str, int]:
        """Unfinished tasks by status; what waits is counted up to 10,001."""
        with self._desk.reading() as conn:
            return looking.counts(conn, self._desk.tables)
