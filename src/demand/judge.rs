//! Tells by key frames alone whether something may have happened: a background of key frames, compared with each new one.
//!
//! A key frame is shrunk to cells of [`CELL`]×[`CELL`] pixels and areas of twice and four times that side; each is compared
//! with its own mean after the change of exposure is taken out (median of the ratios), against a threshold that follows
//! the noise measured at that very place and scale. It answers how large the largest connected change is, in multiples
//! of the smallest object that the sensitivity asks for. It is no detector: it says where to look.
//!
//! Guarantees: key frames only, so that what the encoder does between them is not seen; nothing that differs is taken
//! into the background quickly until [`Judge::settle`] says that the detector has looked at it; any size and content
//! without a panic; no allocation after the first frame of a size but for the list of a search.

use crate::config::{MotionConfig, Zone};
use crate::motion::{GrayFrame, ZoneMask, smallest_object, well_formed};

/// Side of a cell in pixels.
const CELL: usize = 4;
/// Scales: 4, 8, 16 pixels.
const LEVELS: usize = 3;
/// Least difference that counts, in luma, a scale.
const FLOOR: [f32; LEVELS] = [5.0, 3.5, 3.0];
/// Multiples of the measured mean deviation.
const NOISE_FACTOR: [f32; LEVELS] = [4.0, 5.0, 6.0];
/// Share of the smallest object that must have changed.
const ENOUGH: f32 = 0.5;
/// From this multiple of its threshold on a single cell is believed.
const LONELY: f32 = 1.6;
/// Key frames that a start needs.
const WARM_UP: u32 = 4;
/// How fast mean and noise follow, a key frame.
const MEAN_RATE: f32 = 0.15;
const NOISE_RATE: f32 = 0.12;
/// How fast the mean follows where a cell differs.
const DIFFERS_RATE: f32 = 0.02;
/// How fast the noise follows where a difference was no motion.
const MISTAKE_RATE: f32 = 0.15;

/// One scale.
#[derive(Debug, Clone)]
struct Level {
    cols: usize,
    rows: usize,
    now: Vec<f32>,
    mean: Vec<f32>,
    noise: Vec<f32>,
}

/// What is known of one picture size.
#[derive(Debug, Clone)]
struct Scene {
    size: (usize, usize),
    levels: Vec<Level>,
    zones: ZoneMask,
    /// Multiples of the threshold, 0 where nothing differs.
    strength: Vec<f32>,
    seen: u32,
    gain: f32,
}

/// The judge; see the module.
#[derive(Debug, Clone)]
pub struct Judge {
    sensitivity: u8,
    include: Vec<Zone>,
    exclude: Vec<Zone>,
    scene: Option<Scene>,
}

/// What a key frame says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Finding {
    /// Too few key frames have been seen.
    Learning,
    /// Size of the largest change; 1 and above is suspicious.
    Change(f32),
}

impl Judge {
    /// With the camera's zones, and the highest sensitivity of any of them.
    pub fn new(config: &MotionConfig) -> Judge {
        let of_zones = config.include.iter().filter_map(|zone| zone.sensitivity);
        Judge {
            sensitivity: of_zones.fold(config.sensitivity, u8::max),
            include: config.include.clone(),
            exclude: config.exclude.clone(),
            scene: None,
        }
    }

    /// Judges the next key frame and learns from it.
    pub fn observe(&mut self, frame: &GrayFrame<'_>) -> Finding {
        if !well_formed(frame) {
            return Finding::Learning;
        }
        let size = (frame.width, frame.height);
        let scene = match &mut self.scene {
            Some(scene) if scene.size == size => scene,
            scene => scene.insert(Scene::new(size, &self.include, &self.exclude)),
        };
        scene.shrink(frame);
        scene.seen = scene.seen.saturating_add(1);
        if scene.seen == 1 {
            scene.settle(true);
            return Finding::Learning;
        }
        scene.gain = scene.exposure();
        if scene.seen <= WARM_UP {
            scene.learn(1.0 / scene.seen as f32, true);
            return Finding::Learning;
        }
        let least = smallest_object(self.sensitivity) * (size.0 * size.1) as f32 * ENOUGH;
        let change = scene.largest_change() / least.max(1.0);
        scene.learn(1.0, false);
        Finding::Change(change)
    }

    /// The detector has looked: what the newest key frame shows is how it looks here now. Where it `found` nothing, what
    /// differed was noise.
    pub fn settle(&mut self, found: bool) {
        if let Some(scene) = &mut self.scene {
            scene.settle(found);
        }
    }
}

