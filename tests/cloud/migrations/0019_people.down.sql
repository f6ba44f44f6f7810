drop table device_links, sessions;
