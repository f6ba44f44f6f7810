//! The reference cloud over real TLS with a real PostgreSQL. One binary, so that one cluster serves all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod admin;
mod blank;
mod broker;
mod claim_attacks;
mod claim_limits;
mod claims;
mod cli;
mod commands;
mod device;
mod faults;
mod foreign;
mod ingest;
mod leaving;
mod licenses;
mod link;
mod migrations;
mod mqtt;
mod notifications;
mod projections;
mod rotation;
mod sealed;
mod streams;
mod tenants;
mod twins;
mod upload_faults;
mod uploads;
mod verification;
