drop table uploads, snapshots, storage_settings;
alter table recordings drop column device_deleted_at, drop column is_locked;
