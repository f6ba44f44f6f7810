-- Whether a device is there, as the broker sees it: `up/state` and its will. A hint beside the heartbeat.
alter table devices
  add column presence_session uuid,              -- session of the last `online`
  add column presence_conn    bigint,            -- connection in that session; an older one's will changes nothing
  add column presence_online  boolean not null default false,
  add column presence_at      timestamptz;       -- cloud's clock

-- A message names its device by its topic before its tenant is known: exactly that row may be read.
create policy by_edge_id on devices for select
  using (edge_id = current_setting('app.edge_id', true));
-- The server's own loop finds devices of all tenants that have gone silent.
create policy dispatcher_select on devices for select
  using (current_setting('app.dispatcher', true) = 'on');
create policy dispatcher_update on devices for update
  using (current_setting('app.dispatcher', true) = 'on');
