"""How long history is kept, and its upkeep: the PostgreSQL repository's ``KeepingStore``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rota.core.finding import TaskFilter
from rota.core.retention import Keeping, Retention, outdated
from rota.core.task import Attempt
from rota.storage.postgres.parts import NOW, Parts
from rota.storage.verbs import keeping, looking


class PostgresUpkeep(Parts):
    """History goes by whole days, UTC."""

    def keeping(self) -> Keeping:
        """What holds for the history."""
        return self._look(lambda conn: keeping.keeping(conn, self._tables))

    def keep(self, retention: Retention | None = None, archive: bool | None = None) -> Keeping:
        """Write down what is given; what held before."""
        before = self.keeping()
        self._change(lambda conn: keeping.keep(conn, self._tables, retention, archive))
        return before

    def outdated(self) -> list[TaskFilter]:
        """Finished tasks of days that are past their retention."""
        retention = self.keeping().retention
        with self._connections.session() as session:
            moment: datetime = session.rows(f"select {NOW}")[0][0]
        return outdated(retention, moment, whole_days=True)

    def attempts_of(self, task_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts that ended of each, oldest first."""
        return self._look(lambda conn: looking.attempts_of(conn, self._tables, task_ids))

    def tidy(self) -> bool:
        """Partitions ahead, retention, folded counts, expired keys, old changes; if more is left.

        At its end it gives this thread's connection back: it is not needed for long.
        """
        more = self._tidying.tidy(self._connections, self.keeping)
        if not more:
            self._connections.give_back()
        return more
