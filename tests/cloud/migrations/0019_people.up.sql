-- What belongs to persons at a screen. This cloud has no sign-in (its API takes keys), so nothing writes them yet.

-- A person who is signed in.
create table sessions (
  id              uuid primary key,              -- UUIDv7
  organization_id uuid not null references organizations (id) on delete cascade,
  user_id         uuid not null references users (id) on delete cascade,
  token_hash      bytea not null unique check (octet_length(token_hash) = 32),  -- SHA-256
  ip_address      inet,
  user_agent      text check (length(user_agent) <= 512),
  expires_at      timestamptz not null,
  last_used_at    timestamptz,
  created_at      timestamptz not null default now(),
  revoked_at      timestamptz,
  check (expires_at > created_at)
);
create index sessions_user on sessions (user_id);
create index sessions_organization on sessions (organization_id);

-- A viewer's device and a camera that it watches.
create table device_links (
  id              uuid primary key,
  organization_id uuid not null,
  client_id       uuid not null,
  camera_device_id uuid not null,
  name            text check (length(name) <= 255),
  created_at      timestamptz not null default now(),
  deleted_at      timestamptz,
  unique (client_id, camera_device_id),
  foreign key (client_id, organization_id) references devices (id, organization_id) on delete cascade,
  foreign key (camera_device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check (client_id <> camera_device_id)
);
create index device_links_camera on device_links (camera_device_id);

do $$
declare tenant_table text;
begin
  foreach tenant_table in array array['sessions', 'device_links'] loop
    execute format('alter table %I enable row level security', tenant_table);
    execute format('alter table %I force row level security', tenant_table);
    execute format('create policy tenant on %I using (organization_id = app_organization())
                    with check (organization_id = app_organization())', tenant_table);
    execute format('grant select, insert, update on %I to sentrycam_cloud_app', tenant_table);
  end loop;
end $$;
