-- What devices are to be (desired) and say they are (reported): protocol section 6.

-- Rules of analysis, for the whole organization or one device; compiled into twins, cut to what the licence has.
create table ai_policies (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  device_id       uuid,                          -- null: every device
  name            text not null check (length(name) between 1 and 255),
  is_enabled      boolean not null default true,
  cameras         text[] not null default '{}',  -- camera ids; empty: all
  modules         text[] not null default '{}',  -- motion, market, …
  thresholds      jsonb not null default '{}' check (jsonb_typeof(thresholds) = 'object'),  -- module → 0 to 1
  actions         text[] not null default '{}',
  feature_flags   jsonb not null default '{}' check (jsonb_typeof(feature_flags) = 'object'),
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index ai_policies_organization on ai_policies (organization_id) where deleted_at is null;

-- A camera that the twin names. The password travels to its device and nowhere else.
alter table cameras
  add column desired jsonb check (jsonb_typeof(desired) = 'object' and not desired ? 'password'),  -- null: not in the twin
  add column password_wrapped bytea;             -- AES-256-GCM, AAD = edge_id/camera_id

create table twins (
  device_id       uuid primary key,
  organization_id uuid not null,
  settings        jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),  -- sections as the operator set them
  manages_cameras boolean not null default false, -- false: the cameras of the device's own file hold
  version         bigint not null default 0 check (version >= 0),  -- grows with each change of doc or of a secret
  doc             jsonb not null default '{}',    -- compiled; secrets are {"$secret": "***"}
  secrets_digest  text not null default '',       -- of the wrapped secrets: a new one is a change too
  changed_at      timestamptz not null default now(),  -- `iat`, whole seconds
  published_version bigint not null default 0,    -- retained at the broker
  -- The device's words: version it was asked for last, version in force, what became of it.
  reported        jsonb,
  reported_desired bigint,
  reported_applied bigint,
  reported_status text check (reported_status in ('applied', 'provisional', 'rejected', 'reverted')),
  reported_epoch_rank integer not null default 0, -- place of the newest twin.reported
  reported_sequence bigint not null default -1,
  reported_hinted boolean not null default false, -- known by MQTT only
  reported_at     timestamptz,
  created_at      timestamptz not null default now(),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);

-- A retired key signs nothing new: the retained twin is signed again.
create function twins_sign_again() returns trigger language plpgsql as $$
begin
  update twins set published_version = 0 where device_id = new.device_id;
  return null;
end $$;
create trigger twins_sign_again after update of state on edge_credentials
  for each row when (new.state = 'current' and old.state <> 'current') execute function twins_sign_again();
create trigger twins_sign_for_new_key after insert on edge_credentials
  for each row when (new.state = 'current') execute function twins_sign_again();

alter table ai_policies enable row level security;
alter table ai_policies force row level security;
create policy tenant on ai_policies
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table twins enable row level security;
alter table twins force row level security;
create policy tenant on twins
  using (organization_id = app_organization()) with check (organization_id = app_organization());
create policy dispatcher on twins for select
  using (current_setting('app.dispatcher', true) = 'on');

grant select, insert, update on ai_policies, twins to sentrycam_cloud_app;
