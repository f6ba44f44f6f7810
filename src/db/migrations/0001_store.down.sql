drop table recordings;
drop table events;
drop table boots;
drop table meta;
