//! Scores of masks against labelled pixels, by the protocol of CDnet (Goyette et al., "changedetection.net: A new change
//! detection benchmark dataset", 2012): moving pixels are positive, background and hard shadows negative, unknown borders
//! and what lies outside of the region of interest do not count.

/// What a pixel of the ground truth says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// 255.
    Moving,
    /// 0.
    Still,
    /// 50: the shadow of something that moves; background.
    Shadow,
    /// 85 outside of the region of interest, 170 unknown.
    Unscored,
}

impl Truth {
    /// From the grey value of a label, exact or squeezed into video range by a decoder.
    pub fn of(value: u8) -> Truth {
        match value {
            0..=25 => Truth::Still,
            26..=67 => Truth::Shadow,
            200..=255 => Truth::Moving,
            _ => Truth::Unscored,
        }
    }
}

/// A picture of labels or of a mask: `width × height` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Row by row.
    pub bytes: &'a [u8],
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Picture<'_> {
    /// The value at a position of another picture of `width × height`, by the nearest pixel.
    fn at(&self, x: usize, y: usize, width: usize, height: usize) -> u8 {
        let (x, y) = (
            x * self.width / width.max(1),
            y * self.height / height.max(1),
        );
        self.bytes.get(y * self.width + x).copied().unwrap_or(0)
    }
}

/// Counts of pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Moving and found.
    pub hits: u64,
    /// Moving and not found.
    pub misses: u64,
    /// Found and not moving.
    pub false_hits: u64,
    /// Of these, in shadows.
    pub in_shadow: u64,
    /// Neither.
    pub rest: u64,
}

impl Counts {
    /// Adds a frame: `truth` in its own size, the mask scaled to it, scored where `region` (if any) is light.
    pub fn add(&mut self, truth: Picture<'_>, mask: Picture<'_>, region: Option<Picture<'_>>) {
        let (w, h) = (truth.width, truth.height);
        for y in 0..h {
            for x in 0..w {
                if region.is_some_and(|r| r.at(x, y, w, h) < 128) {
                    continue;
                }
                let found = mask.at(x, y, w, h) != 0;
                let count = match (Truth::of(truth.at(x, y, w, h)), found) {
                    (Truth::Unscored, _) => continue,
                    (Truth::Moving, true) => &mut self.hits,
                    (Truth::Moving, false) => &mut self.misses,
                    (Truth::Shadow, true) => {
                        self.in_shadow += 1;
                        &mut self.false_hits
                    }
                    (Truth::Still, true) => &mut self.false_hits,
                    (Truth::Still | Truth::Shadow, false) => &mut self.rest,
                };
                *count += 1;
            }
        }
    }

    /// Share of the moving pixels that are found; 0 where none moves.
    pub fn recall(&self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    /// Share of the found pixels that move; 0 where none is found.
    pub fn precision(&self) -> f64 {
        share(self.hits, self.hits + self.false_hits)
    }

    /// Harmonic mean of recall and precision.
    pub fn f(&self) -> f64 {
        share(2 * self.hits, 2 * self.hits + self.misses + self.false_hits)
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: &[u8], width: usize) -> Picture<'_> {
        Picture {
            bytes,
            width,
            height: bytes.len() / width,
        }
    }

    #[test]
    fn shadows_are_background_and_unknown_pixels_do_not_count() {
        let mut c = Counts::default();
        let truth = [255, 255, 50, 0, 0, 85, 170, 255];
        let mask = [255, 0, 255, 255, 0, 255, 0, 255];
        let region = [255, 255, 255, 255, 255, 255, 255, 0];
        c.add(
            picture(&truth, 4),
            picture(&mask, 4),
            Some(picture(&region, 4)),
        );
        let expected = Counts {
            hits: 1,
            misses: 1,
            false_hits: 2,
            in_shadow: 1,
            rest: 1,
        };
        assert_eq!(c, expected);
        assert!((c.recall() - 0.5).abs() < 1e-9 && (c.precision() - 1.0 / 3.0).abs() < 1e-9);
        assert!((c.f() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn a_mask_of_another_size_is_scaled_by_the_nearest_pixel() {
        let mut c = Counts::default();
        c.add(picture(&[255, 255, 0, 0], 4), picture(&[1, 0], 2), None);
        assert_eq!((c.hits, c.rest, c.misses, c.false_hits), (2, 2, 0, 0));
    }

    #[test]
    fn nothing_at_all_scores_zero() {
        let c = Counts::default();
        assert_eq!((c.recall(), c.precision(), c.f()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn labels_survive_video_range() {
        for (full, video) in [(0, 16), (50, 59), (85, 89), (170, 162), (255, 235)] {
            assert_eq!(Truth::of(full), Truth::of(video));
        }
    }
}
