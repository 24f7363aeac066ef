"""The change feed: what hot statements add to it, and reading it in the order of commits."""

from __future__ import annotations

import re
from datetime import UTC

from rota.core.task import Change, Stored
from rota.errors import InvalidArgument
from rota.storage.postgres.connections import Statements

# The switch is looked up once per statement, before any row.
_TOLD = """insert into {{s}}rota_change (id, state, at)
  select {id}, {state}, {{now}} from {rows}
  where exists (select 1 from {{s}}rota_setting g where g.name = 'feed' and g.value = 'on')"""
# Below the oldest open transaction nothing can be added any more.
_SINCE = """select c.xid::text, c.n, c.id::text, c.state, c.at from {s}rota_change c
  where c.xid < pg_snapshot_xmin(pg_current_snapshot())
    and (c.xid, c.n) > (%(xid)s::xid8, %(n)s::bigint)
  order by c.xid, c.n limit %(limit)s"""
_BEGINNING = "0:0"
#: As the database writes it: no zero in front.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def told(rows: str, *, id: str = "id", state: str = "state") -> str:  # noqa: A002 - the column's
    """The part of a hot statement that tells the feed of these rows, if the feed is on."""
    return _TOLD.format(rows=rows, id=id, state=state)


class Feeding:
    """The statement that reads the feed, for one schema."""

    def __init__(self, *, prefix: str) -> None:
        self._since = _SINCE.format(s=prefix)

    def since(
        self, session: Statements, cursor: str | None, limit: int
    ) -> tuple[list[Change], str]:
        """What is told after the cursor, and where to go on.

        Raises ``InvalidArgument`` for a cursor that no call gave.
        """
        cursor = _BEGINNING if cursor is None else cursor
        xid, n = _parts(cursor)
        rows = session.rows(self._since, xid=xid, n=n, limit=limit)
        told = [Change(row[2], Stored(row[3]), row[4].astimezone(UTC)) for row in rows]
        return told, f"{rows[-1][0]}:{rows[-1][1]}" if rows else cursor


def _parts(cursor: str) -> tuple[str, int]:
    xid, _, n = cursor.partition(":")
    if all(_NUMBER.fullmatch(part) for part in (xid, n)):
        return xid, int(n)
    raise InvalidArgument(
        f"{cursor!r} is no cursor of this feed; pass what the last call returned, or None "
        "to begin with the oldest change",
        field="cursor",
    )
