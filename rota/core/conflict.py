"""What an insert that met an existing task means to its caller."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.task import Inserted, NewTask
from rota.errors import DuplicateTask


def is_own(task: NewTask, answer: Inserted) -> bool:
    """Whether what a repeated insert met is the earlier try's own: an id we made ourselves."""
    return answer.id == task.id and not answer.by_key and not task.given_id


def refuse_met(
    tasks: Sequence[NewTask], answers: list[Inserted], *, repeated: bool = False
) -> list[Inserted]:
    """The answers, or ``DuplicateTask`` for the first task that was not to meet another.

    Raised inside a repository's transaction it takes the whole call back.
    """
    for task, answer in zip(tasks, answers, strict=True):
        if answer.created or task.on_conflict != "raise":
            continue
        if not (repeated and is_own(task, answer)):
            raise DuplicateTask(
                answer.id,
                str(answer.state.public),
                key=task.unique if answer.by_key else None,
            )
    return answers
