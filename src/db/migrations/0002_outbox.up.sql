-- The outbox: what the cloud still has to be told.

-- What the cloud has not committed yet. A row leaves only on the cloud's COMMIT, by quota (named in sync.gap), or
-- into dead_letter.
create table outbox (
    seq integer primary key autoincrement,
    id blob not null unique check (length(id) = 16),
    -- 0 critical, 1 alarm, 2 metadata, 3 metric
    class integer not null check (class between 0 and 3),
    bytes integer not null,
    -- record as wire::envelope::Record::stored_body wrote it
    body text not null,
    boot integer not null references boots (id),
    boottime_ns integer not null,
    -- coalescing key of metrics: type and subject
    coalesce_key text,
    -- the batch it was last sent in; the batch's idempotency key
    batch blob check (batch is null or length(batch) = 16),
    attempts integer not null default 0
) strict;
create index outbox_pick on outbox (class, seq) where batch is null;
create index outbox_batch on outbox (batch) where batch is not null;
create unique index outbox_coalesce on outbox (coalesce_key) where coalesce_key is not null and batch is null;

-- Bytes and rows that each class holds, kept by triggers so that a put need not count.
create table outbox_usage (
    class integer primary key check (class between 0 and 3),
    rows integer not null,
    bytes integer not null
) strict;
insert into outbox_usage (class, rows, bytes) values (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0);
create trigger outbox_insert after insert on outbox begin
    update outbox_usage set rows = rows + 1, bytes = bytes + new.bytes where class = new.class;
end;
create trigger outbox_delete after delete on outbox begin
    update outbox_usage set rows = rows - 1, bytes = bytes - old.bytes where class = old.class;
end;
create trigger outbox_change after update of bytes on outbox begin
    update outbox_usage set bytes = bytes + new.bytes - old.bytes where class = new.class;
end;

-- Records that the cloud will never accept: at most 1,000, for 30 days; retried only by hand.
create table dead_letter (
    seq integer primary key,
    id blob not null unique check (length(id) = 16),
    class integer not null check (class between 0 and 3),
    body text not null,
    boot integer not null references boots (id),
    boottime_ns integer not null,
    code text not null,
    detail text not null,
    died_boot integer not null references boots (id),
    died_ns integer not null
) strict;