impl Scene {
    fn new(size: (usize, usize), include: &[Zone], exclude: &[Zone]) -> Scene {
        let level = |l: usize| {
            let side = CELL << l;
            let (cols, rows) = (size.0.div_ceil(side), size.1.div_ceil(side));
            let zero = vec![0.0; cols * rows];
            Level {
                cols,
                rows,
                now: zero.clone(),
                mean: zero.clone(),
                noise: zero,
            }
        };
        let levels: Vec<Level> = (0..LEVELS).map(level).collect();
        let grid = (levels[0].cols, levels[0].rows);
        Scene {
            size,
            zones: ZoneMask::new(include, exclude, grid, CELL, size),
            strength: vec![0.0; grid.0 * grid.1],
            levels,
            seen: 0,
            gain: 1.0,
        }
    }

    fn shrink(&mut self, frame: &GrayFrame<'_>) {
        let (cols, rows) = (self.levels[0].cols, self.levels[0].rows);
        for row in 0..rows {
            let y = row * CELL..((row + 1) * CELL).min(frame.height);
            for col in 0..cols {
                let x = col * CELL..((col + 1) * CELL).min(frame.width);
                let mut sum = 0u32;
                for y in y.clone() {
                    let line = &frame.luma[y * frame.stride..][x.clone()];
                    sum += line.iter().map(|v| u32::from(*v)).sum::<u32>();
                }
                let pixels = (x.len() * y.len()).max(1) as f32;
                self.levels[0].now[row * cols + col] = sum as f32 / pixels;
            }
        }
        for l in 1..LEVELS {
            let (below, here) = self.levels.split_at_mut(l);
            let (below, here) = (&below[l - 1], &mut here[0]);
            for row in 0..here.rows {
                let y = 2 * row..(2 * row + 2).min(below.rows);
                for col in 0..here.cols {
                    let x = 2 * col..(2 * col + 2).min(below.cols);
                    let sum: f32 = y
                        .clone()
                        .map(|y| below.now[y * below.cols..][x.clone()].iter().sum::<f32>())
                        .sum();
                    here.now[row * here.cols + col] = sum / (x.len() * y.len()).max(1) as f32;
                }
            }
        }
    }

    /// Median ratio of the picture to its background.
    fn exposure(&self) -> f32 {
        let top = &self.levels[LEVELS - 1];
        let bright = |(n, m): (&f32, &f32)| (*m >= 12.0 && *n <= 245.0).then(|| n / m);
        let mut ratios: Vec<f32> = top.now.iter().zip(&top.mean).filter_map(bright).collect();
        if ratios.len() < 8 {
            return 1.0;
        }
        let middle = ratios.len() / 2;
        let (_, median, _) = ratios.select_nth_unstable_by(middle, f32::total_cmp);
        median.clamp(0.3, 3.0)
    }

    /// Pixels of the largest connected change. A single cell is noise unless it is far above its threshold.
    fn largest_change(&mut self) -> f32 {
        let (cols, rows) = (self.levels[0].cols, self.levels[0].rows);
        for i in 0..self.strength.len() {
            let (x, y) = (i % cols, i / cols);
            let at = |l: usize| (y >> l) * self.levels[l].cols + (x >> l);
            let strength = |l: usize| self.levels[l].strength(at(l), l, self.gain, self.seen);
            self.strength[i] = if self.zones.watched(i) {
                (0..LEVELS).map(strength).fold(0.0, f32::max)
            } else {
                0.0
            };
        }
        let mut largest = 0usize;
        let mut open = Vec::new();
        for start in 0..self.strength.len() {
            let first = self.strength[start];
            if first < 1.0 {
                continue;
            }
            self.strength[start] = 0.0;
            open.push(start);
            let mut cells = 0;
            while let Some(i) = open.pop() {
                cells += 1;
                let (x, y) = (i % cols, i / cols);
                for ny in y.saturating_sub(1)..=(y + 1).min(rows - 1) {
                    for nx in x.saturating_sub(1)..=(x + 1).min(cols - 1) {
                        let n = ny * cols + nx;
                        if std::mem::take(&mut self.strength[n]) >= 1.0 {
                            open.push(n);
                        }
                    }
                }
            }
            if cells > 1 || first >= LONELY {
                largest = largest.max(cells);
            }
        }
        (largest * CELL * CELL) as f32
    }

    fn learn(&mut self, share: f32, freely: bool) {
        let gain = self.gain;
        for (l, level) in self.levels.iter_mut().enumerate() {
            for i in 0..level.now.len() {
                let differs = !freely && level.differs(i, l, gain, self.seen);
                let d = level.now[i] / gain - level.mean[i];
                let (mean_rate, noise_rate) = match (freely, differs) {
                    (true, _) => (share, share),
                    (false, true) => (DIFFERS_RATE, 0.0),
                    (false, false) => (MEAN_RATE, NOISE_RATE),
                };
                level.mean[i] += d * mean_rate;
                level.noise[i] += (d.abs() - level.noise[i]) * noise_rate;
            }
        }
    }

