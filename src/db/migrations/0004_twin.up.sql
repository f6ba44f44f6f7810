-- The twin: what the cloud wants this device to be. One row; without it the configuration file alone counts.
create table twin (
    id integer primary key check (id = 1),
    -- newest version that was judged, what became of it, why, and by which program
    desired integer not null check (desired >= 0),
    status text not null check (status in ('applied', 'rejected', 'reverted')),
    reasons text not null,
    judge text not null,
    -- what is in force, without secrets; version 0 has no document
    version integer not null check (version between 0 and desired),
    document text,
    -- while that is provisional: what comes back, and until when it has to prove itself
    fallback_version integer,
    fallback_document text,
    until_boot blob check (until_boot is null or length(until_boot) = 16),
    until_ns integer,
    until_us integer,
    carried integer not null default 0 check (carried in (0, 1)),
    check ((version = 0) = (document is null)),
    check ((fallback_version is null) = (until_boot is null)),
    check ((until_boot is null) = (until_ns is null) and (until_ns is null) = (until_us is null))
) strict;
