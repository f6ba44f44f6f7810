-- Which clients the broker should have. The broker is told after the commit, and told again until it agrees: a
-- claim does not fail because the broker is away.
create table mqtt_clients (
  device_id       uuid primary key,
  organization_id uuid not null,
  edge_id         text not null unique,
  wanted          text not null check (wanted in ('present', 'absent')),
  -- Wrapped like edge_secret; gone as soon as the broker has its own hash.
  password_wrapped bytea check (octet_length(password_wrapped) = 60),
  generation      bigint not null default 1,     -- each wish has its own
  applied         bigint not null default 0,     -- the last one that the broker fulfilled
  updated_at      timestamptz not null default now(),
  foreign key (device_id, organization_id) references devices (id, organization_id) on delete cascade,
  check (applied <= generation),
  check ((wanted = 'present' and applied < generation) = (password_wrapped is not null))
);
create index mqtt_clients_pending on mqtt_clients (updated_at) where applied < generation;

alter table mqtt_clients enable row level security;
alter table mqtt_clients force row level security;
create policy tenant on mqtt_clients
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- The server's own task goes through all of them.
create policy broker on mqtt_clients using (current_setting('app.task', true) = 'broker')
  with check (current_setting('app.task', true) = 'broker');

grant select, insert, update on mqtt_clients to sentrycam_cloud_app;
