revoke update (end_noted) on licenses from sentrycam_cloud_app;
drop policy dispatcher_select on licenses;
alter table licenses drop column end_noted;
drop view camera_places;
