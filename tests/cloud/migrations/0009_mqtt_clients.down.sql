drop table mqtt_clients;
