"""Which lanes have something scheduled: one index descent per lane, whatever the backlog."""

from __future__ import annotations

_ALL_QUEUES = """queues(queue) as (
  (select t.queue from {s}rota_task t where t.state = 0
   order by t.queue, t.priority desc, t.run_at, t.id limit 1)
  union all
  select (select t.queue from {s}rota_task t where t.state = 0 and t.queue > l.queue
          order by t.queue, t.priority desc, t.run_at, t.id limit 1)
  from queues l where l.queue is not null)"""
_THESE_QUEUES = "queues(queue) as (select distinct unnest(%(queues)b::text[]))"
_LANES = """with recursive {queues}, lane as (
  select f.* from queues l cross join lateral (
    select t.queue, t.priority, t.run_at from {{s}}rota_task t
    where t.state = 0 and t.queue = l.queue
    order by t.queue, t.priority desc, t.run_at, t.id limit 1) f
  where not exists (select 1 from {{s}}rota_queue q
                    where q.queue = l.queue and q.paused_at is not null)
  union all
  select f.* from lane l cross join lateral (
    select t.queue, t.priority, t.run_at from {{s}}rota_task t
    where t.state = 0 and t.queue = l.queue and t.priority < l.priority
    order by t.queue, t.priority desc, t.run_at, t.id limit 1) f)
select queue, priority, date_part('epoch', run_at - {{now}}) as due_in from lane
order by priority desc, queue"""

#: Of every queue, and of those that are bound as ``queues``.
EVERY_LANE = _LANES.format(queues=_ALL_QUEUES)
NAMED_LANES = _LANES.format(queues=_THESE_QUEUES)
