-- A device that nobody hears of raises an alert. The server's own loop looks for them among all tenants.
create policy dispatcher_select on alerts for select
  using (current_setting('app.dispatcher', true) = 'on');
create unique index alerts_offline on alerts (device_id)
  where alert_type = 'device_offline' and status <> 'resolved';
