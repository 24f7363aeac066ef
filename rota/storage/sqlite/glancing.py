"""Whether there is anything to do, read anew only when something was written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from rota.core.glance import Glance
from rota.core.task import Lane
from rota.storage.sqlite.agenda import EVERY_LANE, NAMED_LANES
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.sqlite.writer import Stamp

Queues = tuple[str, ...] | None

_WORKS = "paused_work:"  #: as `verbs/holding` writes them down
_SEEN = f"""select
 (select json_group_array(json_array(id, host, lease_until)) from rota_node),
 exists (select 1 from rota_lease l where l.deadline is null
         and not exists (select 1 from rota_node n where n.id = l.node)),
 (select min(deadline) from rota_lease where deadline is not null),
 exists (select 1 from rota_lease where node = :node),
 (select min(expires_at) from rota_task indexed by rota_task_expires
  where expires_at is not null and state <> 1),
 exists (select 1 from rota_task indexed by rota_task_parked where state = 2),
 (select json_group_array(substr(name, {len(_WORKS) + 1})) from rota_setting
  where name >= '{_WORKS}' and name < '{_WORKS[:-1]};'),
 (select min(due_at) from rota_recurring indexed by rota_recurring_due
  where next_fire_at is not null and not paused),
 (select json_group_array(json_array(queue, priority, run_at)) from ({{lanes}}))"""
SEEN = _SEEN.format(lanes=EVERY_LANE)
SEEN_NAMED = _SEEN.format(lanes=NAMED_LANES)


class Peer(NamedTuple):
    """Another node."""

    id: int
    host: str
    lease_until: int


class Seen(NamedTuple):
    """What the statement told: nothing in it changes by time alone; moments are microseconds."""

    stamp: Stamp | None
    queues: Queues
    host: str | None  #: the asking node's
    peers: list[Peer]
    orphans: bool
    deadline: int | None
    mine: bool
    expires_at: int | None
    parked: bool
    paused_works: frozenset[str]
    due_at: int | None
    lanes: list[tuple[str, int, int]]


class SQLiteGlancing:
    """Keeps what each node saw last; who has died is seen by the lock files."""

    _desk: Desk
    _seen: dict[int, Seen]

    def glance(self, node: int, queues: Sequence[str] | None) -> Glance:
        queues = queues if queues is None else tuple(queues)
        seen = self._look(node, queues)
        now = self._desk.micros()
        if any(peer.lease_until < now for peer in seen.peers):
            # A neighbour in this process may have beaten since: that counts as no change.
            self._seen.pop(node, None)
            seen = self._look(node, queues)
        left = [peer.lease_until - now for peer in seen.peers]
        return Glance(
            lanes=_lanes(seen, now) if seen.queues == queues else (),
            peers=bool(seen.peers),
            dead=any(one < 0 for one in left) or self._anybody_gone(seen),
            lease_left=min((one / 1e6 for one in left if one > 0), default=None),
            orphans=seen.orphans or (seen.deadline is not None and seen.deadline <= now),
            mine=seen.mine,
            overdue=seen.expires_at is not None and seen.expires_at <= now,
            parked=seen.parked,
            paused_works=seen.paused_works,
            fires_in=None if seen.due_at is None else (seen.due_at - now) / 1e6,
            moment=now / 1e6,
        )

    def seen_alone(self) -> bool:
        """Whether the last glances from here saw no other node; False before the first.

        Whose they were does not matter: a node that was buried goes on as another.
        """
        known = list(self._seen.values())
        return bool(known) and not any(one.peers for one in known)

    def _look(self, node: int, queues: Queues) -> Seen:
        # Before the statement: what is written in between is seen twice rather than not at all.
        stamp = self._desk.stamp()
        known = self._seen.get(node)
        if known is not None and known.stamp == stamp and queues in {known.queues, ()}:
            return known
        with self._desk.reading() as conn:
            seen = _read(raw(conn), node, queues, stamp)
        # One entry for each node that looks; those that have gone look no more.
        others = {one: was for one, was in self._seen.items() if was.stamp == stamp}
        self._seen = {**others, node: seen} if stamp is not None else others
        return seen

    def _anybody_gone(self, seen: Seen) -> bool:
        return any(peer.host == seen.host and self._desk.locks.free(peer.id) for peer in seen.peers)


def _read(driver: sqlite3.Connection, node: int, queues: Queues, stamp: Stamp | None) -> Seen:
    values: dict[str, object] = {"node": node}
    if queues is not None:
        values["queues"] = json.dumps(sorted(set(queues)))
    statement = SEEN if queues is None else SEEN_NAMED
    nodes, orphans, deadline, mine, expires_at, parked, works, due_at, lanes = driver.execute(
        statement, values
    ).fetchone()
    everybody = [Peer(*row) for row in json.loads(nodes)]
    return Seen(
        stamp=stamp,
        queues=queues,
        host=next((one.host for one in everybody if one.id == node), None),
        peers=[one for one in everybody if one.id != node],
        orphans=bool(orphans),
        deadline=deadline,
        mine=bool(mine),
        expires_at=expires_at,
        parked=bool(parked),
        paused_works=frozenset(json.loads(works)),
        due_at=due_at,
        lanes=[(queue, priority, run_at) for queue, priority, run_at in json.loads(lanes)],
    )


def _lanes(seen: Seen, now: int) -> list[Lane]:
    return [Lane(queue, priority, (run_at - now) / 1e6) for queue, priority, run_at in seen.lanes]
