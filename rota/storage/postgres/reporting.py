"""Keep a running attempt's progress report, fenced by its token."""

from __future__ import annotations

from rota.errors import LeaseLost
from rota.storage.postgres.connections import Statements

# Not for share: of two reports that both go on to reset the losses each would wait for the
# other.
_REPORT = """with mine as materialized (
  select t.id, t.attempt from {s}rota_task t
  where t.id = %(id)s::uuid and t.node = %(node)s and t.batch = %(batch)s and t.state = 1
  for no key update),
kept as (
  insert into {s}rota_report as r (id, attempt, node, batch, n, at, data)
  select m.id, m.attempt, %(node)s, %(batch)s, %(n)s, {now}, %(data)s from mine m
  on conflict (id) do update set (attempt, node, batch, n, at, data) = (excluded.attempt,
    excluded.node, excluded.batch, excluded.n, excluded.at, excluded.data)
  where r.node <> excluded.node or r.batch <> excluded.batch or r.n < excluded.n
  returning 1),
trusted as (
  update {s}rota_task t set losses = 1
  where t.id = %(id)s::uuid and t.node = %(node)s and t.batch = %(batch)s and t.state = 1
    and t.losses > 1 and exists (select 1 from kept))
select exists (select 1 from kept) from mine"""


class Reporting:
    """The statement that keeps reports, for one schema."""

    def __init__(self, *, prefix: str, now: str) -> None:
        self._report = _REPORT.format(s=prefix, now=now)

    def report(
        self, session: Statements, node: int, task_id: str, batch: int, *, n: int, data: str
    ) -> bool:
        """Keep it unless this attempt's kept one is as new; raises ``LeaseLost``."""
        rows = session.rows(self._report, node=node, id=task_id, batch=batch, n=n, data=data)
        if not rows:
            raise LeaseLost(task_id)
        return bool(rows[0][0])
