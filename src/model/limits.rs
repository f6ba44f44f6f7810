//! Bounds of the wire contract: what is never exceeded, sent or received.

/// An answer of the cloud is never read further than this.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// One CloudEvent, encoded.
pub const MAX_RECORD_BYTES: usize = 64 << 10;
/// Records in one batch.
pub const MAX_BATCH_RECORDS: usize = 256;
/// A batch before compression.
pub const MAX_BATCH_BYTES: usize = 512 << 10;
