"""How long history is kept, written down in the settings for all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from rota.core.retention import Keeping, Retention
from rota.storage.verbs.pausing import upserting

if TYPE_CHECKING:
    from rota.storage.tables import Tables

_RETENTION, _ARCHIVE, _ON, _OFF = "retention", "archive", "on", "off"


def keeping(conn: Connection, tables: Tables) -> Keeping:
    """What holds; the defaults where nothing is written."""
    setting = tables.setting
    rows = conn.execute(select(setting).where(setting.c.name.in_([_RETENTION, _ARCHIVE])))
    said = {row.name: row.value for row in rows}
    text = said.get(_RETENTION)
    return Keeping(
        Retention() if text is None else Retention.decode(text), said.get(_ARCHIVE) == _ON
    )


def keep(
    conn: Connection, tables: Tables, retention: Retention | None, archive: bool | None
) -> None:
    """Write down what is given."""
    if retention is not None:
        _say(conn, tables, _RETENTION, retention.encode())
    if archive is not None:
        _say(conn, tables, _ARCHIVE, _ON if archive else _OFF)


def _say(conn: Connection, tables: Tables, name: str, value: str) -> None:
    setting = tables.setting
    conn.execute(
        upserting(conn, setting)
        .values(name=name, value=value)
        .on_conflict_do_update(index_elements=[setting.c.name], set_={"value": value})
    )
