"""The memory repository's change feed: steps of tasks' lives, numbered in order."""

from __future__ import annotations

from datetime import datetime

from rota.core.task import Change
from rota.errors import InvalidArgument


class Feed:
    """Changes kept, oldest first; whoever calls a method holds the book's lock.

    A cursor is how many changes had ever been written up to there.
    """

    def __init__(self) -> None:
        self.on = False
        self._kept: list[Change] = []
        self._gone = 0

    def tell(self, change: Change) -> None:
        """Write it down, if the feed is on."""
        if self.on:
            self._kept.append(change)

    def since(self, cursor: str | None, limit: int) -> tuple[list[Change], str]:
        """What came after the cursor, and the cursor after that."""
        first = max(0, _position(cursor) - self._gone)
        page = self._kept[first : first + limit]
        return page, str(self._gone + first + len(page))

    def forget(self, before: datetime) -> None:
        """Drop what is older; cursors stay valid."""
        old = 0
        while old < len(self._kept) and self._kept[old].at < before:
            old += 1
        del self._kept[:old]
        self._gone += old


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise InvalidArgument(
            f"cursor {cursor!r} is none of this repository's; "
            "pass what updated_since returned, or None to begin at the oldest change",
            field="cursor",
        )
    return int(cursor)
