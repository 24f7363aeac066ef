"""The repository's protocol for its history: how long it is kept, and what is past that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rota.core.finding import TaskFilter
from rota.core.retention import Keeping, Retention
from rota.core.task import Attempt


class KeepingStore(Protocol):
    """What is kept is written in the database, so that all nodes go by the same."""

    def keeping(self) -> Keeping:
        """What holds now; the defaults if nobody has said anything."""

    def keep(self, retention: Retention | None = None, archive: bool | None = None) -> Keeping:
        """Write down what is given, for all nodes and lasting; what held before.

        None leaves that as it is.
        """

    def outdated(self) -> list[TaskFilter]:
        """Which finished tasks are past their retention now, by the database's clock.

        Each has a ``finished_before``. A database that drops whole days tells whole days.
        """

    def attempts_of(self, task_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts that ended of each of these, oldest first; empty for an unknown id."""

    def tidy(self) -> bool:
        """Keep the history's house for a while; whether there is more to be done at once.

        Partitions ahead, retention, folded counts, old keys, changes and decisions. While
        there is to be an archive, tasks past their retention stay until somebody deletes them.
        """
