//! The aligner, plainly: pictures that are asked pixel by pixel, each sum where it belongs. Rounding is the same, so that
//! the answers are the same to the last bit, frame after frame.

use proptest::prelude::*;

use super::super::synthetic::{Body, Wall, pts};
use super::*;

/// A picture of whole numbers.
#[derive(Clone)]
struct Field {
    w: usize,
    h: usize,
    v: Vec<i64>,
}

impl Field {
    fn new(w: usize, h: usize, value: impl Fn(usize, usize) -> i64) -> Field {
        let v = (0..w * h).map(|i| value(i % w, i / w)).collect();
        Field { w, h, v }
    }

    fn at(&self, x: isize, y: isize) -> i64 {
        assert!(x >= 0 && y >= 0 && x < self.w as isize && y < self.h as isize);
        self.v[y as usize * self.w + x as usize]
    }

    /// Rounded down.
    fn quarter(&self) -> Field {
        let at = |x: usize, y: usize| self.v[y * self.w + x];
        Field::new(self.w / 2, self.h / 2, |x, y| {
            (at(2 * x, 2 * y)
                + at(2 * x + 1, 2 * y)
                + at(2 * x, 2 * y + 1)
                + at(2 * x + 1, 2 * y + 1))
                / 4
        })
    }
}

/// Reference and frame at one scale.
struct Pair {
    reference: Field,
    now: Field,
    tile: usize,
}

const LIMIT: f32 = 4.0;

fn middle(mut v: Vec<f32>) -> f32 {
    v.sort_by(f32::total_cmp);
    (v[(v.len() - 1) / 2] + v[v.len() / 2]) / 2.0
}

/// Solves the 2×2 system; the gradients are twice as large.
fn step(s: [f32; 5]) -> (f32, f32) {
    let [xx, xy, yy, xe, ye] = s;
    let det = xx * yy - xy * xy;
    (
        -(yy * xe - xy * ye) / det * 2.0,
        -(xx * ye - xy * xe) / det * 2.0,
    )
}

impl Pair {
    fn usable(&self) -> bool {
        self.now.w >= 3 * self.tile + 10 && self.now.h >= 2 * self.tile + 10
    }

    /// Covariances of the gradients with each other and with the difference, of one tile.
    fn tile(&self, left: isize, top: isize, by: (isize, isize)) -> [f32; 5] {
        let (mut gx, mut gy, mut e) = (Vec::new(), Vec::new(), Vec::new());
        for y in top..top + self.tile as isize {
            for x in left..left + self.tile as isize {
                let r = |dx, dy| self.reference.at(x + dx, y + dy);
                gx.push(r(1, 0) - r(-1, 0));
                gy.push(r(0, 1) - r(0, -1));
                e.push((self.now.at(x + by.0, y + by.1) - r(0, 0)).clamp(-250, 250));
            }
        }
        let n = (self.tile * self.tile) as f32;
        let sum = |v: &[i64]| v.iter().sum::<i64>() as f32;
        let product =
            |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>() as f32;
        let of = |a: &[i64], b: &[i64]| product(a, b) - sum(a) * sum(b) / n;
        [
            of(&gx, &gx),
            of(&gx, &gy),
            of(&gy, &gy),
            of(&gx, &e),
            of(&gy, &e),
        ]
    }

    /// What is left of the shift after `by`, as the tiles that agree with the median see it.
    fn left(&self, by: (isize, isize)) -> Option<(f32, f32)> {
        let n = (self.tile * self.tile) as f32;
        let mut tiles = Vec::new();
        let mut top = 5;
        while top + self.tile + 5 <= self.now.h {
            let mut left = 5;
            while left + self.tile + 5 <= self.now.w {
                let s = self.tile(left as isize, top as isize, by);
                // Texture in both directions.
                if s[0] * s[2] - s[1] * s[1] > (s[0] + s[2]) * n * 64.0 * 2.0 {
                    tiles.push(s);
                }
                left += self.tile;
            }
            top += self.tile;
        }
        if tiles.len() < 4 {
            return None;
        }
        let own: Vec<(f32, f32)> = tiles.iter().map(|s| step(*s)).collect();
        let typical = (
            middle(own.iter().map(|o| o.0).collect()),
            middle(own.iter().map(|o| o.1).collect()),
        );
        let agrees =
            |o: &(f32, f32)| (o.0 - typical.0).abs() < 0.75 && (o.1 - typical.1).abs() < 0.75;
        let voters: Vec<[f32; 5]> = tiles
            .into_iter()
            .zip(&own)
            .filter(|(_, o)| agrees(o))
            .map(|(s, _)| s)
            .collect();
        let all = std::array::from_fn(|k| voters.iter().fold(0.0, |sum, s| sum + s[k]));
        let found = if voters.len() >= 3 {
            step(all)
        } else {
            typical
        };
        Some((found.0.clamp(-2.0, 2.0), found.1.clamp(-2.0, 2.0)))
    }

