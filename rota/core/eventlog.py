"""One log line per event, with what it is about as fields of the record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rota.core.task import Ending, Finish

if TYPE_CHECKING:
    from rota.core.run import Run

log: logging.Logger = logging.getLogger("rota.task")
# Else Python would write failures to the standard error of a service that set up no logging;
# how a task ended is in the database. What is wrong with a node itself is still heard there.
log.addHandler(logging.NullHandler())

#: A line tells so much of a reason.
_LONGEST = 300
# Looked up in its class it would cost more than to look at a logger's level.
_DONE = Ending.DONE
#: What each outcome is called and how loud it is; a failure is loud, the everyday is not.
_ENDINGS = {
    Ending.DONE: ("done", logging.INFO),
    Ending.FAILED: ("failed", logging.ERROR),
    Ending.CANCELLED: ("cancelled", logging.INFO),
    Ending.RETRY: ("retrying", logging.WARNING),
    Ending.AGAIN: ("again", logging.INFO),
    Ending.RELEASE: ("released", logging.DEBUG),
    Ending.PARK: ("parked", logging.DEBUG),
}


def about(event: str, **fields: object) -> dict[str, object]:
    """The ``extra`` of a record: the event's name and its fields."""
    return {"event": event, **fields}


def attempt_started(run: Run) -> None:
    """An attempt has its slot, at DEBUG."""
    if log.isEnabledFor(logging.DEBUG):
        claimed = run.claimed
        log.debug(
            "task %s (%s) started, attempt %d",
            claimed.id,
            claimed.work,
            claimed.attempt,
            extra=about("started", **_fields(run)),
        )


def attempt_ended(run: Run, finish: Finish) -> None:
    """An attempt has its outcome, which is on its way into the database."""
    if finish.ending is _DONE and not log.isEnabledFor(logging.INFO):
        return  # most of all runs, where nobody asked to hear of tasks
    event, level = _ENDINGS[finish.ending]
    if not log.isEnabledFor(level):
        return
    took = finish.ago or 0.0
    log.log(
        level,
        "task %s (%s) %s, attempt %d, after %.3f s%s",
        finish.id,
        run.claimed.work,
        event,
        finish.attempt,
        took,
        f": {_line(finish.reason)}" if finish.reason else "",
        extra=about(event, **_fields(run), seconds=took, reason=finish.reason),
    )


def _line(text: str) -> str:
    """The text on one line, bounded; all of it is in the record's ``reason``."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.split())[:_LONGEST]


def _fields(run: Run) -> dict[str, object]:
    claimed = run.claimed
    return {
        "task_id": claimed.id,
        "work": claimed.work,
        "queue": claimed.queue,
        "attempt": claimed.attempt,
        "node": run.node,
    }
