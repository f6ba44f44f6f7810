drop table commands;
drop table snapshots;
-- An older version knows no recordings on command: they read as continuous ones.
create table recordings_old (
    id blob primary key check (length(id) = 16),
    camera_id text not null,
    event_id blob references events (id),
    boot integer not null references boots (id),
    started_ns integer not null,
    ended_ns integer,
    mode text not null check (mode in ('motion', 'continuous')),
    state text not null check (state in ('recording', 'kept', 'lost', 'deleted')),
    codec text not null,
    width integer not null,
    height integer not null,
    has_audio integer not null check (has_audio in (0, 1)),
    path text not null,
    size_bytes integer,
    duration_ms integer,
    sha256 blob check (sha256 is null or length(sha256) = 32),
    truncated integer not null default 0 check (truncated in (0, 1)),
    rev integer not null check (rev >= 1),
    check (state <> 'kept' or (size_bytes is not null and duration_ms is not null and sha256 is not null))
) strict, without rowid;
insert into recordings_old select id, camera_id, event_id, boot, started_ns, ended_ns,
    case mode when 'manual' then 'continuous' else mode end, state, codec, width, height,
    has_audio, path, size_bytes, duration_ms, sha256, truncated, rev from recordings;
drop table recordings;
alter table recordings_old rename to recordings;
create index recordings_by_time on recordings (boot, started_ns);
create index recordings_open on recordings (camera_id) where state = 'recording';
create index recordings_by_event on recordings (event_id);
