"""List and count a task's children, by the index on their parent whatever the statistics say."""

from __future__ import annotations

from rota.core.task import Stored
from rota.storage.postgres.connections import Statements

_PLACE = """cross join lateral (
    select t.work, t.state from {s}rota_task t where t.id = k.id
    union all
    select d.work, d.state from {s}rota_done d where d.id = k.id
    union all
    select f.work, f.state from {s}rota_failed f where f.id = k.id
    limit 1) c"""
# Apart from the order and the limit: with them in sight the planner would walk all bodies
# by id. What has a body but no row is being removed with its history.
_CHILDREN = f"""with kin as materialized (
  select b.id from {{s}}rota_body b where b.parent = %(parent)s::uuid
    and (%(after)s::uuid is null or b.id > %(after)s::uuid))
select k.id::text, c.work, c.state from kin k {_PLACE}
order by k.id limit %(limit)s"""
_COUNT = f"""with kin as materialized (
  select b.id from {{s}}rota_body b where b.parent = %(parent)s::uuid)
select c.state, count(*) from kin k {_PLACE} group by c.state"""


class Families:
    """The statements about children, for one schema."""

    def __init__(self, *, prefix: str) -> None:
        self._children, self._count = _CHILDREN.format(s=prefix), _COUNT.format(s=prefix)

    def children(
        self, session: Statements, parent: str, limit: int, after: str | None
    ) -> list[tuple[str, str, Stored]]:
        """Children as (id, work, state), by id, those after ``after``; wherever they are now."""
        rows = session.rows(self._children, parent=parent, limit=limit, after=after)
        return [(child, work, Stored(state)) for child, work, state in rows]

    def count(self, session: Statements, parent: str) -> dict[Stored, int]:
        """How many children there are in each state that any of them is in."""
        return {Stored(state): n for state, n in session.rows(self._count, parent=parent)}
