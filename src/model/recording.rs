//! Recordings: what is kept, and the states of one.

use serde::{Deserialize, Serialize};

/// When a camera is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordMode {
    /// A clip an event, with pre-roll and post-roll.
    Motion,
    /// Segments without a gap.
    Continuous,
    /// Nothing is recorded; events are still reported.
    Off,
    /// On command, for a while; no camera is configured so.
    Manual,
}

impl RecordMode {
    /// The word of a recording made so.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordMode::Motion | RecordMode::Off => "motion",
            RecordMode::Continuous => "continuous",
            RecordMode::Manual => "manual",
        }
    }
}

/// State of a clip on this device (`recordings.status`).
///
/// ```text
/// recording ─▶ kept ─▶ deleted
///     └──────▶ lost (the file vanished, or nothing in it could be saved)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipState {
    /// Its file is being written.
    Recording,
    /// Closed, fsynced and playable.
    Kept,
    /// Its row is there, its file is not.
    Lost,
    /// Removed on purpose.
    Deleted,
}

impl ClipState {
    /// The word stored in SQLite.
    pub fn as_str(self) -> &'static str {
        match self {
            ClipState::Recording => "recording",
            ClipState::Kept => "kept",
            ClipState::Lost => "lost",
            ClipState::Deleted => "deleted",
        }
    }
}
