//! A blob: a group of moving pixels, as the tracks see it.

use crate::model::Region;

/// Blobs that are kept a frame, heaviest first.
pub const MAX_BLOBS: usize = 24;

/// A group of moving pixels. Coordinates in pixels of the model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Blob {
    /// First and last column, first and last row (inclusive).
    pub x: (u16, u16),
    /// Rows, as `x`.
    pub y: (u16, u16),
    /// Moving pixels.
    pub mass: f32,
    /// Centre of mass.
    pub centre: (f32, f32),
    /// Mean clearness of its pixels, 1 (barely differs) to 5.
    pub strength: f32,
    /// Share of its pixels that changed lately, 0..1.
    pub lively: f32,
    /// Include zones entered, one bit each.
    pub zones: u64,
}

impl Blob {
    /// Its box in normalised coordinates, for a picture of `width × height` pixels.
    pub fn region(&self, (width, height): (usize, usize)) -> Region {
        let span = |(from, to): (u16, u16), size: usize| {
            let (from, to) = (usize::from(from), (usize::from(to) + 1).min(size));
            (
                from as f32 / size as f32,
                to.saturating_sub(from) as f32 / size as f32,
            )
        };
        let ((x, w), (y, h)) = (span(self.x, width), span(self.y, height));
        Region {
            x,
            y,
            w,
            h,
            track: None,
        }
    }
}
