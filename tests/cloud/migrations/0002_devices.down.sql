drop table edge_epochs, edge_nonces, edge_credentials, devices;
