//! The reference cloud over real TLS with a real PostgreSQL. One binary, so that one cluster serves all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod admin;
mod broker;
mod device;
mod faults;
mod ingest;
mod migrations;
mod mqtt;
mod projections;
mod tenants;
mod verification;
