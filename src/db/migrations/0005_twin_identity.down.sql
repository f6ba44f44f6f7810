alter table twin drop column edge_id;
