"""Tasks of one call on their way to the database, written while the next of them are made."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence

from rota.core.task import NewTask

#: So many tasks are enough for one statement.
ENOUGH = 2_000


class GivenUp(Exception):
    """The rest will not come: what was written of it is taken back."""


class Arriving:
    """Parts that one thread puts in and another takes out, waiting for the next.

    ``tasks`` are all that have come so far.
    """

    def __init__(self) -> None:
        self.tasks: list[NewTask] = []
        self._parts: queue.SimpleQueue[Sequence[NewTask] | GivenUp | None] = queue.SimpleQueue()
        self._over = False

    def put(self, part: Sequence[NewTask]) -> None:
        """The next part has come."""
        self.tasks += part
        self._parts.put(part)

    def end(self) -> None:
        """All parts have come."""
        self._parts.put(None)

    def give_up(self) -> None:
        """No more parts come, and those there are count for nothing."""
        self._parts.put(GivenUp())

    def __iter__(self) -> Iterator[Sequence[NewTask]]:
        """What has not been taken yet, as it comes; parts that wait are taken together.

        Raises ``GivenUp`` if the rest never comes. Begun again, it goes on where it was.
        """
        while not self._over:
            taken = self._next_part()
            while taken and not self._parts.empty() and len(taken) < ENOUGH:
                taken = [*taken, *self._next_part()]
            if taken:
                yield taken

    def _next_part(self) -> Sequence[NewTask]:
        """The next, waiting for it; nothing after the last one."""
        part = self._parts.get()
        if isinstance(part, GivenUp):
            raise part
        self._over = part is None
        return part or ()
