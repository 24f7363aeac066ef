"""Step 1: the layout of `docs/explanation/storage.md`."""

from __future__ import annotations

VERSION = 1
NAME = "layout"
#: The oldest code version (by schema number) that can work with a database at this step.
COMPATIBLE_FROM = 1

POSTGRESQL = """
create table {s}rota_task (
  id uuid primary key,
  queue text collate "C" not null,
  work text collate "C" not null,
  priority smallint not null,
  state smallint not null default 0,
  run_at timestamptz not null,
  expires_at timestamptz,
  node bigint,
  batch bigint,
  attempt integer not null default 0,
  losses smallint not null default 0,
  version integer not null default 1,
  unique_key text collate "C",
  cancel_reason text
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index rota_task_ready on {s}rota_task (queue, priority desc, run_at, id) where state = 0;
create index rota_task_parked on {s}rota_task (work, priority desc, run_at) where state = 2;
create unique index rota_task_unique on {s}rota_task (unique_key) where unique_key is not null;
create index rota_task_expires on {s}rota_task (expires_at)
  where expires_at is not null and state <> 1;
create index rota_task_cancel on {s}rota_task (node) where cancel_reason is not null;

create table {s}rota_body (
  id uuid primary key,
  version integer not null default 1,
  params text not null,
  options text not null,
  meta jsonb,
  created_at timestamptz not null,
  due_at timestamptz not null,
  parent uuid,
  recurring text collate "C",
  fire_at timestamptz
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index rota_body_parent on {s}rota_body (parent, id) where parent is not null;
create index rota_body_recurring on {s}rota_body (recurring, fire_at) where recurring is not null;

create table {s}rota_lease (
  node bigint not null,
  batch bigint not null,
  ids uuid[] not null,
  deadline timestamptz,
  primary key (node, batch)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create table {s}rota_node (
  id bigint primary key,
  name text not null,
  host text not null,
  pid integer not null,
  started_at timestamptz not null,
  lease_seconds double precision not null,
  lease_until timestamptz not null,
  session_lock boolean not null default false,
  version text not null default ''
) with (fillfactor = 50);

create table {s}rota_done (
  id uuid not null,
  state smallint not null,
  queue text collate "C" not null,
  work text collate "C" not null,
  priority smallint not null,
  attempt integer not null,
  node bigint,
  batch bigint,
  run_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz not null,
  reason text,
  payload text
) partition by range (finished_at);
create index rota_done_id on {s}rota_done (id);
create table {s}rota_done_default partition of {s}rota_done default;

create table {s}rota_failed (like {s}rota_done) partition by range (finished_at);
create index rota_failed_id on {s}rota_failed (id);
create index rota_failed_finished on {s}rota_failed (finished_at);
create table {s}rota_failed_default partition of {s}rota_failed default;

create table {s}rota_attempt (
  id uuid not null,
  attempt integer not null,
  outcome text not null,
  node bigint,
  batch bigint,
  started_at timestamptz,
  finished_at timestamptz not null,
  reason text,
  error text
) partition by range (finished_at);
create index rota_attempt_id on {s}rota_attempt (id);
create table {s}rota_attempt_default partition of {s}rota_attempt default;

create table {s}rota_recurring (
  id text collate "C" primary key,
  work text collate "C" not null,
  params text not null,
  trigger text not null,
  options text not null,
  queue text collate "C" not null,
  priority smallint not null,
  rules text not null,
  meta text,
  next_fire_at timestamptz,
  due_at timestamptz,
  last_fire_at timestamptz,
  runs bigint not null default 0,
  paused boolean not null default false,
  version integer not null default 1
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index rota_recurring_due on {s}rota_recurring (due_at, id)
  where next_fire_at is not null and not paused;

create table {s}rota_decision (
  recurring text collate "C" not null,
  fire_at timestamptz not null,
  decision text not null,
  n bigint not null default 1,
  task uuid,
  version integer not null default 1,
  decided_at timestamptz not null,
  primary key (recurring, fire_at, decision)
);
create index rota_decision_decided on {s}rota_decision (decided_at);

create table {s}rota_child (
  recurring text collate "C" not null,
  task uuid not null,
  primary key (recurring, task)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create table {s}rota_queue (
  queue text collate "C" primary key,
  paused_at timestamptz,
  reason text
);

create table {s}rota_unique (
  key text collate "C" primary key,
  task uuid not null,
  expires_at timestamptz not null
);

create table {s}rota_tally (
  minute timestamptz not null,
  queue text collate "C" not null,
  work text collate "C" not null,
  state smallint not null,
  n bigint not null,
  seconds double precision not null
);
create index rota_tally_minute on {s}rota_tally (minute);

create table {s}rota_chore (
  name text primary key,
  next_at timestamptz not null
);

create table {s}rota_report (
  id uuid primary key,
  attempt integer not null,
  node bigint not null,
  batch bigint not null,
  n bigint not null,
  at timestamptz not null,
  data text not null
) with (fillfactor = 70);

create table {s}rota_setting (
  name text primary key,
  value text not null
);

create table {s}rota_change (
  xid xid8 not null default pg_current_xact_id(),
  n bigint generated always as identity,
  id uuid not null,
  state smallint not null,
  at timestamptz not null,
  primary key (xid, n)
);
"""

