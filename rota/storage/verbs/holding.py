"""Hold works back: which ones nodes are to park, written down for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, select

from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from rota.storage.tables import Tables

#: The settings' names begin with this.
_BEGIN = "paused_work:"


def pause(conn: Connection, tables: Tables, work: str, reason: str) -> None:
    """Write it down; pausing again replaces the reason."""
    setting = tables.setting
    conn.execute(
        upserting(conn, setting)
        .values(name=_BEGIN + work, value=reason)
        .on_conflict_do_update(index_elements=[setting.c.name], set_={"value": reason})
    )


def resume(conn: Connection, tables: Tables, work: str) -> bool:
    """Strike it out; False when it was not paused."""
    setting = tables.setting
    return bool(conn.execute(delete(setting).where(setting.c.name == _BEGIN + work)).rowcount)


def paused(conn: Connection, tables: Tables) -> dict[str, str]:
    """The paused works and why."""
    setting = tables.setting
    # Not as a range: many a database sorts punctuation otherwise than Unicode counts it.
    query = select(setting).where(setting.c.name.startswith(_BEGIN, autoescape=True))
    rows = conn.execute(query.order_by(setting.c.name))
    return {row.name.removeprefix(_BEGIN): row.value for row in rows}
