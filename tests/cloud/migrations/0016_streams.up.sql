-- Live sessions: asked for by a command, told by the device's records, ended by a lease if by nothing else.
create table stream_sessions (
  id              uuid primary key,              -- session_id
  organization_id uuid not null,
  device_id       uuid not null,
  camera_id       text not null check (length(camera_id) between 1 and 128),
  command_id      uuid not null references commands (id) on delete cascade,  -- its stream.start
  protocol        text not null check (protocol in ('whip', 'rtmps', 'rtmp', 'srt', 'rtsp', 'rtsps')),
  publish_endpoint text not null check (length(publish_endpoint) <= 2048 and publish_endpoint !~ '//[^/]*@'),
  stream_key_wrapped bytea,                      -- AES-256-GCM, AAD = edge_id/stream/id; goes to the device only
  status          text not null default 'requested'
                  check (status in ('requested', 'live', 'ended', 'failed', 'canceled')),
  expires_at      timestamptz not null,          -- end of the lease as it was last asked for
  lapsed_at       timestamptz,                   -- the cloud's own end: the lease was over and the device silent
  started_at      timestamptz,                   -- first picture at the media server
  ended_at        timestamptz,
  reason          text check (length(reason) <= 64),
  detail          text check (length(detail) <= 512),
  bytes           bigint check (bytes >= 0),     -- published
  parts           jsonb not null default '{}',   -- as in events
  rev             bigint not null default 0,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check ((status in ('ended', 'failed', 'canceled')) = (ended_at is not null))
);
create index stream_sessions_newest on stream_sessions (organization_id, created_at desc);
create index stream_sessions_open on stream_sessions (device_id, camera_id) where status in ('requested', 'live');

alter table stream_sessions enable row level security;
alter table stream_sessions force row level security;
create policy tenant on stream_sessions
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- The server's own loop ends sessions of all tenants.
create policy dispatcher_select on stream_sessions for select
  using (current_setting('app.dispatcher', true) = 'on');

grant select, insert, update on stream_sessions to sentrycam_cloud_app;
