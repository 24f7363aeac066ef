"""How an attempt ends: one value, returned or raised by the work, or put in by middleware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rota.core.clock import Seconds


@dataclass(eq=False)
class Retry(Exception):
    """Try this task again; counts as an attempt.

    ``after`` in seconds, or None for the task's backoff. Beyond ``max_attempts`` it
    fails instead, unless ``beyond_max`` is true.
    """

    after: Seconds | None = None
    reason: str = ""
    beyond_max: bool = False
    error: str | None = None  #: JSON of the exception, put in by the retry middleware


@dataclass(eq=False)
class Fail(Exception):
    """The task failed for good, whatever attempts are left."""

    reason: str = ""
    error: str | None = None  #: JSON of the exception, put in by the retry middleware


@dataclass(eq=False)
class Cancel(Exception):
    """The task is not to be done; recorded as cancelled with this reason.

    ``recurring=True`` ends the recurring task this one was fired by, too.
    """

    reason: str = ""
    recurring: bool = False
    error: str | None = None


@dataclass(eq=False)
class Again(Exception):
    """This run was well; the same task runs again, with its attempts back at 0.

    ``params`` replace the task's from the next run on; None keeps them.
    """

    after: Seconds = 0
    params: dict[str, Any] | None = None


@dataclass(eq=False)
class Release(Exception):
    """Give the task back without cost: the attempt does not count."""

    after: Seconds = 0


@dataclass(eq=False)
class Ignore(Exception):
    """Not mine: the next registry of the chain may take it, then other nodes."""


@dataclass(frozen=True, slots=True)
class Done:
    """The work returned; ``result`` is its value."""

    result: Any = None


Outcome = Done | Retry | Fail | Cancel | Again | Release | Ignore

#: The outcomes a work may raise.
RAISABLE = (Retry, Fail, Cancel, Again, Release, Ignore)