    fn settle(&mut self, found: bool) {
        let first = self.seen <= 1;
        for (l, level) in self.levels.iter_mut().enumerate() {
            for i in 0..level.now.len() {
                let strength = level.strength(i, l, self.gain, self.seen);
                let now = level.now[i] / self.gain;
                if !found && strength >= 1.0 {
                    let d = (now - level.mean[i]).abs();
                    level.noise[i] += (d - level.noise[i]) * MISTAKE_RATE;
                }
                // The rest goes on as it was: a mean of many is better than one picture.
                if first || strength >= 0.5 {
                    level.mean[i] = now;
                }
            }
        }
    }
}

impl Level {
    fn differs(&self, i: usize, l: usize, gain: f32, seen: u32) -> bool {
        self.strength(i, l, gain, seen) >= 1.0
    }

    /// Difference in multiples of the threshold. `seen` key frames stand behind mean and noise: the fewer, the less they
    /// are believed.
    fn strength(&self, i: usize, l: usize, gain: f32, seen: u32) -> f32 {
        let d = (self.now[i] - gain * self.mean[i]).abs();
        let doubt = 1.0 + 3.0 / seen.max(1) as f32;
        d / (FLOOR[l].max(NOISE_FACTOR[l] * self.noise[i] * gain.max(1.0)) * doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Pts;

    const SIZE: (usize, usize) = (320, 180);

    fn luma(noise: u32, n: u32, gain: f32, body: Option<(usize, usize)>) -> Vec<u8> {
        let mut seed = n.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut picture = Vec::with_capacity(SIZE.0 * SIZE.1);
        for y in 0..SIZE.1 {
            for x in 0..SIZE.0 {
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                let dither = (seed % (2 * noise + 1)) as f32 - noise as f32;
                let base = 60.0 + (x / 10 * 7 % 60) as f32 + (y / 9 * 5 % 40) as f32;
                let inside = body.is_some_and(|(bx, by)| {
                    (bx..bx + 8).contains(&x) && (by..by + 12).contains(&y)
                });
                let value = if inside { base + 35.0 } else { base };
                picture.push((value * gain + dither).clamp(0.0, 255.0) as u8);
            }
        }
        picture
    }

    fn change(judge: &mut Judge, luma: &[u8]) -> f32 {
        let frame = GrayFrame {
            luma,
            width: SIZE.0,
            height: SIZE.1,
            stride: SIZE.0,
            pts: Pts(0),
        };
        match judge.observe(&frame) {
            Finding::Change(c) => c,
            Finding::Learning => -1.0,
        }
    }

    fn judge() -> Judge {
        Judge::new(&crate::motion::synthetic::config(5))
    }

    #[test]
    fn noise_and_light_are_no_change_and_a_small_body_is() {
        for noise in [0, 6, 14] {
            let mut judge = judge();
            let mut cries = 0;
            for n in 0..60 {
                let gain = 1.0 + 0.2 * (n as f32 / 9.0).sin();
                if change(&mut judge, &luma(noise, n, gain, None)) >= 1.0 {
                    cries += 1;
                    judge.settle(false);
                }
            }
            assert!(cries <= 10, "noise {noise}: {cries} of 60");
            let found = change(&mut judge, &luma(noise, 99, 1.0, Some((70, 40))));
            assert!(found >= 1.0, "noise {noise}: {found}");
        }
    }

    #[test]
    fn what_stays_is_suspicious_until_it_is_settled() {
        let mut judge = judge();
        for n in 0..10 {
            change(&mut judge, &luma(2, n, 1.0, None));
        }
        for n in 10..15 {
            assert!(change(&mut judge, &luma(2, n, 1.0, Some((70, 40)))) >= 1.0);
        }
        judge.settle(true);
        assert!(change(&mut judge, &luma(2, 20, 1.0, Some((70, 40)))) < 1.0);
        assert!(
            change(&mut judge, &luma(2, 21, 1.0, None)) >= 1.0,
            "and when it leaves"
        );
    }

    #[test]
    fn a_new_size_is_learned_anew() {
        let mut judge = judge();
        for n in 0..9 {
            change(&mut judge, &luma(2, n, 1.0, None));
        }
        let small = vec![90u8; 7 * 5];
        let frame = GrayFrame {
            luma: &small,
            width: 7,
            height: 5,
            stride: 7,
            pts: Pts(0),
        };
        assert_eq!(judge.observe(&frame), Finding::Learning);
    }
}
