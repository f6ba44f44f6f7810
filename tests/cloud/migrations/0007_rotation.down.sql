revoke delete on edge_credentials from sentrycam_cloud_app;
drop index edge_credentials_one_next, edge_credentials_claim;
alter table edge_credentials drop column claim_id, drop column confirmed_at;
