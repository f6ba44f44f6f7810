-- Pictures of events: the strongest frame, plain and with boxes.

-- the event that it shows; null for a picture on command. No reference: a row that is made anew from its file has none
alter table snapshots add column event_id blob check (event_id is null or length(event_id) = 16);
alter table snapshots add column kind text not null default 'snapshot'
    check (kind in ('snapshot', 'thumbnail', 'annotated'));
create index snapshots_by_event on snapshots (event_id) where event_id is not null;

-- why an event that is over has no picture, for people; null where it has one, has not one yet, or was to have none
alter table events add column no_picture text;
