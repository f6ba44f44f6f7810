drop table twin;
