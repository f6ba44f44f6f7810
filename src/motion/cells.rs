//! Which cells differ: a pyramid of cell sums, each compared with the noise measured at that very place and scale.
//!
//! Summing before comparing is what finds a faint object at night (noise falls with the side of the area, the object
//! does not) and what keeps leaves and a trembling camera quiet (their differences cancel in larger areas, a body's do
//! not). Thresholds follow the measured noise, as in SuBSENSE (St-Charles et al., 2015), per cell and level instead
//! of per pixel. Pure arithmetic on the sums of [`super::background`]; no allocation after [`Cells::new`].

use super::background::CellSum;

/// Levels of the pyramid; areas of 4, 8, 16 and 32 pixels a side.
const LEVELS: usize = 4;
/// Threshold in units of the mean absolute noise.
const NOISE_FACTOR: f32 = 4.2;
/// Least threshold of the signed mean a level, in luma.
const FLOOR: [f32; LEVELS] = [4.5, 3.5, 3.0, 3.0];
/// Least threshold of texture (mean absolute difference above its noise), in luma.
const TEXTURE_FLOOR: f32 = 4.0;
/// Noise learns from differences of at most this many times itself.
const OUTLIER: f32 = 3.0;
/// Noise in flagged cells learns this much slower, so that an object is not taken for noise.
const FLAGGED_RATE: f32 = 1.0 / 12.0;

/// Restlessness is measured in areas of this level (16 pixels a side) and forgotten with this time constant.
const RESTLESS_LEVEL: usize = 2;
const RESTLESS_SECONDS: f32 = 20.0;
/// A body lets each cell begin to differ about once a passage; what comes more often is foliage, water or rain.
const RESTLESS_FREE: f32 = 0.4;
/// Growth of the threshold for each further beginning, and its limit.
const RESTLESS_GAIN: f32 = 1.0;
const RESTLESS_MAX: f32 = 3.0;

#[derive(Debug, Clone)]
struct Level {
    cols: usize,
    rows: usize,
    /// Mean signed difference, luma.
    mean: Vec<f32>,
    /// 1 / number of cells of level 0 in the area.
    share: Vec<f32>,
    /// Mean absolute value of `mean` while nothing moves.
    noise: Vec<f32>,
}

/// Per-cell state of one picture size.
#[derive(Debug, Clone)]
pub struct Cells {
    cols: usize,
    rows: usize,
    levels: Vec<Level>,
    /// Mean and mean deviation of the absolute difference.
    texture: Vec<f32>,
    texture_noise: Vec<f32>,
    /// Mass in pixels: 0 where the cell is like the background.
    mass: Vec<f32>,
    /// Strength: multiples of the threshold, 0 where the cell is like the background.
    strength: Vec<f32>,
    flagged: Vec<bool>,
    was_flagged: Vec<bool>,
    /// How often the cells of an area of [`RESTLESS_LEVEL`] began to differ lately, a cell.
    restless: Vec<f32>,
    /// Factor on a cell's thresholds, 1 where it is usually calm.
    caution: Vec<f32>,
}

impl Cells {
    /// For a grid of `cols × rows` cells, with no knowledge of the noise.
    pub fn new(cols: usize, rows: usize) -> Cells {
        let n = cols * rows;
        let mut levels: Vec<Level> = Vec::with_capacity(LEVELS);
        for l in 0..LEVELS {
            let side = 1 << l;
            let (c, r) = (cols.div_ceil(side), rows.div_ceil(side));
            let span = |i: usize, size: usize| ((i + 1) * side).min(size) - i * side;
            levels.push(Level {
                cols: c,
                rows: r,
                mean: vec![0.0; c * r],
                share: (0..c * r)
                    .map(|i| 1.0 / (span(i % c, cols) * span(i / c, rows)) as f32)
                    .collect(),
                noise: vec![0.0; c * r],
            });
        }
        let restless = vec![0.0; levels[RESTLESS_LEVEL].mean.len()];
        Cells {
            cols,
            rows,
            levels,
            texture: vec![0.0; n],
            texture_noise: vec![0.0; n],
            mass: vec![0.0; n],
            strength: vec![0.0; n],
            flagged: vec![false; n],
            was_flagged: vec![false; n],
            restless,
            caution: vec![1.0; n],
        }
    }

    /// Cells that differ from the background.
    pub fn flagged(&self) -> &[bool] {
        &self.flagged
    }

