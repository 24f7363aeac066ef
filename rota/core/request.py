"""A task on its way down the schedule side of the chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from rota.core.clock import Seconds
from rota.core.options import Options
from rota.core.recurring import Fire
from rota.core.task import Fence, Inserted


@dataclass(frozen=True, slots=True)
class Unique:
    """A key that is taken for ``period`` seconds from scheduling on, whether the task ends or not.

    A plain text as ``unique`` is taken only until the task ends. The period outlives the
    task's history.
    """

    key: str
    period: Seconds


OnConflict = Literal["raise", "return", "replace"]


class ScheduleRequest(NamedTuple):
    """What is to be stored, with every option resolved; middleware passes on a changed copy.

    ``params`` are JSON-able, as they will be stored. ``at`` is None where the database
    is to add ``delay`` seconds to its clock. ``rider`` is what commits together with
    the insert: the tick of a recurring task; ``fence`` the parent's token it depends on.
    ``connection`` is the caller's, whose transaction the insert takes part in.
    """

    id: str
    work: str
    params: dict[str, Any]
    queue: str = "default"
    priority: int = 0
    at: datetime | None = None
    delay: float = 0.0
    expires_at: datetime | None = None
    expires_in: float | None = None
    options: Options = Options()
    meta: dict[str, Any] | None = None
    unique: str | None = None
    on_conflict: OnConflict = "raise"
    given_id: bool = False
    parent: str | None = None
    recurring: str | None = None
    fire_at: datetime | None = None
    rider: Fire | None = None
    period: float | None = None
    fence: Fence | None = None
    connection: object | None = None

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return self._replace(**changes)


#: What ``on_schedule`` gets as ``call_next``: the rest of the chain, down to the database.
ScheduleNext = Callable[[ScheduleRequest], Awaitable[Inserted]]
