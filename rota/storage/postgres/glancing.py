"""One statement that says whether there is anything to do, and what."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.glance import Glance
from rota.core.task import Lane
from rota.storage.postgres import signs
from rota.storage.postgres.agenda import EVERY_LANE, NAMED_LANES
from rota.storage.postgres.connections import Session

_WORKS = "paused_work:"  #: as `verbs/holding` writes them down
_PEERS = f"""select count(*) > 0,
    coalesce(bool_or({signs.SERVER_UP} and ({signs.OVER} or ({signs.GONE} and {signs.UNWARNED}))),
      false),
    min(date_part('epoch', o.lease_until - {{now}})) filter (where o.lease_until > {{now}})
  from {{s}}rota_node o where o.id <> %(node)s"""
# The limit keeps it one look for each holder: joined freely, all leases might be read.
_ORPHANS = f"""exists (select 1 from holder h cross join lateral (
      select 1 from {{s}}rota_lease l where l.node = h.node and {signs.ENDED} limit 1) e
    where h.node is not null and {signs.NOBODY})"""
# Each of them begins at an index's end and stops at the first row.
_GLANCE = f"""with recursive {signs.LOCKED}, {signs.HOLDERS}
select p.*, {_ORPHANS},
  exists (select 1 from {{s}}rota_lease l where l.node = %(node)s),
  exists (select 1 from {{s}}rota_task t
    where t.expires_at is not null and t.state <> 1 and t.expires_at <= {{now}}),
  exists (select 1 from {{s}}rota_task t where t.state = 2),
  array(select substr(w.name, {len(_WORKS) + 1}) from {{s}}rota_setting w
    where starts_with(w.name, '{_WORKS}')),
  (select date_part('epoch', r.due_at - {{now}}) from {{s}}rota_recurring r
    where r.next_fire_at is not null and not r.paused order by r.due_at, r.id limit 1),
  a.queue, a.priority, a.due_in, date_part('epoch', {{clock}})
from ({_PEERS}) p(peers, dead, lease_left) left join ({{agenda}}) a on true"""


class Glancing:
    """The statement, for one schema."""

    def __init__(self, *, prefix: str, now: str, schema: str | None) -> None:
        self._schema = schema
        self._every, self._named = (
            # Told last, by the clock of that moment: so it is hardly older than its answer.
            _GLANCE.replace("{agenda}", agenda).format(
                s=prefix, now=now, clock=now.replace("now()", "clock_timestamp()")
            )
            for agenda in (EVERY_LANE, NAMED_LANES)
        )

    def glance(self, session: Session, node: int, queues: Sequence[str] | None) -> Glance:
        """Everything, and the lanes of these queues (None: all)."""
        if queues is None:
            rows = session.rows(self._every, node=node, schema=self._schema)
        else:
            rows = session.rows(self._named, node=node, schema=self._schema, queues=list(queues))
        peers, dead, lease_left, orphans, mine, overdue, parked, paused, fires_in = rows[0][:9]
        return Glance(
            lanes=[Lane(*row[9:12]) for row in rows if row[9] is not None],
            moment=rows[-1][12],
            peers=peers,
            dead=dead,
            lease_left=lease_left,
            orphans=orphans,
            mine=mine,
            overdue=overdue,
            parked=parked,
            paused_works=frozenset(paused),
            fires_in=fires_in,
        )
