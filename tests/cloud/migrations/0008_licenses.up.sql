-- What an organization has paid for. Without a licence the limits on `organizations` hold.

-- The provider's price list; no tenant's data.
create table subscription_plans (
  id               uuid primary key,
  name             text not null unique check (length(name) between 1 and 255),
  name_ar          text,
  max_cameras      integer not null default 4 check (max_cameras >= 0),
  max_edge_servers integer not null default 1 check (max_edge_servers >= 0),
  available_modules     text[] not null default '{}',
  notification_channels text[] not null default '{}',
  price_monthly    numeric(10, 2) not null default 0 check (price_monthly >= 0),
  price_yearly     numeric(10, 2) not null default 0 check (price_yearly >= 0),
  is_active        boolean not null default true,
  created_at       timestamptz not null default now(),
  updated_at       timestamptz not null default now(),
  deleted_at       timestamptz
);
insert into subscription_plans (id, name, max_cameras, max_edge_servers, available_modules, notification_channels,
                                price_monthly, price_yearly) values
  ('01900000-0000-7000-8000-000000000101', 'basic', 4, 1, '{}', '{email}', 0, 0),
  ('01900000-0000-7000-8000-000000000102', 'standard', 16, 4, '{}', '{email,push}', 19, 190),
  ('01900000-0000-7000-8000-000000000103', 'market', 64, 16, '{market}', '{email,push,webhook}', 79, 790);

create table licenses (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  plan_id         uuid not null references subscription_plans (id),
  license_key     text not null unique check (length(license_key) between 8 and 255),
  status          text not null default 'active' check (status in ('active', 'suspended', 'replaced')),
  modules         text[] not null default '{}',
  max_cameras      integer check (max_cameras >= 0),       -- null: the plan's
  max_edge_servers integer check (max_edge_servers >= 0),
  expires_at      timestamptz,                   -- null: never
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz
);
create index licenses_organization on licenses (organization_id);
create unique index licenses_one_active on licenses (organization_id) where status = 'active' and deleted_at is null;

alter table licenses enable row level security;
alter table licenses force row level security;
create policy tenant on licenses
  using (organization_id = app_organization()) with check (organization_id = app_organization());

grant select on subscription_plans, licenses to sentrycam_cloud_app;
