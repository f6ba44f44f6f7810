-- Where a key came from and when it was proven, so that keys rotate and a repeated confirm is known again.
alter table edge_credentials
  add column claim_id     uuid,                  -- the claim that it was confirmed in
  add column confirmed_at timestamptz;           -- first use of a rotated or claimed key
update edge_credentials set confirmed_at = created_at where state <> 'next';
-- At most one key waits to be confirmed.
create unique index edge_credentials_one_next on edge_credentials (device_id) where state = 'next';
create unique index edge_credentials_claim on edge_credentials (claim_id) where claim_id is not null;
grant delete on edge_credentials to sentrycam_cloud_app;
