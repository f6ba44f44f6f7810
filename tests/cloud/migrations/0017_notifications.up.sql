-- Who is told of an alert, and whether it arrived.

-- Webhooks, signed as Standard Webhooks has it.
create table notification_endpoints (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  url             text not null check (length(url) <= 2048 and url ~ '^https?://' and url !~ '//[^/]*@'),
  secret_wrapped  bytea not null,                -- AES-256-GCM, AAD = webhook/id
  min_severity    text not null default 'warning' check (min_severity in ('info', 'warning', 'critical')),
  is_active       boolean not null default true,
  disabled_reason text,                          -- 410 of the endpoint itself, or a person
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  unique (id, organization_id)
);
create index notification_endpoints_organization on notification_endpoints (organization_id);

-- Apps that take push messages; written by an app's sign-in, which this cloud has not.
create table push_tokens (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  user_id         uuid not null references users (id) on delete cascade,
  platform        text not null check (platform in ('apns', 'fcm', 'webpush')),
  token_wrapped   bytea not null,
  last_used_at    timestamptz,
  created_at      timestamptz not null default now(),
  deleted_at      timestamptz
);

-- One an alert.
create table notifications (
  id              uuid primary key,              -- UUIDv7
  organization_id uuid not null,
  device_id       uuid not null,
  alert_id        uuid not null unique references alerts (id) on delete cascade,
  title           text not null,
  body            text,
  severity        text not null check (severity in ('info', 'warning', 'critical')),
  event_uid       uuid,                          -- whose thumbnail it carries
  notified_at     timestamptz,                   -- first delivery that arrived
  created_at      timestamptz not null default now(),
  unique (id, organization_id),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade
);
create index notifications_newest on notifications (organization_id, created_at desc);
create index notifications_event on notifications (device_id, event_uid) where event_uid is not null;

create table notification_deliveries (
  id              uuid primary key,              -- webhook-id is msg_<id>, the same for every attempt
  organization_id uuid not null,
  notification_id uuid not null,
  endpoint_id     uuid not null,
  channel         text not null default 'webhook' check (channel in ('webhook', 'push')),
  status          text not null default 'pending' check (status in ('pending', 'delivered', 'failed')),
  attempts        integer not null default 0 check (attempts >= 0),
  next_attempt_at timestamptz,                   -- null once it is over
  last_attempt_at timestamptz,
  delivered_at    timestamptz,
  last_status     integer,                       -- HTTP status of the last attempt
  last_error      text check (length(last_error) <= 512),
  created_at      timestamptz not null default now(),
  unique (notification_id, endpoint_id),
  foreign key (notification_id, organization_id) references notifications (id, organization_id) on delete cascade,
  foreign key (endpoint_id, organization_id) references notification_endpoints (id, organization_id) on delete cascade,
  check ((status = 'pending') = (next_attempt_at is not null)),
  check ((status = 'delivered') = (delivered_at is not null))
);
create index notification_deliveries_due on notification_deliveries (next_attempt_at) where status = 'pending';

do $$
declare tenant_table text;
begin
  foreach tenant_table in array
    array['notification_endpoints', 'push_tokens', 'notifications', 'notification_deliveries'] loop
    execute format('alter table %I enable row level security', tenant_table);
    execute format('alter table %I force row level security', tenant_table);
    execute format('create policy tenant on %I using (organization_id = app_organization())
                    with check (organization_id = app_organization())', tenant_table);
    execute format('grant select, insert, update on %I to sentrycam_cloud_app', tenant_table);
  end loop;
end $$;
-- The server's own loop delivers for all tenants.
create policy dispatcher_select on notification_deliveries for select
  using (current_setting('app.dispatcher', true) = 'on');
create policy dispatcher_update on notification_deliveries for update
  using (current_setting('app.dispatcher', true) = 'on');
