-- What devices said, word for word, and the answers they got.

-- Every accepted CloudEvent, known type or not. Written by ingest only and never changed.
create table edge_records (
  device_id       uuid not null,
  organization_id uuid not null,
  -- CloudEvents id (UUIDv7). Unique within the device: a global key would let one tenant's device
  -- swallow another's record by using its id first.
  id              uuid not null,
  type            text not null check (length(type) between 1 and 128),
  subject         text check (length(subject) <= 128),
  time            timestamptz not null,          -- the device's claim, see timequality
  timequality     text check (timequality in ('none', 'floor', 'synced')),
  epoch           uuid not null,
  sequence        bigint not null check (sequence >= 0),
  boot_id         uuid,
  severity        text not null check (severity in ('info', 'warning', 'critical')),
  record          jsonb not null,                -- the whole envelope with its data
  received_at     timestamptz not null default now(),
  primary key (device_id, id),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index edge_records_order on edge_records (device_id, epoch, sequence);
create index edge_records_received on edge_records (organization_id, received_at);

-- Answers kept for 24 h, so that a batch whose answer was lost is answered alike. Written in the
-- transaction of the batch: there is no row for a batch that did not commit.
create table idempotency_keys (
  device_id       uuid not null,
  organization_id uuid not null,
  key             text not null check (length(key) between 1 and 128),
  body_sha256     bytea not null check (octet_length(body_sha256) = 32),  -- of the decoded body
  answer          jsonb not null,
  created_at      timestamptz not null default now(),
  primary key (device_id, key),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index idempotency_keys_age on idempotency_keys (device_id, created_at);

alter table edge_records enable row level security;
alter table edge_records force row level security;
create policy tenant on edge_records
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table idempotency_keys enable row level security;
alter table idempotency_keys force row level security;
create policy tenant on idempotency_keys
  using (organization_id = app_organization()) with check (organization_id = app_organization());

grant select, insert on edge_records to sentrycam_cloud_app;
grant select, insert, delete on idempotency_keys to sentrycam_cloud_app;
