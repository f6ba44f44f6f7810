//! Where the picture keeps moving to and fro: foliage, water, flags, flicker.
//!
//! A body passes a pixel once; a leaf comes back. Each area counts how often its pixels begin to differ again shortly
//! after they ceased to, and what moves there weighs less.

use super::plane::Plane;

/// Side of an area in pixels.
const AREA: usize = 16;
/// A pixel that differs again within this many quarters of a second has come back.
const SOON: u8 = 8;
/// Time constant in seconds after which a return is forgotten.
const SECONDS: f32 = 20.0;
/// Returns a pixel that are nothing unusual: legs, noise at an edge.
const FREE: f32 = 0.25;
/// How much less things weigh for each further return, and the limit.
const GAIN: f32 = 4.0;
const MOST: f32 = 12.0;

/// Restlessness of one picture size.
#[derive(Debug, Clone)]
pub struct Restless {
    cols: usize,
    /// Quarters of a second since a pixel last differed.
    calm: Plane,
    /// Returns a pixel, area by area.
    returns: Vec<f32>,
    counts: Vec<u16>,
}

impl Restless {
    /// Calm everywhere.
    pub fn new(width: usize, height: usize) -> Restless {
        let cols = width.div_ceil(AREA);
        Restless {
            cols,
            calm: Plane::new(width, height, u8::MAX),
            returns: vec![0.0; cols * height.div_ceil(AREA)],
            counts: vec![0; cols],
        }
    }

    /// Counts the returns of a frame, each `times`; `ticks` quarters of a second and `dt` seconds after the last one.
    pub fn follow(&mut self, labels: &Plane, ticks: u8, dt: f32, times: f32) {
        let decay = (-dt / SECONDS).exp();
        for (areas, first) in self
            .returns
            .chunks_exact_mut(self.cols)
            .zip((0..).step_by(AREA))
        {
            self.counts.fill(0);
            for y in first..(first + AREA).min(labels.size().1) {
                count_row(
                    labels.line(y),
                    self.calm.line_mut(y),
                    ticks,
                    &mut self.counts,
                );
            }
            for (r, n) in areas.iter_mut().zip(&self.counts) {
                *r = *r * decay + f32::from(*n) * times / (AREA * AREA) as f32;
            }
        }
    }

    /// Share of the areas that are restless, 0..=1.
    pub fn share(&self) -> f32 {
        let n = self.returns.iter().filter(|r| **r > FREE).count();
        n as f32 / self.returns.len().max(1) as f32
    }

    /// What a pixel of a moving thing weighs here, 1 where it is calm.
    pub fn weight(&self, x: usize, y: usize) -> f32 {
        let r = self.returns[y / AREA * self.cols + x / AREA];
        1.0 / (1.0 + GAIN * (r - FREE).max(0.0)).min(MOST)
    }
}

fn count_row(label: &[u8], calm: &mut [u8], ticks: u8, counts: &mut [u16]) {
    for ((label, calm), count) in label.chunks(AREA).zip(calm.chunks_mut(AREA)).zip(counts) {
        let mut n = 0;
        for (l, c) in label.iter().zip(calm) {
            let differs = u8::from(*l != 0);
            let soon = u8::from(*c > 0) & u8::from(*c <= SOON);
            n += differs & soon;
            *c = c.saturating_add(ticks) & differs.wrapping_sub(1);
            // Ended: at least one tick, so that it is told from a pixel that still differs.
            *c |= u8::from(*c == 0) & (differs ^ 1);
        }
        *count += u16::from(n);
    }
}
