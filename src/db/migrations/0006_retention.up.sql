-- What retention needs to know of a file, and what it did. A deleted row stays (the newest 20,000), so that it can be told.

-- a person wants it kept
alter table recordings add column locked integer not null default 0 check (locked in (0, 1));
-- how far it is on its way off this device: waits for that; kept here by policy; on its way; the cloud has it
alter table recordings add column upload text not null default 'due'
    check (upload in ('due', 'local', 'uploading', 'uploaded'));
-- 1: deleted, and its file is not known to be gone yet. The row comes first, so a crash between leaves no lie.
alter table recordings add column garbage integer not null default 0 check (garbage in (0, 1));
-- 'age', 'camera_quota', 'quota', 'space'
alter table recordings add column deleted_why text;
create index recordings_kept on recordings (camera_id, upload, locked, size_bytes) where state = 'kept';
create index recordings_garbage on recordings (id) where garbage = 1;
create index recordings_gone on recordings (boot, started_ns) where state in ('lost', 'deleted') and garbage = 0;

alter table snapshots add column upload text not null default 'due'
    check (upload in ('due', 'local', 'uploading', 'uploaded'));
alter table snapshots add column garbage integer not null default 0 check (garbage in (0, 1));
alter table snapshots add column deleted_why text;
create index snapshots_kept on snapshots (camera_id, upload, size_bytes) where state = 'kept';
create index snapshots_garbage on snapshots (id) where garbage = 1;
create index snapshots_gone on snapshots (boot, taken_ns) where state in ('lost', 'deleted') and garbage = 0;