    /// Three steps at most, each from the whole pixel nearest to the last answer.
    fn search(&self, from: (f32, f32)) -> (f32, f32) {
        let bound = |v: f32| v.clamp(-LIMIT, LIMIT);
        let mut found = (bound(from.0), bound(from.1));
        let mut base = (found.0.round(), found.1.round());
        for _ in 0..3 {
            let Some(d) = self.left((base.0 as isize, base.1 as isize)) else {
                return (bound(from.0), bound(from.1));
            };
            found = (bound(base.0 + d.0), bound(base.1 + d.1));
            let next = (found.0.round(), found.1.round());
            if next == base {
                break;
            }
            base = next;
        }
        found
    }

    fn residual(&self, by: (isize, isize)) -> f32 {
        let (mut sum, mut n) = (0, 0);
        for y in (5..self.now.h as isize - 5).step_by(2) {
            for x in 5..self.now.w as isize - 5 {
                sum += (self.now.at(x + by.0, y + by.1) - self.reference.at(x, y))
                    .abs()
                    .min(80);
                n += 1;
            }
        }
        sum as f32 / n.max(1) as f32
    }
}

/// The whole aligner.
struct Plain {
    learned: Field,
    now: Field,
    shift: (f32, f32),
    gain: f32,
    shaken: u32,
    waited: f32,
}

impl Plain {
    fn load(&mut self, frame: &GrayFrame<'_>) {
        let at = |x: usize, y: usize| i64::from(frame.luma[y * frame.stride + x]);
        self.now = Field::new(frame.width / 2, frame.height / 2, |x, y| {
            at(2 * x, 2 * y)
                + at(2 * x + 1, 2 * y)
                + at(2 * x, 2 * y + 1)
                + at(2 * x + 1, 2 * y + 1)
        });
    }

    fn assign(&mut self) {
        self.learned = Field::new(self.now.w, self.now.h, |x, y| {
            16 * self.now.v[y * self.now.w + x]
        });
        (self.shift, self.gain) = ((0.0, 0.0), 1.0);
    }

    fn follow(&mut self) -> f32 {
        let exposure = (self.gain * 4096.0) as i64;
        let brightened = |x: usize, y: usize| (self.learned.v[y * self.now.w + x] * exposure) >> 16;
        let half = Pair {
            reference: Field::new(self.now.w, self.now.h, brightened),
            now: self.now.clone(),
            tile: 16,
        };
        let quarter = Pair {
            reference: half.reference.quarter(),
            now: half.now.quarter(),
            tile: 10,
        };
        let mut by = (0isize, 0isize);
        self.shift = (0.0, 0.0);
        if half.usable() && quarter.usable() {
            let coarse = quarter.search((0.0, 0.0));
            if coarse.0.abs() > 0.12 || coarse.1.abs() > 0.12 {
                self.shaken = 12;
            }
            if self.shaken > 0 {
                self.shaken -= 1;
                let fine = half.search((2.0 * coarse.0, 2.0 * coarse.1));
                let whole = (fine.0.round() as isize, fine.1.round() as isize);
                if whole == (0, 0) || half.residual(whole) <= 0.95 * half.residual((0, 0)) {
                    by = whole;
                    self.shift = (2.0 * fine.0, 2.0 * fine.1);
                }
            }
        }
        let margin = if half.usable() { 5 } else { 0 };
        self.follow_gain(by, margin)
    }

    /// The ratio that most blocks of 4×1 agree on, within three per cent.
    fn follow_gain(&mut self, by: (isize, isize), margin: isize) -> f32 {
        let (w, h) = (self.now.w as isize, self.now.h as isize);
        let mut bins = Vec::new();
        for y in (margin..h - margin).step_by(2) {
            for block in 0..(w - 2 * margin) / 4 {
                let columns = (0..4).map(|k| margin + 4 * block + k);
                let luma: i64 = columns
                    .clone()
                    .map(|x| self.now.at(x + by.0, y + by.1))
                    .sum();
                let base: i64 = columns.map(|x| self.learned.at(x, y)).sum();
                // Neither black nor burnt out.
                if base >= 8 * 4 * 64 && luma <= 16 * 245 {
                    bins.push(((luma as f32 * 4096.0 / base as f32) as usize).min(511));
                }
            }
        }
        if bins.len() < 32 {
            return 0.0;
        }
        let near = |gain: f32| -> Vec<usize> {
            let (from, to) = (gain * 0.97 * 256.0, gain * 1.03 * 256.0);
            let within = (from as usize).min(511)..=(to as usize).min(511);
            bins.iter()
                .copied()
                .filter(|b| within.contains(b))
                .collect()
        };
        let centre = |gain: f32| {
            let near = near(gain);
            let sum = near.iter().fold(0.0, |sum, b| sum + (*b as f32 + 0.5));
            if near.is_empty() {
                gain
            } else {
                sum / near.len() as f32 / 256.0
            }
        };
        let old = self.gain;
        let mut best = 0.0;
        for bin in (0..512).step_by(2) {
            let gain = bin as f32 / 256.0;
            if near(gain).len() >= near(best).len() {
                best = gain;
            }
        }
        let jumps = near(best).len() as f32 > 1.25 * near(old).len() as f32;
        let new = if jumps {
            centre(best)
        } else {
            old + (centre(old) - old) * 0.25
        };
        self.gain = new.clamp(0.4, 1.9);
        self.gain / old - 1.0
    }

