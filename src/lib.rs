//! sentrycam turns a Raspberry Pi or an edge box with cameras into a trustworthy security camera.
//!
//! **Up:** a frame may be lost, an event may not; it is in SQLite before anyone is told, and leaves only on the
//! cloud's COMMIT. **Down:** a command is committed before it is acknowledged, takes effect at most once, and its
//! result is an event.
//!
//! The way of the data: `media` (capture) → `motion` → `recording` (event) → `db` (store) → `agent::uploader` (sync).
//! Imports go down the floors only; `tests/it/architecture.rs` holds that.
//!
//! | floor | modules |
//! |---|---|
//! | 4 composition | `main`, [`cli`], [`daemon`] |
//! | 3 tasks | [`agent`] |
//! | 2 adapters | [`media`], [`db`], [`cloud`], [`spool`], [`board`], [`supervise`] |
//! | 1 decisions | [`motion`], [`demand`], [`recording`], [`claim`], [`command`], [`link`], [`live`], [`outbox`], [`restart`], [`wire`], [`tuning`], [`twin`], [`upload`], [`config`] |
//! | 0 vocabulary | [`model`], [`time`], [`units`] |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod board;
pub mod claim;
pub mod cli;
pub mod cloud;
pub mod command;
pub mod config;
pub mod daemon;
pub mod db;
pub mod demand;
pub mod link;
pub mod live;
pub mod media;
pub mod model;
pub mod motion;
pub mod outbox;
pub mod recording;
pub mod restart;
pub mod spool;
pub mod supervise;
pub mod time;
pub mod tuning;
pub mod twin;
pub mod units;
pub mod upload;
pub mod wire;