    /// Moving pixels a cell, 0..=16.
    pub fn mass(&self) -> &[f32] {
        &self.mass
    }

    /// Difference in multiples of the threshold; at least 1 in flagged cells.
    pub fn strength(&self) -> &[f32] {
        &self.strength
    }

    /// Typical noise of a pixel in luma: the mean of the texture.
    pub fn pixel_noise(&self) -> f32 {
        self.texture.iter().sum::<f32>() / self.texture.len().max(1) as f32
    }

    /// Takes a cell for background in this frame.
    pub fn clear(&mut self, cell: usize) {
        self.flagged[cell] = false;
        self.strength[cell] = 0.0;
        self.mass[cell] = 0.0;
    }

    /// How far a cell may change between frames without moving, in luma.
    pub fn tolerance(&self, cell: usize) -> f32 {
        0.5 * FLOOR[0] + 2.0 * self.levels[0].noise[cell]
    }

    /// Judges every cell. `slack` (luma) is added to every threshold while the exposure changes.
    pub fn judge(&mut self, sums: &[CellSum], slack: f32) {
        self.sum_up(sums);
        std::mem::swap(&mut self.flagged, &mut self.was_flagged);
        let base = &self.levels[0];
        for (i, sum) in sums.iter().enumerate() {
            let caution = self.caution[i];
            let limit = caution * FLOOR[0].max(NOISE_FACTOR * base.noise[i]) + slack;
            let signed = sum.signed.abs() / limit;
            let limit = self.texture[i]
                + caution * TEXTURE_FLOOR.max(NOISE_FACTOR * self.texture_noise[i])
                + slack;
            let strength = signed.max(sum.absolute / limit);
            let hit = strength >= 1.0;
            self.flagged[i] = hit;
            self.strength[i] = if hit { strength } else { 0.0 };
            self.mass[i] = if hit { sum.count.max(2.0) } else { 0.0 };
        }
        for l in 1..LEVELS {
            self.judge_level(l, slack);
        }
    }

    /// Learns the noise of this frame's differences at `rate` (0..=1); with `freely` (nothing is known to move) every
    /// difference is noise, otherwise flagged cells learn slowly and outliers are cut.
    pub fn learn(&mut self, sums: &[CellSum], rate: f32, freely: bool) {
        let (outlier, flagged_rate) = if freely {
            (1e6, 1.0)
        } else {
            (OUTLIER, FLAGGED_RATE)
        };
        for (i, sum) in sums.iter().enumerate() {
            let rate = if self.flagged[i] {
                rate * flagged_rate
            } else {
                rate
            };
            let deviation = (sum.absolute - self.texture[i]).abs();
            let cap = outlier * (self.texture_noise[i] + 0.3);
            self.texture_noise[i] += (deviation.min(cap) - self.texture_noise[i]) * rate;
            let towards = sum.absolute.min(self.texture[i] + cap);
            self.texture[i] += (towards - self.texture[i]) * rate;
        }
        for (level, floor) in self.levels.iter_mut().zip(FLOOR) {
            for (mean, noise) in level.mean.iter().zip(&mut level.noise) {
                let seen = mean.abs();
                let busy = seen > floor.max(NOISE_FACTOR * *noise);
                let rate = if busy { rate * flagged_rate } else { rate };
                *noise += (seen.min(outlier * (*noise + 0.3)) - *noise) * rate;
            }
        }
    }

    /// Counts how often cells begin to differ; `dt` in seconds.
    pub fn count_beginnings(&mut self, dt: f32) {
        let decay = (-dt / RESTLESS_SECONDS).exp();
        for r in &mut self.restless {
            *r *= decay;
        }
        let level = &self.levels[RESTLESS_LEVEL];
        for (i, (now, before)) in self.flagged.iter().zip(&self.was_flagged).enumerate() {
            if *now && !*before {
                let (x, y) = (
                    (i % self.cols) >> RESTLESS_LEVEL,
                    (i / self.cols) >> RESTLESS_LEVEL,
                );
                let area = y * level.cols + x;
                self.restless[area] += level.share[area];
            }
        }
        for (y, row) in self.caution.chunks_exact_mut(self.cols).enumerate() {
            let areas = &self.restless[(y >> RESTLESS_LEVEL) * level.cols..][..level.cols];
            for (cells, restless) in row.chunks_mut(1 << RESTLESS_LEVEL).zip(areas) {
                let factor = 1.0 + RESTLESS_GAIN * (restless - RESTLESS_FREE).max(0.0);
                cells.fill(factor.min(RESTLESS_MAX));
            }
        }
    }

