//! The stages that are written for whole rows, checked against plain code that says what they mean, pixel by pixel.
//!
//! Here laying, comparing and voting; `reference/` has the others. Those that look into a stage are its own submodules.

mod groups;
mod moments;

use proptest::prelude::*;

use super::GrayFrame;
use super::align::Alignment;
use super::plane::{Layer, Plane};
use super::restless::Restless;
use super::samples::{Rates, SAMPLES, Samples};
use super::vote::{self, Ballot};
use crate::time::Pts;

/// Bytes that look like a picture: flat parts, steps and noise.
pub(super) fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..n)
        .map(|i| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 59) as u8;
            match (i / 7 + seed as usize) % 4 {
                0 => noise,
                1 => 120 + noise,
                2 => 255 - noise,
                _ => (state >> 40) as u8,
            }
        })
        .collect()
}

pub(super) fn plane(w: usize, h: usize, seed: u64, most: u8) -> Plane {
    let mut p = Plane::new(w, h, 0);
    let values = bytes(w * h, seed);
    for y in 0..h {
        for (to, v) in p.line_mut(y).iter_mut().zip(&values[y * w..]) {
            *to = if most == u8::MAX { *v } else { v % (most + 1) };
        }
    }
    p
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laying_a_frame_is_a_weighted_mean_of_its_neighbours(
        (w, h) in (1usize..50, 1usize..20), seed in any::<u64>(),
        (dx, dy) in (-32i32..=32, -32i32..=32), gain in 0.4f32..1.9,
    ) {
        let luma = bytes(w * h, seed);
        let frame = GrayFrame { luma: &luma, width: w, height: h, stride: w, pts: Pts(0) };
        let shift = (dx as f32 / 4.0, dy as f32 / 4.0);
        let mut out = Plane::new(w, h, 0);
        Layer::new(w).lay(&frame, Alignment { shift, gain }, &mut out);
        // A binomial over three pixels, moved by a quarter at a time.
        let kernel = |quarters: i32| -> Vec<(i32, i32)> {
            let (whole, part) = (quarters.div_euclid(4), quarters.rem_euclid(4));
            [(-1, 4 - part), (0, 8 - part), (1, 4 + part), (2, part)].map(|(k, v)| (whole + k, v)).to_vec()
        };
        let factor = (4096.0 / gain).round() as u64;
        for y in 0..h {
            for x in 0..w {
                let mut sum = 0i64;
                for (ky, wy) in kernel(dy) {
                    for (kx, wx) in kernel(dx) {
                        let (sx, sy) = (x as i32 + kx, y as i32 + ky);
                        let (sx, sy) = (sx.clamp(0, w as i32 - 1), sy.clamp(0, h as i32 - 1));
                        sum += i64::from(luma[sy as usize * w + sx as usize]) * i64::from(wx * wy);
                    }
                }
                let expected = ((sum as u64 * factor + (1 << 19)) >> 20).min(255) as u8;
                prop_assert_eq!(out.line(y)[x], expected, "{} {}", x, y);
            }
        }
    }

    #[test]
    fn votes_say_how_far_the_second_nearest_sample_is(w in 1usize..60, seed in any::<u64>(), slack in 0u8..40) {
        let h = 3;
        let mut model = Samples::new(w, h);
        let samples: Vec<Plane> = (0..SAMPLES as u64).map(|k| plane(w, h, seed ^ (k * 77), u8::MAX)).collect();
        model.assign(&samples[0], false);
        for (k, s) in samples.iter().enumerate() {
            model.put(s, k);
        }
        let now = plane(w, h, seed ^ 0xabcd, u8::MAX);
        model.compare(&now, slack);
        for y in 0..h {
            for x in 0..w {
                let v = now.line(y)[x];
                let mut apart: Vec<u8> = samples.iter().map(|s| s.line(y)[x].abs_diff(v)).collect();
                apart.sort_unstable();
                // The former background of a fresh model is what it began with.
                let d = f32::from(apart[1].min(samples[0].line(y)[x].abs_diff(v)));
                // Least threshold 8; three times a noise of 2 is less.
                let limit = f32::from(8 + slack);
                let steps = [limit, limit + (limit / 2.0).floor(), 2.0 * limit, 3.0 * limit];
                let expected = steps.iter().filter(|s| d > s.min(255.0)).count() as u8;
                prop_assert_eq!(model.votes.line(y)[x], expected, "{} {}: {} over {}", x, y, d, limit);
            }
        }
    }

    #[test]
    fn labels_are_sums_over_the_neighbourhood((w, h) in (1usize..60, 1usize..24), seed in any::<u64>()) {
        let votes = plane(w, h, seed, 4);
        let mut labels = Plane::new(w, h, 0);
        Ballot::default().label(&votes, &mut labels);
        let at = |x: i32, y: i32| -> u32 {
            // Rows beyond the edge are like the edge; the padding of a row has no votes here.
            let y = y.clamp(0, h as i32 - 1) as usize;
            usize::try_from(x).ok().and_then(|x| votes.line(y).get(x)).map_or(0, |v| u32::from(*v))
        };
        let sum = |x: i32, y: i32, r: i32, most: u32| -> u32 {
            (-r..=r).flat_map(|j| (-r..=r).map(move |i| (i, j))).map(|(i, j)| at(x + i, y + j).min(most)).sum()
        };
        for y in 0..h {
            for x in 0..w {
                let (near, wide) = (sum(x as i32, y as i32, 2, 4), sum(x as i32, y as i32, 4, 1));
                let own = near > u32::from(vote::NEAR);
                let clear = near > u32::from(vote::WEAK);
                let any = clear || (own && wide > u32::from(vote::WIDE));
                let sure = near > u32::from(vote::SEED) || (own && wide > u32::from(vote::WIDE_SEED));
                let expected = u8::from(any) * vote::ANY + u8::from(clear) * vote::CLEAR + u8::from(any && sure) * vote::SURE;
                prop_assert_eq!(labels.line(y)[x], expected, "{} {}: {} {}", x, y, near, wide);
            }
        }
    }

    #[test]
    fn learning_touches_only_what_is_background(w in 1usize..60, seed in any::<u64>()) {
        let h = 4;
        let mut model = Samples::new(w, h);
        let (old, now) = (plane(w, h, seed, u8::MAX), plane(w, h, seed ^ 99, u8::MAX));
        model.assign(&old, false);
        let mut labels = Plane::new(w, h, 0);
        labels.fill(vote::ANY | vote::CLEAR);
        for _ in 0..20 {
            model.compare(&now, 0);
            model.learn(&now, &labels, Rates { own: 255, neighbour: 255 });
        }
        for y in 0..h {
            prop_assert_eq!(&model.background(y)[super::plane::PAD..][..w], old.line(y));
        }
        labels.fill(0);
        for _ in 0..200 {
            model.learn(&now, &labels, Rates { own: 255, neighbour: 0 });
        }
        model.compare(&now, 0);
        prop_assert!((0..h).all(|y| model.votes.line(y).iter().all(|v| *v == 0)));
    }
}

#[test]
fn what_returns_soon_weighs_less_and_what_passes_once_does_not() {
    let mut restless = Restless::new(32, 32);
    let mut labels = Plane::new(32, 32, 0);
    // The left half flutters every half second, the right half is passed once.
    for i in 0..40 {
        for y in 0..32 {
            labels.line_mut(y)[..16].fill(u8::from(i % 2 == 0));
            labels.line_mut(y)[16..].fill(u8::from((10..14).contains(&i)));
        }
        restless.follow(&labels, 1, 0.25, 1.0);
    }
    assert!(restless.weight(4, 4) < 0.2, "{}", restless.weight(4, 4));
    assert_eq!(restless.weight(20, 20), 1.0);
    assert_eq!(restless.share(), 0.5);
}
