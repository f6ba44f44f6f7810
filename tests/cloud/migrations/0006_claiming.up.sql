-- Boxes that ask for an owner, the codes that owners hand out, and how often either was tried.

-- By which methods an organization's boxes may be bound (section 8.1).
alter table organizations add column claim_methods text[] not null default '{B,K,U}'
  check (claim_methods <@ '{B,K,U}');

-- Codes of method K. A code has 34.5 bits, so a plain digest of it would be guessed in seconds: this is an
-- HMAC under the key from the environment.
create table claim_codes (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  code_hash       text not null unique check (code_hash ~ '^[0-9a-f]{64}$'),
  device_name     text check (length(device_name) between 1 and 255),
  status          text not null default 'active' check (status in ('active', 'claimed', 'expired')),
  created_at      timestamptz not null,
  expires_at      timestamptz not null,
  claim_id        uuid,                          -- the claim that holds it until it is confirmed
  claimed_at      timestamptz,
  claimed_by_device_id uuid,
  foreign key (claimed_by_device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check (expires_at <= created_at + interval '24 hours'),
  check ((status = 'claimed') = (claimed_at is not null and claimed_by_device_id is not null))
);
create index claim_codes_organization on claim_codes (organization_id);

-- One row a window of 600 s. MAC and serial number are what the box says of itself, shown to people and
-- never keys: neither is unique, since anybody can post any.
create table device_claiming_queue (
  claim_id        uuid primary key,
  token_hash      text not null unique check (token_hash ~ '^[0-9a-f]{64}$'),
  kem_pk          bytea not null check (octet_length(kem_pk) = 32),
  mac_address     macaddr,
  serial_number   text check (length(serial_number) between 1 and 64),
  model           text check (length(model) <= 64),
  agent           text check (length(agent) <= 64),
  methods         text[] not null,
  ip_address      inet not null,
  network         inet not null,                 -- the IPv4 address, or the /64 of an IPv6 one
  user_code_hash  text not null unique check (user_code_hash ~ '^[0-9a-f]{64}$'),
  state           text not null check (state in ('open', 'challenge', 'bound', 'approved', 'denied', 'conflict')),
  created_at      timestamptz not null,
  expires_at      timestamptz not null,
  last_polled_at  timestamptz,
  interval_s      integer not null check (interval_s between 1 and 600),
  -- Who bound it, and how; null while nobody has.
  organization_id uuid references organizations (id) on delete cascade,
  method          text check (method in ('B', 'K', 'U')),
  device_name     text check (length(device_name) between 1 and 255),
  claim_code_id   uuid references claim_codes (id) on delete cascade,
  -- Method B: how often the button is to be pressed. Never sent to the box.
  challenge_id    uuid,
  presses         smallint check (presses between 2 and 9),
  challenge_until timestamptz,                   -- set when the box first hears of it
  tries           smallint not null default 0,
  -- What was approved and is not confirmed yet. It goes with this row: never-active credentials have no other.
  device_id       uuid,
  edge_id         text,
  edge_key        text unique,
  secret_wrapped  bytea check (octet_length(secret_wrapped) = 60),
  mqtt_secret_wrapped bytea check (octet_length(mqtt_secret_wrapped) = 60),
  answer          text,                          -- the poll's 200, byte for byte
  confirm_by      timestamptz,
  check ((organization_id is null) = (method is null)),
  check ((state = 'approved') = (edge_key is not null)),
  check ((edge_key is null) = (answer is null) and (edge_key is null) = (secret_wrapped is null)
     and (edge_key is null) = (confirm_by is null) and (edge_key is null) = (device_id is null)),
  check (state <> 'challenge' or challenge_id is not null and presses is not null)
);
create index device_claiming_queue_network on device_claiming_queue (network) where state in ('open', 'challenge');
create index device_claiming_queue_organization on device_claiming_queue (organization_id);

-- What limits count (sections 8.1 and 8.3). No tenant's data: an address, or what a box calls itself.
create table claim_attempts (
  kind    text not null check (kind in ('claim', 'wrong_code', 'alarm')),
  subject text not null check (length(subject) between 1 and 200),
  at      timestamptz not null
);
create index claim_attempts_recent on claim_attempts (kind, subject, at);

alter table claim_codes enable row level security;
alter table claim_codes force row level security;
create policy tenant on claim_codes
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- A box knows the code before anybody knows its tenant: exactly that row may be read.
create policy by_hash on claim_codes for select using (code_hash = current_setting('app.claim_code_hash', true));

-- Codes whose day is over may be marked.
create policy swept on claim_codes
  using (expires_at < nullif(current_setting('app.claim_sweep', true), '')::timestamptz)
  with check (status = 'expired');

alter table device_claiming_queue enable row level security;
alter table device_claiming_queue force row level security;
create policy tenant on device_claiming_queue
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- A window that nobody has bound belongs to nobody: the server names the one row that it works on.
create policy by_claim on device_claiming_queue
  using (claim_id::text = current_setting('app.claim_id', true))
  with check (claim_id::text = current_setting('app.claim_id', true));
create policy by_user_code on device_claiming_queue for select
  using (user_code_hash = current_setting('app.user_code_hash', true));
create policy by_key on device_claiming_queue for select using (edge_key = current_setting('app.edge_key', true));
-- Windows that are open where the person is.
create policy by_network on device_claiming_queue for select
  using (state in ('open', 'challenge') and network = nullif(current_setting('app.claim_network', true), '')::inet);
-- The same box asking again: its earlier windows end.
create policy by_kem on device_claiming_queue
  using (encode(kem_pk, 'hex') = current_setting('app.claim_kem', true));
-- What has ended may be swept.
create policy swept on device_claiming_queue for all
  using (coalesce(confirm_by, expires_at) < nullif(current_setting('app.claim_sweep', true), '')::timestamptz);

-- The owner lock: whether a serial number is claimed by somebody.
create policy by_serial on devices for select
  using (serial_number = current_setting('app.claim_serial', true));

grant select, insert, update on claim_codes to sentrycam_cloud_app;
grant select, insert, update, delete on device_claiming_queue to sentrycam_cloud_app;
grant select, insert, delete on claim_attempts to sentrycam_cloud_app;
