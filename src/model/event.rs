//! Motion events as they are stored and sent.

use serde::{Deserialize, Serialize};

use super::ids::EventId;

/// A box in normalised coordinates: 0..1 of the picture's width and height, origin top left; and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Region {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
    /// The track that the box belongs to: the same thing has the same number for as long as it is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<u32>,
}

/// How much an event matters; the cloud knows these three words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Worth a look.
    Warning,
    /// Needs somebody now.
    Critical,
}

impl Severity {
    /// The cloud's word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What is known of a motion event at one moment of its life.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionEvent {
    /// Its identity through start, updates and end.
    pub id: EventId,
    /// Raised with every change; the cloud keeps the highest.
    pub rev: u32,
    /// Latest score, 0..1.
    pub score: f32,
    /// Highest score so far, 0..1.
    pub peak_score: f32,
    /// What moved at the latest change, strongest first, at most 8.
    pub regions: Vec<Region>,
    /// Names of the zones entered so far.
    pub zones: Vec<String>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureKind {
    /// The camera's picture when somebody asked for it.
    Snapshot,
    /// The strongest frame of an event.
    Thumbnail,
    /// The same frame with boxes around what moved.
    Annotated,
}

impl PictureKind {
    /// The word on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            PictureKind::Snapshot => "snapshot",
            PictureKind::Thumbnail => "thumbnail",
            PictureKind::Annotated => "annotated",
        }
    }
}
