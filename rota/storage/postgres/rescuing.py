"""Nodes come and go: membership, burying the dead, taking back what they held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rota.core.options import options_or_default
from rota.core.task import Ending, Finish, Membership, Rescued, Stored
from rota.storage.following import follow_lost
from rota.storage.postgres import signs
from rota.storage.postgres.arrays import uuids
from rota.storage.postgres.connections import Session
from rota.storage.postgres.ending import End
from rota.storage.postgres.feeding import told
from rota.storage.postgres.finishing import Finishing
from rota.storage.schema import ledger

_JOIN = """insert into {s}rota_node
    (id, name, host, pid, started_at, lease_seconds, lease_until, session_lock, version)
  values (%(id)s, %(name)s, %(host)s, %(pid)s, {now}, %(lease)s,
    {now} + make_interval(secs => %(lease)s), %(locked)s, %(version)s)
  on conflict (id) do update set lease_until = excluded.lease_until"""
_BEAT = (
    """update {s}rota_node
  set lease_seconds = %(lease)s, lease_until = {now} + make_interval(secs => %(lease)s),
    session_lock = session_lock or %(locked)s
  where id = %(node)s returning """
    + ledger.STANDING
)
_LEAVE = "delete from {s}rota_node where id = %(node)s"

_OTHERS = "select o.id from {s}rota_node o where o.id <> %(node)s"
_LOOK = f"""with {signs.LOCKED}
  select {signs.OVER}, {signs.GONE} and {signs.UNWARNED}
  from {{s}}rota_node o where o.id <> %(node)s and {signs.SERVER_UP}"""
_SHORTEN = f"""with {signs.LOCKED}
  update {{s}}rota_node n set lease_until = {{now}} + {signs.LAST_LEASE}
  where n.id in ({_OTHERS} and {signs.SERVER_UP} and {signs.GONE} and {signs.UNWARNED}
      order by o.id for no key update of o skip locked)
    and n.lease_until > {{now}} + {signs.LAST_LEASE}"""
_BURY = f"""delete from {{s}}rota_node n
  where n.id in ({_OTHERS} and {signs.OVER} and {signs.SERVER_UP}
      order by o.id for update skip locked)
    and n.lease_until < {{now}}
  returning n.id"""

_ORPHANED = f"""with recursive {signs.HOLDERS},
orphan as (select array(
  select x.place from holder h cross join lateral (
    select l.ctid as place from {{s}}rota_lease l
    where l.node = h.node and {signs.ENDED}
    order by l.batch limit %(limit)s for update skip locked) x
  where {signs.NOBODY}
  limit %(limit)s) as places)
delete from {{s}}rota_lease l where l.ctid = any((select places from orphan)::tid[])
returning l.node, l.batch, l.ids::text[]"""
# Laterally and with a limit, for the plan that `finishing` explains.
_LOCK_LOST = """select k.id::text, k.node, k.batch, k.work, k.queue, k.priority, k.attempt,
    k.losses, k.cancel_reason, b.options
  from unnest(%(ids)s::uuid[], %(nodes)b::bigint[], %(batches)b::bigint[])
    as o(id, node, batch)
  cross join lateral (
    select t.* from {s}rota_task t
    where t.id = o.id and t.node = o.node and t.batch = o.batch and t.state = 1
    limit 1 for update of t) k
  left join lateral (select x.options from {s}rota_body x where x.id = k.id limit 1) b on true"""
_TAKE_BACK = f"""with lost as (
  insert into {{s}}rota_attempt (id, attempt, outcome, node, batch, finished_at)
  select o.id, o.attempt, 'lost', o.node, o.batch, {{now}}
  from unnest(%(ids)s::uuid[], %(nodes)b::bigint[], %(batches)b::bigint[],
      %(attempts)b::integer[]) as o(id, node, batch, attempt)),
