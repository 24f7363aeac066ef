"""What tells of a node that it is dead, and of a lease that it is nobody's; of ``rota_node o``."""

from __future__ import annotations

#: What is left of a node's lease once its process is seen to be gone: time enough for one
#: that merely lost its connection to connect anew and beat.
LAST_LEASE = "interval '1.5 seconds'"

# The nodes of one schema share the lock's first key.
_CLASS = "hashtext(coalesce(%(schema)s::text, current_schema())) & 2147483647"
_KEY = "(%(node)s::bigint & 2147483647)::integer"
LOCK = f"select pg_try_advisory_lock({_CLASS}, {_KEY})"
UNLOCK = f"select pg_advisory_unlock({_CLASS}, {_KEY})"
#: Once per statement: reading pg_locks stops the server's lock manager for a moment.
LOCKED = f"""locked as materialized (
  select l.objid::bigint as low from pg_locks l
  where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid::bigint = ({_CLASS}))"""
_HOLDS = "exists (select 1 from locked where low = (o.id & 2147483647))"
#: A missing lock is a sign only of a node that held one: behind a pooler nobody can.
GONE = f"o.session_lock and not {_HOLDS}"
#: It has not been left its last, short lease for that yet.
UNWARNED = f"o.lease_until > {{now}} + {LAST_LEASE}"
OVER = "o.lease_until < {now}"
#: After a restart of the server nobody holds a lock or could beat: that proves nothing.
SERVER_UP = "{now} - pg_postmaster_start_time() > make_interval(secs => o.lease_seconds)"

#: Which nodes hold leases is found by one descent each, however many leases there are.
HOLDERS = """holder(node) as (
  (select l.node from {s}rota_lease l order by l.node, l.batch limit 1)
  union all
  select (select l.node from {s}rota_lease l where l.node > h.node
          order by l.node, l.batch limit 1)
  from holder h where h.node is not null)"""
#: Of ``rota_lease l``: a node's lease does not end by itself, a pulled claim's does.
ENDED = "(l.deadline is null or l.deadline <= {now})"
#: Of ``holder h``.
NOBODY = "not exists (select 1 from {s}rota_node n where n.id = h.node)"
