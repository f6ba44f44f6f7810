//! The background picture: what each pixel looks like when nothing moves, and how the present frame differs from it.
//!
//! One pass over the frame predicts every pixel (background × exposure gain), sums the differences in cells of
//! [`CELL`]×[`CELL`] pixels and moves the background towards the frame by a bounded step, as sigma-delta estimators do
//! (Manzanera & Richefeu, "A new motion detection algorithm based on Σ-Δ background estimation", 2007). All in
//! 16-bit fixed point without a branch a pixel, so that it vectorises; no allocation after [`Background::new`].
//!
//! Each cell keeps a second background (as in bimodal models such as ViBe, Barnich & Van Droogenbroeck, 2011, reduced
//! to one spare sample): when an absorbed object leaves, the old picture is put back at once and there is no ghost.

use super::GrayFrame;

/// Side of a cell in pixels.
pub const CELL: usize = 4;
/// Pixels in a cell.
const AREA: usize = CELL * CELL;
/// Exposure gain of 1.0.
pub const UNITY: u16 = 1 << 15;
/// Exposure gains that are compensated; beyond them the scene counts as changed.
const GAIN: (f32, f32) = (0.42, 1.58);
/// The largest difference that one update sees, in 1/32 luma.
const STEP_LIMIT: i16 = 24 * 32;

/// Sums over one cell, in luma.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CellSum {
    /// Mean of (pixel − prediction).
    pub signed: f32,
    /// Mean of |pixel − prediction|.
    pub absolute: f32,
    /// Pixels that differ by more than the pass's threshold, 0..=16.
    pub count: f32,
}

/// Background of one picture size.
#[derive(Debug, Clone)]
pub struct Background {
    width: usize,
    height: usize,
    cols: usize,
    rows: usize,
    /// Padded width in pixels: a whole number of cells.
    padded: usize,
    /// Luma × 64 at unity gain, cell-row by cell-row, `padded` a row.
    now: Vec<u16>,
    /// The spare background, luma, cell by cell ([`AREA`] bytes each).
    spare: Vec<u8>,
    has_spare: Vec<bool>,
    gain: u16,
    line: [Vec<u8>; CELL],
    rates: Vec<i16>,
    sums: [Vec<i16>; 3],
}

impl Background {
    /// An empty background for pictures of `width × height` pixels, both at least 1.
    pub fn new(width: usize, height: usize) -> Background {
        let (cols, rows) = (width.div_ceil(CELL), height.div_ceil(CELL));
        let padded = cols * CELL;
        Background {
            width,
            height,
            cols,
            rows,
            padded,
            now: vec![0; padded * rows * CELL],
            spare: vec![0; cols * rows * AREA],
            has_spare: vec![false; cols * rows],
            gain: UNITY,
            line: std::array::from_fn(|_| vec![0; padded]),
            rates: vec![0; padded],
            sums: std::array::from_fn(|_| vec![0; padded]),
        }
    }

    /// Columns and rows of cells.
    pub fn grid(&self) -> (usize, usize) {
        (self.cols, self.rows)
    }

    /// Whether the frame has this background's size.
    pub fn fits(&self, frame: &GrayFrame<'_>) -> bool {
        (self.width, self.height) == (frame.width, frame.height)
    }

    /// Present exposure gain, 1.0 = as learned.
    pub fn gain(&self) -> f32 {
        f32::from(self.gain) / f32::from(UNITY)
    }

    /// Takes the frame as the background, at unity gain; with `keep` the former one becomes the spare.
    pub fn assign(&mut self, frame: &GrayFrame<'_>, keep: bool) {
        for cell in 0..self.cols * self.rows {
            if keep {
                self.stash(cell);
            } else {
                self.has_spare[cell] = false;
            }
        }
        self.gain = UNITY;
        for cell in 0..self.cols * self.rows {
            self.put(frame, cell);
        }
    }

