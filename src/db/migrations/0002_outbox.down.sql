drop table dead_letter;
drop table outbox;
drop table outbox_usage;
