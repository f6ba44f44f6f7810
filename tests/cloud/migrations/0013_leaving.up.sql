-- How a claim ends: the owner asks, and the device says that it is done, or its time passes. And keys of a past.

-- Until when the device may say that it has unclaimed itself; then it is unclaimed without its word.
alter table devices add column unclaim_due timestamptz;
alter table devices add constraint devices_leaving check (unclaim_due is null or status <> 'unclaimed');
create index devices_unclaim_due on devices (unclaim_due) where unclaim_due is not null;

-- The server's own loop finds keys of all tenants that are too old, and those whose day of grace is over.
create policy dispatcher_select on edge_credentials for select
  using (current_setting('app.dispatcher', true) = 'on');
create policy dispatcher_retire on edge_credentials for update
  using (current_setting('app.dispatcher', true) = 'on' and state = 'retired')
  with check (state = 'revoked');
create index edge_credentials_retired on edge_credentials (retired_at) where state = 'retired';