    /// Follows the exposure: the median ratio of frame to background over samples of 8 pixels.
    ///
    /// Returns how much the gain changed, as a ratio minus one. A median does not see objects that cover less than
    /// half of the picture; clipped and nearly black samples do not vote.
    pub fn follow_exposure(&mut self, frame: &GrayFrame<'_>) -> f32 {
        const BINS: usize = 512;
        const PER_UNIT: f32 = 256.0;
        let mut votes = [0u16; BINS];
        let mut total = 0u32;
        for y in (1..self.height).step_by(CELL) {
            let row = &frame.luma[y * frame.stride..][..self.width];
            let back = &self.now[y * self.padded..][..self.width];
            for (i, b) in row.chunks_exact(8).zip(back.chunks_exact(8)) {
                let luma: u32 = i.iter().map(|v| u32::from(*v)).sum();
                let base: u32 = b.iter().map(|v| u32::from(*v)).sum();
                if base >= 8 * 8 * 64 && luma <= 8 * 245 {
                    let ratio = luma as f32 * (64.0 * PER_UNIT) / base as f32;
                    votes[(ratio as usize).min(BINS - 1)] += 1;
                    total += 1;
                }
            }
        }
        if total < 32 {
            return 0.0;
        }
        let half = total as f32 / 2.0;
        let mut below = 0.0;
        let mut median = 1.0;
        for (bin, &n) in votes.iter().enumerate() {
            let n = f32::from(n);
            if below + n >= half {
                median = (bin as f32 + (half - below) / n) / PER_UNIT;
                break;
            }
            below += n;
        }
        let old = self.gain();
        let agree = |gain: f32| {
            let (from, to) = (gain * 0.97 * PER_UNIT, gain * 1.03 * PER_UNIT);
            let range = (from as usize).min(BINS - 1)..=(to as usize).min(BINS - 1);
            votes[range].iter().map(|n| u32::from(*n)).sum::<u32>()
        };
        // A large object moves the median too, but only a change of exposure makes more of the picture agree.
        if (median / old - 1.0).abs() > 0.02 && agree(median) * 4 < agree(old) * 5 {
            return 0.0;
        }
        let change = median / old - 1.0;
        // Small differences are noise of the estimate or light on a part of the picture: follow slowly.
        let new = if change.abs() < 0.01 {
            old + (median - old) / 8.0
        } else {
            median
        };
        let new = new.clamp(GAIN.0, GAIN.1);
        self.gain = (new * f32::from(UNITY)) as u16;
        new / old - 1.0
    }

    /// Compares the frame with the background and learns from it.
    ///
    /// `threshold` is the difference in luma from which a pixel counts; `rate` tells for each cell the share of the
    /// difference that the background takes over (0..=0.25); `out` receives one [`CellSum`] a cell.
    pub fn scan(
        &mut self,
        frame: &GrayFrame<'_>,
        threshold: f32,
        rate: &[f32],
        out: &mut [CellSum],
    ) {
        let threshold = (threshold * 32.0).min(8160.0) as i16;
        for cell_row in 0..self.rows {
            let cells = cell_row * self.cols..(cell_row + 1) * self.cols;
            for (px, r) in self.rates.chunks_exact_mut(CELL).zip(&rate[cells.clone()]) {
                // The background has twice the resolution of the difference.
                px.fill((r * 131_072.0).min(32_767.0) as i16);
            }
            for s in &mut self.sums {
                s.fill(0);
            }
            for k in 0..CELL {
                let y = cell_row * CELL + k;
                let line = &mut self.line[k];
                let source = (y.min(self.height - 1)) * frame.stride;
                line[..self.width].copy_from_slice(&frame.luma[source..][..self.width]);
                let last = line[self.width - 1];
                line[self.width..].fill(last);
                let [signed, absolute, count] = &mut self.sums;
                scan_line(
                    line,
                    &mut self.now[y * self.padded..][..self.padded],
                    &self.rates,
                    self.gain,
                    threshold,
                    (signed, absolute, count),
                );
            }
            let [signed, absolute, count] = &self.sums;
            let cells = out[cells]
                .iter_mut()
                .zip(signed.chunks_exact(CELL))
                .zip(absolute.chunks_exact(CELL))
                .zip(count.chunks_exact(CELL));
            for (((o, s), a), n) in cells {
                let sum = |v: &[i16]| v.iter().map(|x| i32::from(*x)).sum::<i32>() as f32;
                let scale = 1.0 / (32 * AREA) as f32;
                *o = CellSum {
                    signed: sum(s) * scale,
                    absolute: sum(a) * scale,
                    count: sum(n),
                };
            }
        }
    }

    /// Mean |frame − spare| of the cell in luma; infinite where there is no spare.
    pub fn distance_to_spare(&self, frame: &GrayFrame<'_>, cell: usize) -> f32 {
        if !self.has_spare[cell] {
            return f32::INFINITY;
        }
        let gain = self.gain();
        let spare = &self.spare[cell * AREA..][..AREA];
        let pixels = (0..AREA).map(|i| f32::from(self.pixel(frame, cell, i)));
        pixels
            .zip(spare)
            .map(|(p, s)| (p - (f32::from(*s) * gain).min(255.0)).abs())
            .sum::<f32>()
            / AREA as f32
    }

    /// Takes the frame as background in one cell; the former background becomes the cell's spare.
    pub fn swap(&mut self, frame: &GrayFrame<'_>, cell: usize) {
        self.stash(cell);
        self.put(frame, cell);
    }

    fn stash(&mut self, cell: usize) {
        for i in 0..AREA {
            self.spare[cell * AREA + i] = (self.now[self.index(cell, i)] >> 6).min(255) as u8;
        }
        self.has_spare[cell] = true;
    }

