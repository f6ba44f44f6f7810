-- Who owns what: organizations, people, their roles and keys.
--
-- Row-level security. The server runs as `sentrycam_cloud_app`, which is no superuser and does not
-- bypass policies. A transaction names its tenant with
--     select set_config('app.organization_id', '<uuid>', true);
-- and then sees and writes that tenant's rows only; without it, it sees none. The role is shared by
-- every database of the cluster, so creating it tolerates that it exists and DOWN leaves it alone.
do $$
begin
  create role sentrycam_cloud_app login nosuperuser nocreatedb nocreaterole nobypassrls noinherit;
exception when duplicate_object or unique_violation then null;
end $$;

grant usage on schema public to sentrycam_cloud_app;

-- The tenant of the running transaction; null when none was named, and null equals nothing.
create function app_organization() returns uuid language sql stable as
  $$ select nullif(current_setting('app.organization_id', true), '')::uuid $$;

create table organizations (
  id          uuid primary key,                 -- UUIDv7
  name        text not null check (length(name) between 1 and 255),
  name_en     text check (length(name_en) <= 255),
  city        text,
  phone       text,
  email       text,
  -- `suspended` answers 403 to its devices; they keep recording and wait.
  status      text not null default 'active' check (status in ('active', 'suspended')),
  -- Limits of the plan; enforced where devices are claimed and twins are made.
  max_cameras      integer not null default 4 check (max_cameras >= 0),
  max_edge_servers integer not null default 1 check (max_edge_servers >= 0),
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  deleted_at  timestamptz                       -- soft delete
);

create table users (
  id              uuid primary key,
  organization_id uuid not null references organizations (id),  -- the home tenant
  email           text not null unique check (email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 255),
  username        text check (length(username) between 1 and 100),
  name            text,
  password_hash   text,                         -- never a password; null until one is set
  is_active       boolean not null default true,
  email_verified_at timestamptz,
  last_login_at   timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  deleted_at      timestamptz
);
create index users_organization on users (organization_id);

-- The one vocabulary of roles: `moderator` is the operator, `admin` the super-admin of a tenant.
create table roles (
  id          uuid primary key,
  name        text not null unique check (name in ('admin', 'moderator', 'user', 'viewer')),
  description text not null,
  is_system   boolean not null default true,
  created_at  timestamptz not null default now()
);
insert into roles (id, name, description) values
  ('01900000-0000-7000-8000-000000000001', 'admin', 'everything, with users, keys and claims'),
  ('01900000-0000-7000-8000-000000000002', 'moderator', 'operates cameras, deletes and locks recordings'),
  ('01900000-0000-7000-8000-000000000003', 'user', 'plays recordings, acknowledges events'),
  ('01900000-0000-7000-8000-000000000004', 'viewer', 'sees health and live view');

create table user_roles (
  user_id         uuid not null references users (id) on delete cascade,
  organization_id uuid not null references organizations (id) on delete cascade,
  role_id         uuid not null references roles (id) on delete restrict,
  assigned_at     timestamptz not null default now(),
  assigned_by     uuid references users (id),
  primary key (user_id, organization_id, role_id)
);

-- Bearer keys of the admin API. The key has 256 random bits, so a plain SHA-256 of it is enough.
create table api_keys (
  id              uuid primary key,
  organization_id uuid not null references organizations (id) on delete cascade,
  user_id         uuid references users (id) on delete cascade,
  name            text not null check (length(name) between 1 and 100),
  key_hash        text not null unique check (key_hash ~ '^[0-9a-f]{64}$'),
  role_id         uuid not null references roles (id),
  is_active       boolean not null default true,
  last_used_at    timestamptz,
  expires_at      timestamptz,                  -- null: never
  created_at      timestamptz not null default now()
);
create index api_keys_organization on api_keys (organization_id);

alter table organizations enable row level security;
alter table organizations force row level security;
create policy tenant on organizations using (id = app_organization()) with check (id = app_organization());

alter table users enable row level security;
alter table users force row level security;
create policy tenant on users
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table user_roles enable row level security;
alter table user_roles force row level security;
create policy tenant on user_roles
  using (organization_id = app_organization()) with check (organization_id = app_organization());

alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy tenant on api_keys
  using (organization_id = app_organization()) with check (organization_id = app_organization());
-- A caller is known by the key alone, before its tenant is: exactly that row may be read.
create policy by_hash on api_keys for select
  using (key_hash = current_setting('app.api_key_hash', true));

grant select on organizations, users, roles, user_roles to sentrycam_cloud_app;
grant select, update (last_used_at) on api_keys to sentrycam_cloud_app;
