"""The change feed: its switch, and the rows that cold verbs add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

from rota.core.task import Change, Stored
from rota.errors import InvalidArgument
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rota.storage.tables import Now, Tables

#: The setting's name, and its value while changes are written down.
FEED, ON = "feed", "on"


def switch(conn: Connection, tables: Tables, *, on: bool) -> None:
    """Turn the feed on or off for every node; what it has stays."""
    setting, value = tables.setting, ON if on else "off"
    conn.execute(
        upserting(conn, setting)
        .values(name=FEED, value=value)
        .on_conflict_do_update(index_elements=[setting.c.name], set_={"value": value})
    )


def is_on(conn: Connection, tables: Tables) -> bool:
    """Whether changes are written down now."""
    setting = tables.setting
    value = conn.execute(select(setting.c.value).where(setting.c.name == FEED)).scalar()
    return bool(value == ON)


def note(
    conn: Connection, tables: Tables, changes: Sequence[tuple[str, Stored]], *, now: Now
) -> None:
    """Write down what these tasks came to, if the feed is on, in the caller's transaction."""
    if changes and is_on(conn, tables):
        for task_id, state in changes:
            conn.execute(
                insert(tables.change).inline().values(id=task_id, state=state.value, at=now(0.0))
            )


def counted_since(
    conn: Connection, tables: Tables, cursor: str | None, limit: int
) -> tuple[list[Change], str]:
    """Changes after the cursor, for a database whose writers commit one after another.

    Only then is the counter in the order of commits. Raises ``InvalidArgument`` for a
    cursor that no call gave.
    """
    change = tables.change
    since = 0 if cursor is None else _number(cursor)
    rows = conn.execute(
        select(change).where(change.c.n > since).order_by(change.c.n).limit(limit)
    ).all()
    told = [Change(row.id, Stored(row.state), row.at) for row in rows]
    return told, str(rows[-1].n if rows else since)


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidArgument(
            f"{cursor!r} is no cursor of this feed; pass what the last call returned, or None "
            "to begin with the oldest change",
            field="cursor",
        )
    return int(cursor)
