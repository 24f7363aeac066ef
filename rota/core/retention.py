"""How long finished tasks are kept as history, for all nodes of a database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from rota.core.clock import Seconds, seconds
from rota.core.finding import TaskFilter
from rota.errors import InvalidArgument

#: What is repeated after a lost answer is known again by its history: seconds it takes at least.
LEAST = 60.0


def _checked(value: Seconds, field: str) -> timedelta:
    span = seconds(value, field)
    if span < LEAST:
        raise InvalidArgument(
            f"{field} is {value}; it must be {LEAST:g} s or more, or None for ever", field=field
        )
    return timedelta(seconds=span)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long history is kept: ``done`` and cancelled tasks, and ``failed`` ones.

    Each is a ``timedelta`` or seconds, at least a minute; None keeps them for ever. It counts
    from a task's end. Raises ``InvalidArgument`` naming the field.

    >>> Retention(done=3600).done, Retention().failed
    (datetime.timedelta(seconds=3600), datetime.timedelta(days=30))
    """

    done: Seconds | None = timedelta(days=7)
    failed: Seconds | None = timedelta(days=30)

    def __post_init__(self) -> None:
        for name in ("done", "failed"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _checked(value, f"retention.{name}"))

    def __str__(self) -> str:
        return f"done {_shown(self.done)}, failed {_shown(self.failed)}"

    def span(self, *, failed: bool) -> timedelta | None:
        """How long one kind is kept; None: for ever."""
        kept = self.failed if failed else self.done
        return None if kept is None else timedelta(seconds=seconds(kept, "retention"))

    @property
    def longest(self) -> timedelta | None:
        """The longer of both."""
        spans = [self.span(failed=False), self.span(failed=True)]
        known = [span for span in spans if span is not None]
        return max(known) if len(known) == len(spans) else None

    def encode(self) -> str:
        """As JSON text."""
        spans = {"done": self.span(failed=False), "failed": self.span(failed=True)}
        return json.dumps(
            {
                f"{name}_seconds": None if span is None else span.total_seconds()
                for name, span in spans.items()
            }
        )

    @classmethod
    def decode(cls, text: str) -> Self:
        """From what ``encode`` made; raises ``InvalidArgument`` for anything else."""
        try:
            stored = json.loads(text)
            return cls(done=stored["done_seconds"], failed=stored["failed_seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"the stored retention {text!r} cannot be read ({type(error).__name__}: {error}); "
                "say it again: rota history retention --done 7d --failed 30d",
                field="retention",
            ) from error


class Keeping(NamedTuple):
    """What holds for the history of a database, whoever does its house-keeping.

    With ``archive`` history is dropped only by nodes that have an archive, once that has it.
    """

    retention: Retention = Retention()
    archive: bool = False


def outdated(retention: Retention, now: datetime, *, whole_days: bool = False) -> list[TaskFilter]:
    """What is past its retention at that time; of ``whole_days`` only those, in UTC."""
    found = []
    for states, failed in ((("done", "cancelled"), False), (("failed",), True)):
        span = retention.span(failed=failed)
        if span is not None:
            end = now - span
            if whole_days:
                end = end.replace(hour=0, minute=0, second=0, microsecond=0)
            found.append(TaskFilter(state=states, finished_before=end))
    return found


def _shown(value: Seconds | None) -> str:
    return "for ever" if value is None else str(timedelta(seconds=seconds(value, "retention")))
