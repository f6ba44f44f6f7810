drop table idempotency_keys, edge_records;
