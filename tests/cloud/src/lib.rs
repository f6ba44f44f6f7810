//! The reference cloud: the other side of the wire contract, written without a line of the agent.
//!
//! It verifies EDGE-SIG/1 requests (RFC 9421), stores every record it is sent in PostgreSQL, answers
//! **after** the commit, projects records into the tables people look at, and keeps tenants apart by
//! row-level security. A fault layer makes it misbehave on purpose. Tests, the demo and cloud teams
//! use it; it is built to be read, not to be scaled.
//!
//! ```text
//! connection ── cut ── faults ── verify (3.2) ── ingest ── edge_records ─┐ one transaction,
//!                                   │               └──── projections ───┘ then the answer
//!                                   └── sign (3.3) ◀── answer
//! ```

pub mod admin;
pub mod broker;
pub mod cert;
pub mod claiming;
pub mod cli;
pub mod clock;
pub mod command;
pub mod credentials;
pub mod db;
pub mod edge;
pub mod faults;
pub mod hostile;
pub mod http;
pub mod ingest;
pub mod jws;
pub mod license;
pub mod migrate;
pub mod mqtt;
pub mod notify;
pub mod object_server;
pub mod postgres;
pub mod problem;
pub mod project;
pub mod secret;
pub mod server;
pub mod sf;
pub mod signature;
pub mod storage;
pub mod stream;
pub mod testing;
pub mod twin;
pub mod upload;
