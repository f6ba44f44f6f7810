//! The one integration-test binary: real GStreamer, real servers, real processes. Nothing sleeps; each test waits for
//! what it wants to see, with a deadline.

#![allow(clippy::unwrap_used)]

mod agent;
mod architecture;
mod bootstrap;
mod cameras;
mod capture;
mod capture_local;
mod capture_tcp;
mod claim;
mod claim_cuts;
mod claim_hostile;
mod clip;
mod commands;
mod coverage;
mod crash;
mod db_check;
mod device;
mod dice;
mod disk_faults;
mod doctor;
mod edge;
mod expiry;
mod export;
mod fixture;
mod foreign;
mod foreign_command;
mod foreign_mqtt;
mod foreign_seal;
mod link;
mod link_agent;
mod link_faults;
mod live;
mod model;
mod mqtt_site;
mod notified;
mod overlay;
mod owner;
mod packaging;
mod pictures;
mod process;
mod reboot;
mod retention;
mod round_trip;
mod running;
mod sampler;
mod secrets;
mod simulation;
mod storm;
mod sync;
mod sync_adversity;
mod sync_keys;
mod twin;
mod twin_bench;
mod twin_cloud;
mod twin_hostile;
mod upload;
mod upload_agent;
mod upload_site;
mod verdict;
#[path = "../vm/mod.rs"]
mod vm;
mod watch;
