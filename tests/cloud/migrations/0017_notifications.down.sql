drop table notification_deliveries, notifications, push_tokens, notification_endpoints;
