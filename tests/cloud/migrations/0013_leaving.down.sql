drop index edge_credentials_retired;
drop policy dispatcher_retire on edge_credentials;
drop policy dispatcher_select on edge_credentials;
drop index devices_unclaim_due;
alter table devices drop constraint devices_leaving, drop column unclaim_due;
