-- How far each file is on its way to the cloud; what of it is there is the storage's to say.

-- A row lives from the first question to the cloud, or from a person's request, until the cloud has verified the file, or the
-- file is deleted.
create table uploads (
    -- 0 a clip, 1 a picture
    kind integer not null check (kind in (0, 1)),
    -- recordings.id, snapshots.id
    id blob not null check (length(id) = 16),
    -- 1: a person asked for it, whatever the policy
    asked integer not null default 0 check (asked in (0, 1)),
    -- the cloud's
    upload_id blob check (upload_id is null or length(upload_id) = 16),
    -- JSON: part number to entity tag, of what was sent under upload_id
    parts text not null default '{}',
    -- bytes that left for it, repeated ones too
    sent integer not null default 0,
    -- times that what arrived was not the file
    attempts integer not null default 0,
    -- why it never will be uploaded: 'malformed', 'too-large', 'conflict', 'upload-failed', 'changed'
    failed text,
    primary key (kind, id)
) strict, without rowid;
create trigger recordings_upload_gone after update of state on recordings when new.state in ('deleted', 'lost') begin
    delete from uploads where kind = 0 and id = new.id;
end;
create trigger snapshots_upload_gone after update of state on snapshots when new.state in ('deleted', 'lost') begin
    delete from uploads where kind = 1 and id = new.id;
end;

-- Bytes that left on a day of the place's calendar, for the budget.
create table upload_days (
    day text primary key,
    bytes integer not null
) strict, without rowid;

create index recordings_due on recordings (mode, boot, started_ns) where state = 'kept' and upload in ('due', 'uploading');
create index snapshots_due on snapshots (boot, taken_ns) where state = 'kept' and upload in ('due', 'uploading');
