drop table alerts, recordings, events, cameras;