SQLITE = """
create table rota_task (
  id text primary key,
  queue text not null,
  work text not null,
  priority integer not null,
  state integer not null default 0,
  run_at integer not null,
  expires_at integer,
  node integer,
  batch integer,
  attempt integer not null default 0,
  losses integer not null default 0,
  version integer not null default 1,
  unique_key text,
  cancel_reason text
) without rowid;
create index rota_task_ready on rota_task (queue, priority desc, run_at, id) where state = 0;
create index rota_task_parked on rota_task (work, priority desc, run_at) where state = 2;
create unique index rota_task_unique on rota_task (unique_key) where unique_key is not null;
create index rota_task_expires on rota_task (expires_at)
  where expires_at is not null and state <> 1;
create index rota_task_cancel on rota_task (node) where cancel_reason is not null;

create table rota_body (
  id text primary key,
  version integer not null default 1,
  params text not null,
  options text not null,
  meta text,
  created_at integer not null,
  due_at integer not null,
  parent text,
  recurring text,
  fire_at integer
) without rowid;
create index rota_body_parent on rota_body (parent) where parent is not null;
create index rota_body_recurring on rota_body (recurring, fire_at) where recurring is not null;

create table rota_lease (
  node integer not null,
  batch integer not null,
  ids text not null,
  deadline integer,
  primary key (node, batch)
) without rowid;

create table rota_node (
  id integer primary key,
  name text not null,
  host text not null,
  pid integer not null,
  started_at integer not null,
  lease_seconds real not null,
  lease_until integer not null,
  version text not null default ''
);

create table rota_done (
  id text primary key,
  state integer not null,
  queue text not null,
  work text not null,
  priority integer not null,
  attempt integer not null,
  node integer,
  batch integer,
  run_at integer not null,
  started_at integer,
  finished_at integer not null,
  reason text,
  payload text
) without rowid;
create index rota_done_finished on rota_done (finished_at);

create table rota_failed (
  id text primary key,
  state integer not null,
  queue text not null,
  work text not null,
  priority integer not null,
  attempt integer not null,
  node integer,
  batch integer,
  run_at integer not null,
  started_at integer,
  finished_at integer not null,
  reason text,
  payload text
) without rowid;
create index rota_failed_finished on rota_failed (finished_at);

create table rota_attempt (
  id text not null,
  attempt integer not null,
  outcome text not null,
  node integer,
  batch integer,
  started_at integer,
  finished_at integer not null,
  reason text,
  error text
);
create index rota_attempt_id on rota_attempt (id);
create index rota_attempt_finished on rota_attempt (finished_at);

create table rota_recurring (
  id text primary key,
  work text not null,
  params text not null,
  trigger text not null,
  options text not null,
  queue text not null,
  priority integer not null,
  rules text not null,
  meta text,
  next_fire_at integer,
  due_at integer,
  last_fire_at integer,
  runs integer not null default 0,
  paused integer not null default 0,
  version integer not null default 1
) without rowid;
create index rota_recurring_due on rota_recurring (due_at, id)
  where next_fire_at is not null and not paused;

create table rota_decision (
  recurring text not null,
  fire_at integer not null,
  decision text not null,
  n integer not null default 1,
  task text,
  version integer not null default 1,
  decided_at integer not null,
  primary key (recurring, fire_at, decision)
) without rowid;
create index rota_decision_decided on rota_decision (decided_at);

create table rota_child (
  recurring text not null,
  task text not null,
  primary key (recurring, task)
) without rowid;

create table rota_queue (
  queue text primary key,
  paused_at integer,
  reason text
) without rowid;

create table rota_unique (
  key text primary key,
  task text not null,
  expires_at integer not null
) without rowid;

create table rota_tally (
  minute integer not null,
  queue text not null,
  work text not null,
  state integer not null,
  n integer not null,
  seconds real not null
);
create index rota_tally_minute on rota_tally (minute);

create table rota_chore (
  name text primary key,
  next_at integer not null
) without rowid;

create table rota_report (
  id text primary key,
  attempt integer not null,
  node integer not null,
  batch integer not null,
  n integer not null,
  at integer not null,
  data text not null
) without rowid;

create table rota_setting (
  name text primary key,
  value text not null
) without rowid;

create table rota_change (
  n integer primary key autoincrement,
  id text not null,
  state integer not null,
  at integer not null
);
"""
