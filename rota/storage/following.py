"""The task that follows one which rescue has failed: made from what was stored with it."""

from __future__ import annotations

from rota.core.ids import new_id
from rota.core.options import options_or_default
from rota.core.task import NewTask


def follow_lost(task_id: str, options: str) -> NewTask | None:
    """What its ``on_failed`` asks for, with a new id; None if it asks for nothing.

    Its options were resolved when the failed task was scheduled. No middleware sees it: there
    is no chain inside the database's transaction.
    """
    spec = options_or_default(options).on_failed
    if spec is None:
        return None
    return NewTask(
        id=new_id(),
        work=spec.work,
        queue=spec.queue,
        priority=spec.priority,
        params=spec.params,
        options=spec.options,
        delay=spec.delay,
        parent=task_id,
    )
