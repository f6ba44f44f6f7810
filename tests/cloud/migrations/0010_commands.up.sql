-- What the cloud asks of devices, each once: signed documents (protocol section 7) and what became of them.

-- Numbers a device's commands. The row's lock is held until the command is committed, so a device that
-- asks for "after n" never misses a smaller number that commits later.
alter table devices add column last_command_n bigint not null default 0 check (last_command_n >= 0);

create table commands (
  id              uuid primary key,              -- UUIDv7; `jti` of the document
  organization_id uuid not null,
  device_id       uuid not null,                 -- the target
  source_user_id  uuid references users (id),    -- who asked; null: an API key or the operator
  source_device_id uuid,                         -- the client device that asked, if one did
  n               bigint not null check (n > 0), -- place among the device's commands
  command_type    text not null check (command_type ~ '^[a-z][a-z0-9_.]{0,63}$'),
  payload         jsonb not null check (jsonb_typeof(payload) = 'object'),  -- `args`; never a secret
  -- queued: nobody has it · dispatched: handed out, by MQTT or by poll · expired: set by the cloud when
  -- `expires_at` passes without `acknowledged` · the others are the device's words. See `command::state`.
  status          text not null default 'queued'
                  check (status in ('queued', 'dispatched', 'acknowledged', 'in_progress', 'succeeded',
                                    'failed', 'timed_out', 'canceled', 'rejected', 'expired')),
  epoch_rank      integer not null default 0,    -- place of the newest command.status: epoch's rank …
  rev             bigint not null default 0,     -- … and rev; an older one changes nothing
  hinted          boolean not null default false, -- status is known by MQTT only; the record is to come
  late_status     text,                          -- what the device said after the end: it changes nothing
  code            text check (length(code) <= 64),   -- the device's word for why
  progress        jsonb,
  result          jsonb,
  error           text,                          -- `detail` of an end that is no success
  retry_count     integer not null default 0 check (retry_count >= 0),  -- hand-outs after the first
  last_dispatched_at timestamptz,
  acknowledged_at timestamptz,                   -- the device's times
  started_at      timestamptz,
  completed_at    timestamptz,
  issued_at       timestamptz not null,          -- `iat`, whole seconds
  expires_at      timestamptz not null,          -- `exp`, whole seconds
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  unique (device_id, n),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  foreign key (source_device_id, organization_id) references devices (id, organization_id),
  check (expires_at > issued_at),
  check ((status in ('succeeded', 'failed', 'timed_out', 'canceled', 'rejected', 'expired'))
         = (completed_at is not null))
);
create index commands_newest on commands (organization_id, created_at desc);
-- What a poll hands out, and what may expire.
create index commands_open on commands (device_id, n) where status in ('queued', 'dispatched');
create index commands_expiry on commands (expires_at) where status in ('queued', 'dispatched');

alter table commands enable row level security;
alter table commands force row level security;
create policy tenant on commands
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- The server's own loop (expiry, publishing) finds work of all tenants; it names itself for that.
create policy dispatcher_select on commands for select
  using (current_setting('app.dispatcher', true) = 'on');
create policy dispatcher_update on commands for update
  using (current_setting('app.dispatcher', true) = 'on');

grant select, insert, update on commands to sentrycam_cloud_app;
