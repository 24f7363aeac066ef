"""The archive: what finished tasks are handed to before retention drops them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rota.core.facts import attempt_facts, task_facts
from rota.core.task import Attempt, Task


class ArchivedTask(NamedTuple):
    """A finished task with its ``history``: every attempt that is known, oldest first."""

    task: Task
    history: tuple[Attempt, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON can hold it, as ``rota history archive`` writes it on a line."""
        return {
            **task_facts(self.task),
            "history": [attempt_facts(attempt) for attempt in self.history],
        }


#: Takes a batch of finished tasks; what it raised for is kept, and handed over again later.
Archive = Callable[[Sequence[ArchivedTask]], object]
