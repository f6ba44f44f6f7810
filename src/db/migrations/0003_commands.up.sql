-- What the cloud asked for and what became of it; pictures taken on command; recordings made on command.

-- One row a command, before it is acknowledged. Each change of state is one transaction with the record that tells it.
-- A row is deleted a day after its expiry, once the command has ended: until then its id is known, so it runs once.
create table commands (
    id blob primary key check (length(id) = 16),
    -- the cloud's own count for this device
    n integer not null,
    -- the catalogue's word; empty where it was rejected before that was known
    type text not null,
    -- JSON, checked; '{}' for what was rejected
    args text not null,
    -- what may be asked for once only, e.g. 'snapshot/<uuid>'; null for what was rejected
    once_key text unique,
    way text not null check (way in ('mqtt', 'poll')),
    -- seconds since 1970, as signed
    issued_s integer not null,
    expires_s integer not null,
    state text not null check (state in ('acknowledged', 'in_progress', 'succeeded', 'failed', 'timed_out', 'canceled',
                                         'rejected')),
    -- raised by every change; the cloud keeps the highest
    rev integer not null check (rev >= 1),
    code text,
    detail text,
    -- JSON
    result text,
    -- let in: by boot time, and by the trusted time of that moment
    boot integer not null references boots (id),
    received_ns integer not null,
    received_s integer not null,
    -- begun; a command that restarts the machine is proved by another boot
    started_boot integer references boots (id),
    started_ns integer,
    ended_boot integer references boots (id),
    ended_ns integer
) strict, without rowid;
create index commands_open on commands (n) where state in ('acknowledged', 'in_progress');
create index commands_expiry on commands (expires_s);

-- A picture in the spool. The row decides, as for recordings.
create table snapshots (
    id blob primary key check (length(id) = 16),
    camera_id text not null,
    boot integer not null references boots (id),
    taken_ns integer not null,
    state text not null check (state in ('kept', 'lost', 'deleted')),
    width integer not null,
    height integer not null,
    -- below the spool directory; derived from camera and id
    path text not null,
    size_bytes integer not null,
    sha256 blob not null check (length(sha256) = 32),
    rev integer not null check (rev >= 1)
) strict, without rowid;
create index snapshots_by_time on snapshots (boot, taken_ns);

-- Recordings have a third mode, 'manual'. SQLite cannot change a check in place.
create table recordings_new (
    id blob primary key check (length(id) = 16),
    camera_id text not null,
    event_id blob references events (id),
    boot integer not null references boots (id),
    started_ns integer not null,
    ended_ns integer,
    mode text not null check (mode in ('motion', 'continuous', 'manual')),
    state text not null check (state in ('recording', 'kept', 'lost', 'deleted')),
    codec text not null,
    width integer not null,
    height integer not null,
    has_audio integer not null check (has_audio in (0, 1)),
    -- below the spool directory; derived from camera and id
    path text not null,
    size_bytes integer,
    duration_ms integer,
    -- of the whole file, 32 bytes
    sha256 blob check (sha256 is null or length(sha256) = 32),
    -- the end is missing: the process died while it was written
    truncated integer not null default 0 check (truncated in (0, 1)),
    rev integer not null check (rev >= 1),
    check (state <> 'kept' or (size_bytes is not null and duration_ms is not null and sha256 is not null))
) strict, without rowid;
insert into recordings_new select id, camera_id, event_id, boot, started_ns, ended_ns, mode, state, codec, width, height,
    has_audio, path, size_bytes, duration_ms, sha256, truncated, rev from recordings;
drop table recordings;
alter table recordings_new rename to recordings;
create index recordings_by_time on recordings (boot, started_ns);
create index recordings_open on recordings (camera_id) where state = 'recording';
create index recordings_by_event on recordings (event_id);