back as (
  update {{s}}rota_task t set state = 0, node = null, batch = null,
    attempt = greatest(t.attempt - 1, 0), losses = o.losses, run_at = greatest(t.run_at, {{now}})
  from unnest(%(ids)s::uuid[], %(nodes)b::bigint[], %(batches)b::bigint[],
      %(losses)b::smallint[]) as o(id, node, batch, losses)
  cross join lateral (select l.ctid as place from {{s}}rota_task l where l.id = o.id limit 1) k
  where t.ctid = k.place and t.node = o.node and t.batch = o.batch and t.state = 1
  returning t.id, t.state)
{told("back")}"""

_HELD = "select batch, ids::text[] from {s}rota_lease where node = %(node)s order by batch"
_DROP = """delete from {s}rota_lease where node = %(node)s and batch = %(batch)s
  returning ids::text[]"""
_LOSSES_LIMIT = 32_000  #: below the column's; only a task that is never given up gets there


class Lost(NamedTuple):
    """A task of a lease without a node, as read under its lock."""

    id: str
    node: int
    batch: int
    work: str
    queue: str
    priority: int
    attempt: int
    losses: int
    cancel_reason: str | None
    options: str | None


class Rescuing:
    """The statements about nodes and their leases, for one schema."""

    def __init__(
        self, *, prefix: str, now: str, schema: str | None, finishing: Finishing, locks: bool
    ) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._schema, self._finishing, self._locks = schema, finishing, locks
        self._join, self._beat, self._leave = bound(_JOIN), bound(_BEAT), bound(_LEAVE)
        self._look, self._shorten, self._bury = bound(_LOOK), bound(_SHORTEN), bound(_BURY)
        self._orphaned, self._lock_lost = bound(_ORPHANED), bound(_LOCK_LOST)
        self._take_back, self._held, self._drop = bound(_TAKE_BACK), bound(_HELD), bound(_DROP)

    def join(self, session: Session, node: Membership) -> None:
        """Enter the incarnation, its lock on this connection first."""
        locked = self._hold(session, node.id)
        session.rows(
            self._join,
            locked=locked,
            id=node.id,
            name=node.name,
            host=node.host,
            pid=node.pid,
            lease=float(node.lease),
            version=node.version,
        )

    def beat(
        self, session: Session, node: int, lease: float
    ) -> tuple[int | None, int | None] | None:
        """Extend the lease, and take the lock again if the connection is a new one.

        How the schema stands, as ``ledger.require`` wants it; None when the row is gone.
        """
        locked = self._hold(session, node)
        rows = session.rows(self._beat, node=node, lease=float(lease), locked=locked)
        return (rows[0][0], rows[0][1]) if rows else None

    def leave(self, session: Session, node: int) -> None:
        """Delete the node's row; its leases are then anybody's to rescue."""
        session.rows(self._leave, node=node)
        if node in session.advisory:
            session.advisory.discard(node)
            session.rows(signs.UNLOCK, schema=self._schema, node=node)

    def bury(self, session: Session, node: int, *, trusted: bool) -> list[int]:
        """Delete the rows of nodes whose lease is over; one look when there are none.

        A node whose session lock is gone is left a last, short lease first.
        """
        seen = session.rows(self._look, node=node, schema=self._schema)
        if any(gone for _, gone in seen):
            session.rows(self._shorten, node=node, schema=self._schema)
        if not trusted or not any(over for over, _ in seen):
            return []
        return [row[0] for row in session.rows(self._bury, node=node)]

    def rescue(self, session: Session, limit: int) -> list[Rescued]:
        """Take back what leases without a node hold, in the caller's transaction."""
        leases = session.rows(self._orphaned, limit=limit)
        held = sorted((task_id, node, batch) for node, batch, ids in leases for task_id in ids)
        if not held:
            return []
        alone = {(node, batch) for node, batch, ids in leases if len(ids) == 1}
        rows = session.rows(
            self._lock_lost,
            ids=uuids(task_id for task_id, _, _ in held),
            nodes=[node for _, node, _ in held],
            batches=[batch for _, _, batch in held],
        )
        lost = [Lost(*row) for row in rows]
        ended: dict[int, list[End]] = {}
        kept: list[tuple[Lost, int]] = []
        answers: list[Rescued] = []
        for one in lost:
            losses = _losses_after(one, alone=(one.node, one.batch) in alone)
            end = _end_of(one, losses)
            if end is None:
                kept.append((one, losses))
            else:
                ended.setdefault(one.node, []).append(end)
            answers.append(_told(one, end))
        for node, ends in ended.items():
            self._finishing.end(session, node, ends, lost=True)
        if kept:
            self._keep(session, kept)
        self._finishing.go_on(session, [one.follow for one in answers if one.follow is not None])
        return answers

    def held(self, session: Session, node: int) -> list[tuple[int, list[str]]]:
        """The node's leases."""
        return [(batch, list(ids)) for batch, ids in session.rows(self._held, node=node)]

    def drop_lease(self, session: Session, node: int, batch: int) -> int:
        """Release what a lease still holds, in the caller's transaction; how many."""
        leases = session.rows(self._drop, node=node, batch=batch)
        ids = sorted(task_id for row in leases for task_id in row[0])
        if not ids:
            return 0
        releases = [Finish(task_id, batch, 0, Ending.RELEASE) for task_id in ids]
        return len(self._finishing.reset(session, node, releases, lost=True))

    def _hold(self, session: Session, node: int) -> bool:
        """Take the node's session lock if it is not held yet; whether it is now."""
        if not self._locks:
            return False
        if node in session.advisory:
            return True
        # Not had while a connection of this node's that broke lingers on the server: the
        # next beat tries again.
        if session.rows(signs.LOCK, schema=self._schema, node=node)[0][0]:
            session.advisory.add(node)
        return node in session.advisory

    def _keep(self, session: Session, kept: Sequence[tuple[Lost, int]]) -> None:
        session.rows(
            self._take_back,
            ids=uuids(one.id for one, _ in kept),
            nodes=[one.node for one, _ in kept],
            batches=[one.batch for one, _ in kept],
            attempts=[one.attempt for one, _ in kept],
            losses=[losses for _, losses in kept],
        )


def _told(lost: Lost, end: End | None) -> Rescued:
    state = Stored.SCHEDULED if end is None else Stored(end.state)
    follow = None
    if state is Stored.FAILED and lost.options is not None:
        follow = follow_lost(lost.id, lost.options)
    return Rescued(lost.id, lost.work, lost.queue, lost.priority, lost.node, state, follow)


def _losses_after(lost: Lost, *, alone: bool) -> int:
    """In company anybody may have been the cause, so only the first such loss counts."""
    return min(lost.losses + 1, _LOSSES_LIMIT) if alone else max(lost.losses, 1)


def _end_of(lost: Lost, losses: int) -> End | None:
    if lost.cancel_reason is not None:
        return End(lost.id, lost.batch, int(Stored.CANCELLED), reason=lost.cancel_reason)
    limit = options_or_default(lost.options).max_rescues if lost.options is not None else None
    if limit is not None and losses - 1 >= limit:
        return End(lost.id, lost.batch, int(Stored.FAILED), reason="lost")
    return None
