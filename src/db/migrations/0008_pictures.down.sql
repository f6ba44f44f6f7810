drop index snapshots_by_event;
alter table snapshots drop column event_id;
alter table snapshots drop column kind;
alter table events drop column no_picture;
