-- The store of one device. A moment is (boot_id, *_ns): nanoseconds of CLOCK_BOOTTIME within that boot; wall time is
-- that plus boots.offset_us. Rows are ordered by sequence, never by wall time.

create table meta (
    -- 'epoch': uuid made with this file; with outbox.seq it names every record ever.
    -- 'trusted_us': the last trusted wall time seen, in microseconds since 1970: the floor after a reboot.
    key text primary key,
    value text not null
) strict, without rowid;

create table boots (
    id integer primary key,
    boot_id blob not null unique check (length(boot_id) = 16),
    -- microseconds to add to CLOCK_BOOTTIME
    offset_us integer not null,
    -- 0 none, 1 floor, 2 synced
    quality integer not null check (quality between 0 and 2)
) strict;

-- Motion from start to end. Written by the camera task; a row is never deleted while its records are unsent.
create table events (
    id blob primary key check (length(id) = 16),
    camera_id text not null,
    boot integer not null references boots (id),
    started_ns integer not null,
    -- null while it goes on
    ended_ns integer,
    state text not null check (state in ('active', 'ended')),
    -- why it ended: 'quiet', 'cut' (longest length, another one continues), 'camera_lost', 'stopped', 'crash'
    end_reason text,
    rev integer not null check (rev >= 1),
    peak_score real not null check (peak_score between 0 and 1),
    -- JSON array of zone names
    zones text not null default '[]',
    check ((state = 'ended') = (ended_ns is not null))
) strict, without rowid;
create index events_by_time on events (boot, started_ns);
create index events_active on events (camera_id) where state = 'active';

-- A clip or segment. The row decides: a file without a row is garbage, a row without a file says 'lost'.
create table recordings (
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
create index recordings_by_time on recordings (boot, started_ns);
create index recordings_open on recordings (camera_id) where state = 'recording';
create index recordings_by_event on recordings (event_id);
