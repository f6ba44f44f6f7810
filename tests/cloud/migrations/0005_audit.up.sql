-- Who did what, in two kinds of chain: a device's (its audit.entry records) and an organization's
-- (what the cloud did for it). Rows are only ever added.
create table audit_logs (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  -- The actor: a person, a device, or neither (the cloud's operator).
  actor_user_id   uuid references users (id),
  actor_device_id uuid,
  actor           text,                          -- in words, as the writer put it
  source_uid      uuid,                          -- the device's record; null for the cloud's own entries
  action          text not null check (length(action) between 1 and 64),       -- CREATE, UPDATE, DELETE, …
  entity_type     text check (length(entity_type) <= 100),
  entity_id       text check (length(entity_id) <= 255),  -- text: it must name cameras as well as uuids
  changes         jsonb,                         -- {before, after}; secrets are "***"
  metadata        jsonb,
  ip_address      inet,
  user_agent      text,
  previous_hash   text check (previous_hash ~ '^[0-9a-f]{64}$'),  -- SHA-256 of the entry before; null at the start
  row_hash        text check (row_hash ~ '^[0-9a-f]{64}$'),       -- of this entry; the cloud's own only
  created_at      timestamptz not null,          -- when it happened, the writer's clock
  received_at     timestamptz not null default now(),
  unique (actor_device_id, source_uid),
  foreign key (actor_device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index audit_logs_newest on audit_logs (organization_id, created_at desc);
-- A chain has one next entry.
create unique index audit_logs_chain on audit_logs (organization_id, previous_hash)
  where row_hash is not null and previous_hash is not null;

alter table audit_logs enable row level security;
alter table audit_logs force row level security;
create policy tenant on audit_logs
  using (organization_id = app_organization()) with check (organization_id = app_organization());

grant select, insert on audit_logs to sentrycam_cloud_app;
