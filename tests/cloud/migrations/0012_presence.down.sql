drop policy by_edge_id on devices;
drop policy dispatcher_select on devices;
drop policy dispatcher_update on devices;
alter table devices drop column presence_session, drop column presence_conn,
  drop column presence_online, drop column presence_at;
