drop table commands;
alter table devices drop column last_command_n;
