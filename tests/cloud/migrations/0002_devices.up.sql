-- Edge boxes and clients, the keys they sign with, and what keeps their requests single.

create table devices (
  id              uuid primary key,
  organization_id uuid not null references organizations (id),
  edge_id         text not null unique check (edge_id ~ '^[a-z0-9-]{1,64}$'),  -- in CloudEvents `source`
  name            text not null check (length(name) between 1 and 255),
  role            text not null default 'camera' check (role in ('camera', 'client')),
  is_camera       boolean not null default true,
  -- `offline` and `online` follow the device's own records; `unclaimed` is the owner's act.
  status          text not null default 'offline'
                  check (status in ('unclaimed', 'offline', 'online', 'degraded')),
  is_active       boolean not null default true,
  -- Reported by the device (agent.started, agent.heartbeat, agent.health).
  platform        text,
  app_version     text,
  hostname        text,
  ip_address      inet,                          -- as the device sees itself, not the peer address
  health          jsonb,                         -- data of the newest agent.* record
  state_epoch_rank integer not null default 0,   -- place of the newest agent.* record: epoch's rank …
  state_sequence   bigint not null default -1,   -- … and sequence; an older record changes nothing
  last_seen_at    timestamptz,                   -- cloud's clock, each accepted batch (= last_heartbeat)
  -- Shown to people who claim; never keys, since anybody can send any of them.
  mac_address     macaddr,
  serial_number   text,
  location        text,
  mqtt_client_id  text unique,                   -- = edge_id once MQTT is in use
  claimed_at      timestamptz,
  unclaimed_at    timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  unique (id, organization_id),                  -- lets children prove that their tenant is the device's
  check ((status = 'unclaimed') = (unclaimed_at is not null))
);
create index devices_organization on devices (organization_id);

-- One row a key, so that keys rotate without a gap.
create table edge_credentials (
  id              uuid primary key,
  organization_id uuid not null,
  device_id       uuid not null,
  edge_key        text not null unique check (edge_key ~ '^ek_[A-Za-z0-9_-]{1,60}$'),  -- keyid, public
  -- nonce(12) ‖ AES-256-GCM(edge_secret) ‖ tag(16), AAD = edge_id; the key is in the environment only.
  secret_wrapped  bytea not null check (octet_length(secret_wrapped) = 60),
  -- next: sent, not confirmed · current · retired: good until retired_at + 24 h · revoked: unknown.
  state           text not null default 'current' check (state in ('next', 'current', 'retired', 'revoked')),
  created_at      timestamptz not null default now(),
  retired_at      timestamptz,
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check ((state in ('retired', 'revoked')) = (retired_at is not null))
);
create index edge_credentials_device on edge_credentials (device_id);
create unique index edge_credentials_one_current on edge_credentials (device_id) where state = 'current';

-- Every nonce of the last 660 s. No tenant data: a key's public name and random bytes.
create table edge_nonces (
  keyid   text not null,
  nonce   text not null,
  seen_at timestamptz not null default now(),
  primary key (keyid, nonce)
);
create index edge_nonces_seen on edge_nonces (seen_at);

-- The order in which a device's databases (epochs) first spoke. Revisions and sequences count from
-- one again in a new epoch, so a device's long-lived rows compare (rank, rev or sequence).
create table edge_epochs (
  device_id       uuid not null,
  organization_id uuid not null,
  epoch           uuid not null,
  rank            integer not null check (rank > 0),
  first_seen_at   timestamptz not null default now(),
  primary key (device_id, epoch),
  unique (device_id, rank),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);

alter table devices enable row level security;
alter table devices force row level security;
create policy tenant on devices
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table edge_credentials enable row level security;
alter table edge_credentials force row level security;
create policy tenant on edge_credentials
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- A request names its key before its tenant is known: exactly that row may be read.
create policy by_key on edge_credentials for select
  using (edge_key = current_setting('app.edge_key', true));

alter table edge_epochs enable row level security;
alter table edge_epochs force row level security;
create policy tenant on edge_epochs
  using (organization_id = app_organization()) with check (organization_id = app_organization());

grant select, insert, update on devices, edge_credentials to sentrycam_cloud_app;
grant select, insert on edge_epochs to sentrycam_cloud_app;
grant select, insert, delete on edge_nonces to sentrycam_cloud_app;
