//! The wire contract with the cloud as pure values: signatures, envelopes, answers, and what they teach about time.
//!
//! Everything that comes from outside is bounded before it is parsed: answers to `MAX_ANSWER_BYTES`, records to
//! `MAX_RECORD_BYTES`, batches to `MAX_BATCH_RECORDS` (see `model::limits`). Nothing here does IO, reads a clock or draws a number.

pub mod address;
pub mod agreement;
pub mod answer;
pub mod claim;
pub mod envelope;
pub mod jws;
pub mod keys;
pub mod rotate;
pub mod seal;
pub mod signature;
pub mod skew;
pub mod strict;
