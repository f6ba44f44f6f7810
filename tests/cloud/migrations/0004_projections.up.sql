-- What people look at: cameras, events, recordings, alerts, projected from edge_records.

create table cameras (
  device_id       uuid not null,
  organization_id uuid not null,
  camera_id       text not null check (length(camera_id) between 1 and 128),  -- unique within its device
  id              uuid not null unique,          -- the cloud's name
  name            text check (length(name) <= 255),
  -- `unknown`: something named the camera before it reported itself.
  status          text not null default 'unknown' check (status in ('unknown', 'online', 'offline', 'degraded')),
  reason          text,                          -- why it is down or degraded, the device's words
  codec           text,
  width           integer check (width > 0),
  height          integer check (height > 0),
  fps             double precision check (fps >= 0),
  source_kind     text,                          -- rtsp, v4l2, file
  stream_url      text,                          -- without password; twin, later
  rtsp_url        text check (rtsp_url !~ '//[^/@]*:[^/@]*@'),
  location        text,
  is_active       boolean not null default true,
  epoch_rank      integer not null default 0,    -- place of the newest camera.* record:
  rev             bigint not null default -1,    -- an older one changes nothing
  up_epoch_rank   integer not null default 0,    -- place and time of the newest camera.up
  up_rev          bigint not null default -1,
  up_at           timestamptz,
  last_seen_at    timestamptz,                   -- time of the newest record that says it gives frames
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  primary key (device_id, camera_id),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index cameras_organization on cameras (organization_id);

create table events (
  id              uuid primary key,
  organization_id uuid not null,
  device_id       uuid not null,
  event_uid       uuid not null,                 -- data.event_id; idempotency, within the device
  camera_id       text,
  event_type      text not null check (event_type ~ '^[a-z0-9_]{1,64}$'),    -- motion, suspicious_behavior
  title           text,
  triggered_by    text,
  severity        text not null check (severity in ('info', 'warning', 'critical')),
  status          text not null check (status in ('active', 'ended')),
  occurred_at     timestamptz not null,          -- = started_at; the earliest time known until `started` came
  ended_at        timestamptz,
  duration_ms     bigint check (duration_ms >= 0),
  notified_at     timestamptz,
  recording_id    uuid,                          -- named by motion.ended; the row may not be here yet
  meta            jsonb not null default '{}',   -- score, peak_score, regions, zones, module, risk_…
  -- The newest record of each kind; every column above is a pure function of it, whatever the order
  -- of arrival. See `project::event`.
  parts           jsonb not null,
  rev             bigint not null,               -- highest seen
  epoch           uuid not null,                 -- place of the record that has it
  sequence        bigint not null,
  acknowledged_at timestamptz,                   -- people's columns: projections never touch them
  resolved_at     timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  unique (device_id, event_uid),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  foreign key (device_id, camera_id) references cameras (device_id, camera_id),
  check ((status = 'ended') = (ended_at is not null))
);
create index events_newest on events (organization_id, occurred_at desc);

create table recordings (
  id              uuid primary key,
  organization_id uuid not null,
  device_id       uuid not null,
  recording_uid   uuid not null,                 -- data.recording_id
  camera_id       text,
  event_uid       uuid,                          -- events.event_uid; no foreign key: it may come later
  mode            text check (mode in ('motion', 'continuous', 'manual')),
  status          text not null
                  check (status in ('recording', 'awaiting_upload', 'uploading', 'available', 'failed', 'deleted')),
  started_at      timestamptz not null,
  ended_at        timestamptz,
  duration_ms     bigint check (duration_ms >= 0),
  duration_seconds bigint generated always as (duration_ms / 1000) stored,
  size_bytes      bigint check (size_bytes >= 0),
  sha256          text check (sha256 ~ '^[0-9a-f]{64}$'),
  truncated       boolean not null default false, -- cut by a power loss and repaired
  has_audio       boolean,
  codec           text,
  width           integer check (width > 0),
  height          integer check (height > 0),
  path_name       text,                          -- file name on the device, shown only, never opened
  bucket          text,                          -- where the upload lies; written by the upload API
  object_key      text unique,
  available_at    timestamptz,
  error           text,                          -- reason of failed or deleted
  parts           jsonb not null,                -- as in events
  rev             bigint not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  unique (device_id, recording_uid),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  foreign key (device_id, camera_id) references cameras (device_id, camera_id)
);
create index recordings_newest on recordings (organization_id, started_at desc);
create index recordings_event on recordings (device_id, event_uid) where event_uid is not null;

create table alerts (
  id              uuid primary key,
  organization_id uuid not null,
  device_id       uuid not null,
  alert_type      text not null check (alert_type ~ '^[a-z0-9_]{1,64}$'),  -- camera_down, sync_gap, …
  -- What raised it, once: the id of the record, or the event's uid for an event.
  source_uid      uuid not null,
  event_uid       uuid,                          -- events.event_uid
  camera_id       text,
  title           text not null,
  message         text,
  severity        text not null check (severity in ('info', 'warning', 'critical')),
  status          text not null default 'new' check (status in ('new', 'acknowledged', 'resolved')),
  triggered_at    timestamptz not null,
  acknowledged_at timestamptz,
  resolved_at     timestamptz,
  epoch_rank      integer not null,              -- place of the record; a later camera.up resolves camera_down
  rev             bigint not null,
  created_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  unique (device_id, alert_type, source_uid),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check ((status = 'resolved') = (resolved_at is not null))
);
create index alerts_newest on alerts (organization_id, triggered_at desc);
create index alerts_open on alerts (device_id, camera_id) where status <> 'resolved';

alter table cameras enable row level security;
alter table cameras force row level security;
create policy tenant on cameras
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table events enable row level security;
alter table events force row level security;
create policy tenant on events
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table recordings enable row level security;
alter table recordings force row level security;
create policy tenant on recordings
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table alerts enable row level security;
alter table alerts force row level security;
create policy tenant on alerts
  using (organization_id = app_organization()) with check (organization_id = app_organization());

grant select, insert, update on cameras, events, recordings, alerts to sentrycam_cloud_app;
