//! Decisions about the outbox: what is sent next, how much at once, and what goes when it is full.
//!
//! No silent loss: whatever is evicted is named in a `sync.gap` record. Pure; the rows are in `db::outbox`.

pub mod batch;
pub mod quota;