    /// Fills the pyramid's means.
    fn sum_up(&mut self, sums: &[CellSum]) {
        for (m, s) in self.levels[0].mean.iter_mut().zip(sums) {
            *m = s.signed;
        }
        // Levels hold sums while they are built, means afterwards.
        for l in 1..LEVELS {
            let (below, here) = self.levels.split_at_mut(l);
            let (below, here) = (&below[l - 1], &mut here[0]);
            here.mean.fill(0.0);
            for r in 0..below.rows {
                let target = &mut here.mean[r / 2 * here.cols..][..here.cols];
                let source = &below.mean[r * below.cols..][..below.cols];
                for (t, s) in target.iter_mut().zip(source.chunks(2)) {
                    *t += s.iter().sum::<f32>();
                }
            }
        }
        for level in &mut self.levels[1..] {
            for (m, s) in level.mean.iter_mut().zip(&level.share) {
                *m *= s;
            }
        }
    }

    /// Marks the cells of this level's areas that differ, where the cell itself leans the same way.
    fn judge_level(&mut self, l: usize, slack: f32) {
        let side = 1 << l;
        let level = &self.levels[l];
        let base = &self.levels[0].mean;
        for i in 0..level.mean.len() {
            let (x0, y0) = (i % level.cols * side, i / level.cols * side);
            let limit = self.caution[y0 * self.cols + x0]
                * FLOOR[l].max(NOISE_FACTOR * level.noise[i])
                + slack;
            let mean = level.mean[i];
            if mean.abs() < limit {
                continue;
            }
            let strength = mean.abs() / limit;
            for y in y0..(y0 + side).min(self.rows) {
                for x in x0..(x0 + side).min(self.cols) {
                    let cell = y * self.cols + x;
                    let lean = base[cell] / mean;
                    if lean >= 0.5 {
                        self.flagged[cell] = true;
                        self.strength[cell] = self.strength[cell].max(strength);
                        self.mass[cell] = self.mass[cell].max(16.0 * lean.min(1.0));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(signed: f32) -> CellSum {
        CellSum {
            signed,
            absolute: signed.abs(),
            count: 0.0,
        }
    }

    /// A picture of 8×8 cells.
    fn judged(cells: &mut Cells, signed: impl Fn(usize) -> f32) -> usize {
        let sums: Vec<CellSum> = (0..64).map(|i| sum(signed(i))).collect();
        cells.judge(&sums, 0.0);
        cells.flagged().iter().filter(|f| **f).count()
    }

    #[test]
    fn a_faint_difference_counts_where_it_is_coherent() {
        let mut cells = Cells::new(8, 8);
        let alternating = |i: usize| {
            if (i + i / 8).is_multiple_of(2) {
                3.2
            } else {
                -3.2
            }
        };
        assert_eq!(judged(&mut cells, alternating), 0);
        assert_eq!(judged(&mut cells, |_| 3.2), 64);
    }

    #[test]
    fn the_threshold_follows_the_noise_of_the_place() {
        let mut cells = Cells::new(8, 8);
        assert_eq!(judged(&mut cells, |_| 12.0), 64);
        let windy = |i: usize| if i < 32 { 12.0 } else { 0.0 };
        let sums: Vec<CellSum> = (0..64).map(|i| sum(windy(i))).collect();
        for _ in 0..40 {
            cells.judge(&sums, 0.0);
            cells.learn(&sums, 0.1, true);
        }
        assert_eq!(judged(&mut cells, windy), 0);
        assert_eq!(judged(&mut cells, |i| 12.0 - windy(i)), 32);
    }

    #[test]
    fn cells_that_keep_beginning_to_differ_get_a_higher_threshold() {
        let mut cells = Cells::new(8, 8);
        for i in 0..20 {
            judged(&mut cells, |_| if i % 2 == 0 { 7.0 } else { 0.0 });
            cells.count_beginnings(0.2);
        }
        assert_eq!(judged(&mut cells, |_| 7.0), 0);
        assert_eq!(judged(&mut cells, |_| 40.0), 64);
    }
}
