//! What the sizes of the pictures between key frames say, where they say anything on this camera.
//!
//! Bytes are summed over windows of [`WINDOW`]; the largest window of a GOP (as a logarithm) is what is compared. Mean and
//! deviation are learned from GOPs in which nothing moved. On a camera with constant quality a moving body multiplies
//! the bytes; at a constant bit rate, in wind or in noise it does not, and the judge is told how often it cried wolf:
//! an alarm without motion raises the threshold, many in a row switch it off until it would have been right again: motion
//! that something else found, in pictures as large as they need be at the start, lowers it.
//!
//! Sizes only ever cause more decoding; they never spare any.

use std::time::Duration;

use crate::time::Pts;

/// Bytes are summed over this much of the stream.
const WINDOW: Duration = Duration::from_millis(500);
/// Quiet GOPs before it says anything.
const WARM_UP: u32 = 6;
/// How fast mean and deviation follow, a quiet GOP.
const RATE: f32 = 0.1;
/// Least rise that counts: half as many bytes again.
const FLOOR: f32 = 0.4;
/// Multiples of the mean deviation at the start, and at most.
const FACTOR: (f32, f32) = (5.0, 40.0);

/// The judge of sizes; see the module.
#[derive(Debug, Clone)]
pub struct Sizes {
    mean: f32,
    deviation: f32,
    factor: f32,
    learned: u32,
    /// The window under way: begin, bytes.
    window: Option<(Pts, u64)>,
    /// Largest window of this GOP so far.
    largest: u64,
    /// That of the one before, until it is known whether something moved.
    finished: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            mean: 0.0,
            deviation: 0.0,
            factor: FACTOR.0,
            learned: 0,
            window: None,
            largest: 0,
            finished: 0,
        }
    }
}

impl Sizes {
    /// A picture that is no key frame; true where it makes this GOP suspicious.
    pub fn picture(&mut self, pts: Pts, bytes: usize) -> bool {
        let bytes = bytes as u64;
        match &mut self.window {
            Some((begin, sum)) if pts >= *begin && pts.since(*begin) < WINDOW => {
                *sum = sum.saturating_add(bytes);
                // What is there is a lower bound of the full window: no need to wait for its end.
                self.largest = self.largest.max(*sum);
            }
            window => {
                *window = Some((pts, bytes));
                self.largest = self.largest.max(bytes);
            }
        }
        self.is_large()
    }

    /// A key frame begins a GOP.
    pub fn gop(&mut self) {
        self.finished = std::mem::take(&mut self.largest);
        self.window = None;
    }

    /// The GOP before the one that runs is known to have shown no motion.
    pub fn learn(&mut self) {
        let largest = std::mem::take(&mut self.finished);
        if largest == 0 {
            return;
        }
        let x = (largest as f32).ln();
        self.learned = self.learned.saturating_add(1);
        let rate = RATE.max(1.0 / self.learned as f32);
        if self.learned == 1 {
            self.mean = x;
        }
        let d = x - self.mean;
        self.mean += d * rate;
        self.deviation += (d.abs() - self.deviation) * rate;
    }

    /// What it said was looked at: was there motion?
    pub fn answered(&mut self, motion: bool) {
        let factor = if motion {
            self.factor * 0.8
        } else {
            self.factor * 1.5
        };
        self.factor = factor.clamp(FACTOR.0, FACTOR.1);
    }

    /// Something else found motion, just now: would sizes have told of it at the first threshold?
    pub fn moved(&mut self) {
        let largest = self.largest.max(self.finished);
        let limit = FLOOR.max(FACTOR.0 * self.deviation);
        if self.learned >= WARM_UP && largest > 0 && (largest as f32).ln() > self.mean + limit {
            self.answered(true);
        }
    }

    /// Whether sizes are used on this camera.
    pub fn is_informative(&self) -> bool {
        self.learned >= WARM_UP && self.limit() < 1.5
    }

    fn limit(&self) -> f32 {
        FLOOR.max(self.factor * self.deviation)
    }

    fn is_large(&self) -> bool {
        self.is_informative()
            && self.largest > 0
            && (self.largest as f32).ln() > self.mean + self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GOP of two seconds at ten pictures a second, all of this size; whether it is suspicious.
    fn gop(sizes: &mut Sizes, n: u64, bytes: usize) -> bool {
        sizes.gop();
        let large = |i: u64| sizes.picture(Pts((n * 20 + i) * 100_000_000), bytes);
        (1..20).map(large).filter(|l| *l).count() > 0
    }

    #[test]
    fn who_cried_wolf_is_believed_again_once_it_would_have_been_right() {
        let mut sizes = Sizes::default();
        // A scene whose pictures vary by themselves.
        for n in 0..40 {
            gop(&mut sizes, n, 2_000 + n as usize % 3 * 300);
            sizes.learn();
        }
        assert!(sizes.is_informative());
        while sizes.is_informative() {
            sizes.answered(false);
        }
        assert!(!gop(&mut sizes, 40, 60_000), "it is silent");
        sizes.moved();
        assert!(sizes.is_informative(), "once was enough here");
        assert!(gop(&mut sizes, 41, 60_000));
        // Motion that did not show in the sizes says nothing for them.
        sizes.answered(false);
        assert!(!sizes.is_informative());
        gop(&mut sizes, 42, 2_300);
        gop(&mut sizes, 43, 2_300);
        sizes.moved();
        assert!(!sizes.is_informative());
    }
}