    fn rebase(&mut self) -> Option<f32> {
        let gain = self.gain;
        if (0.65..=1.5).contains(&gain) {
            return None;
        }
        for r in &mut self.learned.v {
            *r = (*r as f32 * gain).min(16_320.0) as i64;
        }
        self.gain = 1.0;
        Some(gain)
    }

    fn learn(&mut self, dt: f32, age: u32) {
        self.waited += dt;
        if self.waited < 0.19 && age > 30 {
            return;
        }
        let rate = (self.waited / 4.0).max(1.0 / (1 + age) as f32).min(0.5);
        self.waited = 0.0;
        let (dx, dy) = (
            (self.shift.0 / 2.0).round() as isize,
            (self.shift.1 / 2.0).round() as isize,
        );
        let gain = (16384.0 / self.gain) as i64;
        let rate = (rate * 32768.0) as i64;
        let (w, h) = (self.now.w as isize, self.now.h as isize);
        for y in 0..h {
            for x in 0..w {
                let (sx, sy) = (x + dx, y + dy);
                if sx >= 0 && sy >= 0 && sx < w && sy < h {
                    let level = ((self.now.at(sx, sy) * 4 * gain) >> 12).min(16_320);
                    let r = &mut self.learned.v[(y * w + x) as usize];
                    *r += ((level - *r).clamp(-2048, 2048) * 2 * rate) >> 16;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shift_exposure_and_reference_are_the_plain_ones_frame_after_frame(
        (w, h) in prop_oneof![1 => (2usize..60, 2usize..60), 4 => (160usize..200, 120usize..140)],
        sigma in 0.0f32..6.0, contrast in -90.0f32..90.0,
        frames in prop::collection::vec(
            ((-9.0f32..9.0, -9.0f32..9.0), prop_oneof![4 => Just(1.0f32), 1 => 0.3f32..2.2], 0.02f32..0.6, 0u32..60),
            2..10,
        ),
    ) {
        let mut wall = Wall::new(w, h, sigma);
        let mut fast = Aligner::new(w, h);
        let empty = Field::new(0, 0, |_, _| 0);
        let mut plain = Plain { learned: empty.clone(), now: empty, shift: (0.0, 0.0), gain: 1.0, shaken: 0, waited: 0.0 };
        for (n, (shift, gain, dt, age)) in frames.into_iter().enumerate() {
            // Most frames as the one before, some far away.
            wall.shift = if n % 3 == 0 { (0.0, 0.0) } else { shift };
            wall.gain = gain;
            let body = Body { x: n as f32 * 9.0, y: 30.0, w: 24.0, h: 40.0, contrast };
            let frame = wall.frame(&[body], pts(n as f32));
            fast.load(&frame);
            plain.load(&frame);
            if n == 0 {
                fast.assign();
                plain.assign();
                continue;
            }
            prop_assert_eq!(fast.follow().to_bits(), plain.follow().to_bits(), "change of frame {}", n);
            prop_assert_eq!((fast.state.shift, fast.state.gain), (plain.shift, plain.gain), "frame {}", n);
            prop_assert_eq!(fast.rebase(), plain.rebase());
            fast.learn(dt, age);
            plain.learn(dt, age);
            let learned: Vec<i64> = fast.learned.iter().map(|v| i64::from(*v)).collect();
            prop_assert_eq!(learned, plain.learned.v.clone(), "reference after frame {}", n);
        }
    }

    #[test]
    fn a_level_is_solved_and_weighed_as_the_plain_one(
        (w, h) in (58usize..110, 42usize..70), tile in prop_oneof![Just(10usize), Just(16usize)],
        sigma in 0.0f32..12.0, (sx, sy) in (-6.0f32..6.0, -6.0f32..6.0), (bx, by) in (-4isize..=4, -4isize..=4),
        contrast in -160.0f32..160.0,
    ) {
        let mut wall = Wall::new(w, h, sigma);
        let mut level = Level::new(w, h, tile);
        let mut picture = |shift, contrast| -> Vec<i16> {
            wall.shift = shift;
            let body = Body { x: 20.0, y: 10.0, w: 30.0, h: 25.0, contrast };
            wall.frame(&[body], pts(0.0)).luma.iter().map(|v| i16::from(*v) * 4).collect()
        };
        (level.reference, level.now) = (picture((0.0, 0.0), 0.0), picture((sx, sy), contrast));
        let field = |v: &[i16]| Field { w, h, v: v.iter().map(|v| i64::from(*v)).collect() };
        let plain = Pair { reference: field(&level.reference), now: field(&level.now), tile };
        let by = (bx, by);
        prop_assert_eq!(level.residual(by), plain.residual(by));
        let (mut tiles, mut sorted) = (Vec::new(), Vec::new());
        prop_assert_eq!(level.solve(by, &mut tiles, &mut sorted), plain.left(by));
        prop_assert_eq!(level.search((sx, sy), &mut tiles, &mut sorted), plain.search((sx, sy)));
    }
}
