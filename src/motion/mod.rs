//! Motion detection: grey frames in, activity out. Pure: no clock, no IO, no randomness.
//!
//! A [`Detector`] sees the frames of one camera in order and answers each with a [`Verdict`]. What the answers mean
//! for events is decided in [`crate::recording`]; the algorithm can change behind this trait.

mod align;
mod blobs;
mod detector;
#[cfg(test)]
mod golden;
mod plane;
mod restless;
mod runs;
mod samples;
mod sensitivity;
#[doc(hidden)]
pub mod stages;
mod stillness;
mod tamper;
mod tracks;
mod vote;
mod zones;

pub use detector::{ABSORB, CellDetector, well_formed};
pub use sensitivity::smallest_object;
pub use tamper::Tamper;
pub use zones::ZoneMask;

use crate::model::Region;
use crate::time::Pts;

/// One grey picture: `height` rows of `stride` bytes, the first `width` of each are luma (8 bit, full or video range).
#[derive(Debug, Clone, Copy)]
pub struct GrayFrame<'a> {
    /// `stride * (height - 1) + width` bytes at least.
    pub luma: &'a [u8],
    /// Pixels a row, at most 320 as the sampler delivers them.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// When it was captured.
    pub pts: Pts,
}

/// What a frame shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The model is still learning (after a start, a reconnect, a change of size); says nothing.
    Warming,
    /// Nothing moves.
    Quiet,
    /// Something moves.
    Motion(Activity),
    /// The picture changed as a whole (light switch, exposure step, moved camera); re-learning.
    SceneChanged,
}

/// What moves in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Confidence and size in one figure, 0..1.
    pub score: f32,
    /// Share of the watched picture that moves, 0..1.
    pub area: f32,
    /// Boxes, strongest first, at most 8.
    pub regions: Vec<Region>,
    /// Indices of the include zones that are entered.
    pub zones: Vec<usize>,
    /// The frame in which the movement was first seen; earlier than this frame while it awaited confirmation.
    pub since: Pts,
}

/// A motion detector for one camera.
pub trait Detector: Send {
    /// Judges the next frame. Frames come in order of `pts`; a change of size re-learns.
    fn observe(&mut self, frame: &GrayFrame<'_>) -> Verdict;
    /// Forgets the picture, keeps the settings: called after a reconnect.
    fn reset(&mut self);
    /// What is wrong with the camera's view (covered, out of focus, turned away), as long as it is.
    fn tamper(&self) -> Option<Tamper> {
        None
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;
