drop table stream_sessions;
