"""Put tasks in, look at them, change them: the PostgreSQL repository's ``TaskStore``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import psycopg
from sqlalchemy import Connection

from rota.core.conflict import refuse_met
from rota.core.task import Along, Attempt, Change, Inserted, NewTask, Report, Stored, Task
from rota.storage.postgres.connections import Session
from rota.storage.postgres.guests import Borrowed
from rota.storage.postgres.parts import Parts
from rota.storage.verbs import changing, feeding, joining, looking, reporting

#: A keyed insert that meets a stranger's open transaction gives way soon, and once.
_IMPATIENT = "set local lock_timeout = '50ms'"


class _MayMeet(Exception):
    """A part cannot go with the others in their order: one of its tasks may meet another."""


class PostgresTasks(Parts):
    """Tasks by id, by key and by parent."""

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> list[Inserted]:
        """Write the tasks, all or none; one answer each, in order."""
        if not tasks:
            return []
        if together and any(task.keyed for task in tasks):
            with self._connections.transaction() as session:
                answers = self._inserting.careful(session, tasks, repeated=repeated)
                return refuse_met(tasks, answers, repeated=repeated)
        if not repeated and not any(task.keyed for task in tasks):
            inserted = self._insert_plain(tasks, along)
        else:
            inserted = self._insert_impatiently(tasks, repeated=repeated)
        if inserted is not None:
            return inserted
        with self._connections.transaction() as session:
            return self._inserting.careful(session, tasks, repeated=repeated)

    def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        """Each part written while the next is made; gathered first as soon as one is keyed.

        Keys must be taken in one order, and an id that exists is found by several looks.
        """
        coming = iter(parts)
        gathered: list[NewTask] = []
        try:
            with self._connections.transaction() as session:
                answers: list[Inserted] = []
                for part in coming:
                    gathered += part
                    answers += self._insert_part(session, part)
                return answers
        except _MayMeet:
            gathered += [task for part in coming for task in part]
            return self.insert(gathered, together=True)

    def insert_in(
        self, connection: object, tasks: Sequence[NewTask], *, together: bool = False
    ) -> list[Inserted]:
        """The same within the caller's transaction, under that connection's own settings."""
        with self._guests.welcomed(connection) as guest:
            if not together:
                return self._insert_as_guest(guest, tasks)
            with guest.as_one() if isinstance(guest, Borrowed) else joining.as_one(guest):
                return refuse_met(tasks, self._insert_as_guest(guest, tasks))

    def get(self, task_id: str) -> Task | None:
        """The task, waiting, working or in history."""
        return self._look(lambda conn: looking.get(conn, self._tables, task_id))

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """The stored state of each that exists."""
        return self._look(lambda conn: looking.states(conn, self._tables, task_ids))

    def attempts(self, task_id: str) -> list[Attempt]:
        """The attempts that ended, oldest first."""
        return self._look(lambda conn: looking.attempts_of(conn, self._tables, [task_id]))[task_id]

    def find_key(self, unique: str) -> str | None:
        """The unfinished task with this unique key, or with this period key."""
        return self._look(lambda conn: looking.find_key(conn, self._tables, unique, now=self._now))

    def cancel(self, task_id: str, reason: str, *, tombstone: bool = False) -> Stored | None:
        """Cancel what waits, ask what works; the state it met."""
        return self._change(
            lambda conn: changing.cancel(
                conn, self._tables, task_id, reason, tombstone=tombstone, now=self._now
            )
        )

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        """Change a waiting task."""
        return self._change(
            lambda conn: changing.change(
                conn, self._tables, task_id, changes, expected_version, now=self._now
            )
        )

    def report(self, node: int, task_id: str, batch: int, n: int, data: str) -> bool:
        """Keep a running attempt's progress; one statement."""
        with self._connections.session() as session:
            return self._reporting.report(session, node, task_id, batch, n=n, data=data)

    def reported(self, task_id: str) -> Report | None:
        """The newest report, also of a finished task."""
        return self._look(lambda conn: reporting.reported(conn, self._tables, task_id))

    def children(
        self, parent: str, limit: int, after: str | None = None
    ) -> list[tuple[str, str, Stored]]:
        """A task's children as (id, work, state), by id."""
        with self._connections.session() as session:
            return self._families.children(session, parent, limit, after)

    def count_children(self, parent: str) -> dict[Stored, int]:
        """How many children a task has in each state."""
        with self._connections.session() as session:
            return self._families.count(session, parent)

    def bodies(self, task_ids: Sequence[str]) -> dict[str, str]:
        """The params of these tasks as JSON text."""
        return self._look(lambda conn: looking.bodies(conn, self._tables, task_ids))

    def feed(self, *, on: bool) -> None:
        """Turn the change feed on or off, for every node at its next statement."""
        self._change(lambda conn: feeding.switch(conn, self._tables, on=on))

    def updated_since(self, cursor: str | None, limit: int) -> tuple[list[Change], str]:
        """Changes after the cursor, as far as no open transaction may still add to them."""
        with self._connections.session() as session:
            return self._feeding.since(session, cursor, limit)

    def counts(self) -> dict[str, int]:
        """Unfinished tasks by status."""
        return self._look(lambda conn: looking.counts(conn, self._tables))

    def _insert_as_guest(
        self, guest: Borrowed | Connection, tasks: Sequence[NewTask]
    ) -> list[Inserted]:
        if isinstance(guest, Borrowed):
            return self._inserting.careful(guest, tasks, repeated=False)
        return joining.insert_joined(guest, self._tables, tasks, now=self._now)

    def _insert_plain(self, tasks: Sequence[NewTask], along: Along | None) -> list[Inserted] | None:
        """All at once; None, and nothing written, if an id exists after all."""
        with self._connections.session() as session:
            try:
                if along is not None:
                    return self._inserting.plain_along(session, tasks, along)
                return self._inserting.plain(session, tasks)
            except psycopg.errors.UniqueViolation:
                return None

    def _insert_part(self, session: Session, part: Sequence[NewTask]) -> list[Inserted]:
        if any(task.keyed for task in part):
            raise _MayMeet
        try:
            return self._inserting.plain(session, part)
        except psycopg.errors.UniqueViolation as error:
            raise _MayMeet from error

    def _insert_impatiently(
        self, tasks: Sequence[NewTask], *, repeated: bool
    ) -> list[Inserted] | None:
        """Carefully, but None, and nothing written, where a stranger's lock is in the way."""
        with self._connections.transaction(settings=_IMPATIENT) as session:
            try:
                return self._inserting.careful(session, tasks, repeated=repeated)
            except psycopg.errors.LockNotAvailable:
                # The commit of a transaction with an error is a rollback.
                return None
