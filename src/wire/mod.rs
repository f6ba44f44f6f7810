//! The wire contract with the cloud as pure values: signatures, envelopes, answers, and what they teach about time.
//!
//! Everything that comes from outside is bounded before it is parsed: answers to [`MAX_ANSWER_BYTES`], records to
//! [`MAX_RECORD_BYTES`], batches to [`MAX_BATCH_RECORDS`]. Nothing here does IO, reads a clock or draws a number.

pub mod answer;
pub mod envelope;
pub mod signature;
pub mod skew;

/// An answer of the cloud is never read further than this.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// One CloudEvent, encoded.
pub const MAX_RECORD_BYTES: usize = 64 << 10;
/// Records in one batch.
pub const MAX_BATCH_RECORDS: usize = 256;
/// A batch before compression.
pub const MAX_BATCH_BYTES: usize = 512 << 10;