    fn put(&mut self, frame: &GrayFrame<'_>, cell: usize) {
        let scale = 64.0 / self.gain();
        for i in 0..AREA {
            let value = (f32::from(self.pixel(frame, cell, i)) * scale).min(40_000.0);
            let at = self.index(cell, i);
            self.now[at] = value as u16;
        }
    }

    fn index(&self, cell: usize, i: usize) -> usize {
        let (x, y) = (cell % self.cols * CELL, cell / self.cols * CELL);
        (y + i / CELL) * self.padded + x + i % CELL
    }

    fn pixel(&self, frame: &GrayFrame<'_>, cell: usize, i: usize) -> u8 {
        let x = (cell % self.cols * CELL + i % CELL).min(self.width - 1);
        let y = (cell / self.cols * CELL + i / CELL).min(self.height - 1);
        frame.luma[y * frame.stride + x]
    }
}

/// One row of pixels: differences into the column sums, a bounded step into the background.
///
/// Differences have 5 fractional bits (±8160), so that four rows fit an `i16`.
fn scan_line(
    line: &[u8],
    back: &mut [u16],
    rates: &[i16],
    gain: u16,
    threshold: i16,
    (signed, absolute, count): (&mut [i16], &mut [i16], &mut [i16]),
) {
    let n = line.len();
    let (back, rates) = (&mut back[..n], &rates[..n]);
    let (signed, absolute, count) = (&mut signed[..n], &mut absolute[..n], &mut count[..n]);
    for i in 0..n {
        let predicted = ((u32::from(back[i]) * u32::from(gain)) >> 16) as i16;
        let d = (i16::from(line[i]) << 5) - predicted.min(8160);
        let a = d.abs();
        signed[i] += d;
        absolute[i] += a;
        count[i] += i16::from(a > threshold);
        let step = d.clamp(-STEP_LIMIT, STEP_LIMIT);
        let moved = (i32::from(step) * i32::from(rates[i]) + 0x8000) >> 16;
        back[i] = back[i].wrapping_add(moved as i16 as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Pts;

    fn frame(luma: &[u8], width: usize, height: usize) -> GrayFrame<'_> {
        GrayFrame {
            luma,
            width,
            height,
            stride: width,
            pts: Pts(0),
        }
    }

    #[test]
    fn an_assigned_frame_differs_from_nothing() {
        let luma: Vec<u8> = (0..35 * 13).map(|i| (i * 7 % 256) as u8).collect();
        let f = frame(&luma, 35, 13);
        let mut b = Background::new(35, 13);
        b.assign(&f, false);
        let mut out = vec![CellSum::default(); 9 * 4];
        b.scan(&f, 4.0, &[0.02; 36], &mut out);
        assert!(out.iter().all(|c| c.absolute < 0.1 && c.count == 0.0));
    }

    #[test]
    fn a_change_of_exposure_is_compensated() {
        let luma: Vec<u8> = (0..64 * 64).map(|i| 40 + (i % 97) as u8).collect();
        let darker: Vec<u8> = luma.iter().map(|v| (f32::from(*v) * 0.7) as u8).collect();
        let mut b = Background::new(64, 64);
        b.assign(&frame(&luma, 64, 64), false);
        b.follow_exposure(&frame(&darker, 64, 64));
        assert!((b.gain() - 0.7).abs() < 0.02, "{}", b.gain());
        let mut out = vec![CellSum::default(); 256];
        b.scan(&frame(&darker, 64, 64), 4.0, &[0.0; 256], &mut out);
        assert!(out.iter().all(|c| c.absolute < 2.0));
    }

    #[test]
    fn the_spare_remembers_what_an_object_hid() {
        let (empty, object) = (vec![50u8; 64], vec![150u8; 64]);
        let mut b = Background::new(8, 8);
        b.assign(&frame(&empty, 8, 8), false);
        assert!(b.distance_to_spare(&frame(&empty, 8, 8), 0).is_infinite());
        b.swap(&frame(&object, 8, 8), 0);
        assert!(b.distance_to_spare(&frame(&empty, 8, 8), 0) < 1.0);
    }

    #[test]
    fn the_background_never_wraps_at_the_ends_of_the_range() {
        let (black, white) = (vec![0u8; 64], vec![255u8; 64]);
        let mut b = Background::new(8, 8);
        b.assign(&frame(&black, 8, 8), false);
        let mut out = vec![CellSum::default(); 4];
        for i in 0..2000 {
            let luma = if i / 500 % 2 == 0 { &white } else { &black };
            b.scan(&frame(luma, 8, 8), 4.0, &[0.25; 4], &mut out);
        }
        assert!(out.iter().all(|c| c.absolute < 2.0), "{out:?}");
    }
}
