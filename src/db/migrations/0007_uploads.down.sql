drop index snapshots_due;
drop index recordings_due;
drop table upload_days;
drop trigger snapshots_upload_gone;
drop trigger recordings_upload_gone;
drop table uploads;
