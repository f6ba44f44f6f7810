drop index alerts_offline;
drop policy dispatcher_select on alerts;
