//! The one integration-test binary: real GStreamer, real servers, real processes. Nothing sleeps; each test waits for
//! what it wants to see, with a deadline.

#![allow(clippy::unwrap_used)]

mod agent;
mod architecture;
mod bootstrap;
mod cameras;
mod capture;
mod capture_local;
mod claim;
mod claim_cuts;
mod clip;
mod crash;
mod device;
mod dice;
mod edge;
mod expiry;
mod fixture;
mod foreign;
mod foreign_seal;
mod model;
mod process;
mod running;
mod sampler;
mod secrets;
mod simulation;
mod sync;
mod sync_adversity;
mod sync_keys;
mod watch;
