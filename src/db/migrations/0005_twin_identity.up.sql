-- Whose versions these are: the device's name in the cloud. Another name begins anew.
alter table twin add column edge_id text not null default '';
