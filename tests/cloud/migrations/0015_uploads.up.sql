-- Evidence in object storage: what a device uploads, and what became of it. The cloud builds object keys
-- from ids, hands out presigned addresses, and believes no upload before it has hashed the object itself.

-- Where this cloud keeps objects, as the server was started; compiled into every twin as `upload.hosts`.
create table storage_settings (
  id              boolean primary key default true check (id),   -- one row
  upload_hosts    text[] not null default '{}',
  updated_at      timestamptz not null default now()
);
insert into storage_settings default values;

-- Pictures: on command, and of events. Their bytes come like those of recordings.
create table snapshots (
  id              uuid primary key,
  organization_id uuid not null,
  device_id       uuid not null,
  snapshot_uid    uuid not null,                 -- data.snapshot_id
  camera_id       text,
  event_uid       uuid,                          -- events.event_uid, for thumbnails
  command_id      uuid,                          -- the command that asked for it
  -- snapshot: on command · thumbnail: an event's strongest frame · annotated: the same with the box drawn
  kind            text not null default 'snapshot' check (kind in ('snapshot', 'thumbnail', 'annotated')),
  status          text not null
                  check (status in ('awaiting_upload', 'uploading', 'available', 'failed', 'deleted')),
  taken_at        timestamptz not null,
  width           integer check (width > 0),
  height          integer check (height > 0),
  size_bytes      bigint check (size_bytes >= 0),
  sha256          text check (sha256 ~ '^[0-9a-f]{64}$'),
  content_type    text,
  path_name       text,                          -- file name on the device, shown only
  bucket          text,
  object_key      text unique,
  available_at    timestamptz,
  error           text,                          -- reason of failed or deleted
  device_deleted_at timestamptz,                 -- the device no longer has it
  parts           jsonb not null,                -- as in recordings
  rev             bigint not null,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  unique (device_id, snapshot_uid),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  foreign key (device_id, camera_id) references cameras (device_id, camera_id)
);
create index snapshots_newest on snapshots (organization_id, taken_at desc);
create index snapshots_event on snapshots (device_id, event_uid) where event_uid is not null;

alter table recordings
  add column device_deleted_at timestamptz,      -- the device no longer has it; the object may be here all the same
  add column is_locked boolean not null default false;  -- the device keeps it from retention

create table uploads (
  id              uuid primary key,              -- UUIDv7
  organization_id uuid not null,
  device_id       uuid not null,
  kind            text not null check (kind in ('recording', 'snapshot')),
  object_uid      uuid not null,                 -- recording_uid or snapshot_uid; the row may not be here yet
  -- uploading: addresses were handed out · available: verified · failed: the object was not the file
  -- aborted: by the device · expired: nobody came back, or another file took its place
  status          text not null check (status in ('uploading', 'available', 'failed', 'aborted', 'expired')),
  size_bytes      bigint not null check (size_bytes > 0),
  sha256          text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  content_type    text not null,
  bucket          text not null,
  object_key      text not null,
  part_size       bigint not null check (part_size >= 0),        -- 0: one plain PUT
  storage_upload_id text,                        -- of the multipart upload at the storage
  error           text,
  created_at      timestamptz not null default now(),
  touched_at      timestamptz not null,          -- last request about it, the cloud's clock
  available_at    timestamptz,
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check ((status = 'available') = (available_at is not null)),
  check (status <> 'failed' or error is not null)
);
-- One under way or done for a thing.
create unique index uploads_live on uploads (device_id, kind, object_uid)
  where status in ('uploading', 'available');
create index uploads_newest on uploads (device_id, kind, object_uid, id desc);
create index uploads_idle on uploads (touched_at) where status = 'uploading';

alter table snapshots enable row level security;
alter table snapshots force row level security;
create policy tenant on snapshots
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table uploads enable row level security;
alter table uploads force row level security;
create policy tenant on uploads
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- The server's own loop expires uploads of all tenants.
create policy dispatcher_select on uploads for select
  using (current_setting('app.dispatcher', true) = 'on');

grant select, insert, update on snapshots, uploads to sentrycam_cloud_app;
grant select, update on storage_settings to sentrycam_cloud_app;
