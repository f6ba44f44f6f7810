//! The background model, plainly: what each pixel keeps, and what learning does to it.

use proptest::prelude::*;

use super::super::plane::PAD;
use super::super::reference::{bytes, plane};
use super::*;

/// One pixel's memory.
#[derive(Debug, Clone, PartialEq)]
struct Pixel {
    samples: [u8; SAMPLES],
    former: u8,
    noise: u8,
    flicker: u8,
    distance: u8,
    votes: u8,
    before: u8,
}

impl Pixel {
    fn compare(&mut self, now: u8, slack: u8) {
        self.before = self.votes;
        let mut apart = self.samples.map(|s| s.abs_diff(now));
        apart.sort_unstable();
        self.distance = apart[1].min(self.former.abs_diff(now));
        // Three times the noise (kept in eighths, each half rounded down), then what its flicker adds.
        let least = (8 + u32::from(slack)).min(255);
        let noise = u32::from(self.noise / 4) + u32::from(self.noise / 8);
        let limit = (least.max(noise.min(255)) + u32::from(self.flicker / 8)).min(255);
        let steps = [limit, limit + limit / 2, 2 * limit, 3 * limit];
        let over = |s: &&u32| u32::from(self.distance) > (**s).min(255);
        self.votes = steps.iter().filter(over).count() as u8;
    }

    /// The running median of the distance, and how often it changes sides.
    fn learn(&mut self, label: u8) {
        let background = label & 2 == 0;
        if background {
            let d = self.distance.min(31) * 8;
            match d.cmp(&self.noise) {
                std::cmp::Ordering::Greater => self.noise += 1,
                std::cmp::Ordering::Less => self.noise -= 1,
                std::cmp::Ordering::Equal => {}
            }
        }
        self.flicker = self.flicker.saturating_sub(1);
        if background && (self.votes == 0) != (self.before == 0) {
            self.flicker = self.flicker.saturating_add(16);
        }
    }
}

/// What the fast model keeps of a pixel, its padding included.
fn pixel(model: &Samples, i: usize, y: usize) -> Pixel {
    Pixel {
        samples: std::array::from_fn(|k| model.samples[(y * SAMPLES + k) * model.stride + i]),
        former: model.former.row(y)[i],
        noise: model.noise.row(y)[i],
        flicker: model.flicker.row(y)[i],
        distance: model.distance.row(y)[i],
        votes: model.votes.row(y)[i],
        before: model.before.row(y)[i],
    }
}

/// The picture, as noisy as some cameras at night.
fn noisy(of: &Plane, seed: u64, most: u8) -> Plane {
    let (w, h) = of.size();
    let mut p = of.clone();
    let noise = bytes(w * h, seed);
    for y in 0..h {
        for (v, n) in p.line_mut(y).iter_mut().zip(&noise[y * w..]) {
            *v = v.saturating_add(n % (most + 1));
        }
    }
    p
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn thresholds_follow_noise_and_flicker_and_samples_their_neighbours(
        (w, h) in (1usize..40, 1usize..8), seed in any::<u64>(), most in 0u8..60,
        frames in prop::collection::vec((any::<u8>(), any::<u8>(), 0u8..30, 0u8..4), 1..24),
    ) {
        let base = plane(w, h, seed, 180);
        let mut model = Samples::new(w, h);
        model.assign(&base, false);
        let stride = model.stride;
        let mut plain: Vec<Pixel> = (0..stride * h).map(|i| pixel(&model, i % stride, i / stride)).collect();
        for (n, (own, neighbour, slack, what)) in frames.into_iter().enumerate() {
            let now = noisy(&base, seed ^ (n as u64 * 97), most);
            let labels = plane(w, h, seed ^ (n as u64 * 13), 3);
            model.compare(&now, slack);
            for (i, p) in plain.iter_mut().enumerate() {
                p.compare(now.row(i / stride)[i % stride], slack);
            }
            // Which sample, which neighbour and which random bytes a row takes is the model's own dice.
            let mut dice = model.state;
            let random = model.random.clone();
            model.learn(&now, &labels, Rates { own, neighbour });
            for y in 0..h {
                let r = step(&mut dice);
                let pick = |shift: u32, n: usize| (((r >> shift) as usize & 0xffff) * n) >> 16;
                let (k, other) = (pick(0, SAMPLES), pick(16, SAMPLES));
                let from = pick(32, random.len() - 2 * stride);
                let aside = (r >> 50) as usize % 3;
                let row = (y + (r >> 54) as usize % 3).saturating_sub(1).min(h - 1);
                let background = |i: usize| labels.row(y)[i] & 2 == 0;
                for i in 0..stride {
                    if background(i) && random[from + i] < own {
                        plain[y * stride + i].samples[k] = now.row(y)[i];
                    }
                }
                for i in 1..stride - 1 {
                    // Left of it, itself or right of it.
                    let source = i - 1 + aside;
                    if background(source) && random[from + stride + i - 1] < neighbour {
                        plain[row * stride + i].samples[other] = now.row(y)[source];
                    }
                }
                for i in 0..stride {
                    plain[y * stride + i].learn(labels.row(y)[i]);
                }
            }
            match what {
                0 => {
                    let (y, from) = (n % h, n % w);
                    model.absorb(&now, y, from, w);
                    for x in from..w {
                        let p = &mut plain[y * stride + PAD + x];
                        (p.former, p.samples) = (p.samples[0], [now.line(y)[x]; SAMPLES]);
                    }
                }
                1 => {
                    let gain = 0.5 + f32::from(own) / 128.0;
                    model.scale(gain);
                    let brighter = |v: u8| (f32::from(v) * gain).round().min(255.0) as u8;
                    for p in &mut plain {
                        (p.former, p.samples) = (brighter(p.former), p.samples.map(brighter));
                    }
                }
                2 if n % 5 == 0 => {
                    model.assign(&now, true);
                    for (i, p) in plain.iter_mut().enumerate() {
                        let v = now.row(i / stride)[i % stride];
                        (p.former, p.samples, p.flicker) = (p.samples[0], [v; SAMPLES], 0);
                    }
                }
                _ => {}
            }
            for (i, p) in plain.iter().enumerate() {
                prop_assert_eq!(&pixel(&model, i % stride, i / stride), p, "{} of row {}, frame {}", i % stride, i / stride, n);
            }
        }
    }

    #[test]
    fn what_lies_outside_of_a_shifted_frame_has_no_votes(
        (w, h) in (1usize..40, 1usize..20), seed in any::<u64>(), (dx, dy) in (-32i32..=32, -32i32..=32),
    ) {
        let mut model = Samples::new(w, h);
        model.votes = plane(w, h, seed, 4);
        let before = model.votes.clone();
        let (dx, dy) = (dx as f32 / 4.0, dy as f32 / 4.0);
        model.blank((dx, dy));
        for y in 0..h {
            for x in 0..w {
                let (sx, sy) = (x as f32 + dx, y as f32 + dy);
                let inside = sx >= 0.0 && sx <= (w - 1) as f32 && sy >= 0.0 && sy <= (h - 1) as f32;
                let expected = if inside { before.line(y)[x] } else { 0 };
                prop_assert_eq!(model.votes.line(y)[x], expected, "{} {}", x, y);
            }
        }
    }
}
