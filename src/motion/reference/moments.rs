//! Stillness and restlessness, plainly: what one pixel remembers, and what its area counts.

use proptest::prelude::*;

use super::{bytes, plane};
use crate::motion::plane::Plane;
use crate::motion::restless::Restless;
use crate::motion::stillness::Stillness;

/// Labels of which about half are background.
fn labels(w: usize, h: usize, seed: u64) -> Plane {
    let mut p = plane(w, h, seed, u8::MAX);
    for y in 0..h {
        for v in p.line_mut(y) {
            *v = if *v & 8 == 0 { 0 } else { *v & 7 };
        }
    }
    p
}

/// The picture with up to 24 luma of change.
fn disturbed(of: &Plane, seed: u64) -> Plane {
    let (w, h) = of.size();
    let mut p = of.clone();
    let change = bytes(w * h, seed);
    for y in 0..h {
        for (v, c) in p.line_mut(y).iter_mut().zip(&change[y * w..]) {
            *v = v.saturating_add(c % 25);
        }
    }
    p
}

/// What stillness knows of a pixel.
#[derive(Clone, Copy, Default)]
struct Rest {
    settled: u8,
    quarters: u32,
    lively: bool,
}

impl Rest {
    fn see(&mut self, now: u8, label: u8, passed: u32) {
        let moved = now.abs_diff(self.settled) > 12;
        let differs = label != 0;
        self.lively = differs && moved;
        if differs && !moved {
            self.quarters = (self.quarters + passed).min(255);
        } else {
            (self.quarters, self.settled) = (0, now);
        }
    }
}

/// Whether a pixel differs, or since how many quarters of a second it has not.
#[derive(Clone, Copy)]
enum Pixel {
    Differs,
    Calm(u32),
}

impl Pixel {
    /// The next label; true where the pixel has come back within two seconds.
    fn see(&mut self, label: u8, passed: u32) -> bool {
        match (label != 0, *self) {
            (true, before) => {
                *self = Pixel::Differs;
                matches!(before, Pixel::Calm(1..=8))
            }
            // Never 0, so that the end of a difference is remembered within one tick, too.
            (false, Pixel::Differs) => {
                *self = Pixel::Calm(passed.max(1));
                false
            }
            (false, Pixel::Calm(n)) => {
                *self = Pixel::Calm((n + passed).min(255));
                false
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pixel_rests_while_it_differs_and_does_not_change(
        (w, h) in (1usize..60, 1usize..20), seed in any::<u64>(),
        steps in prop::collection::vec(0.01f32..3.0, 1..24),
    ) {
        let base = plane(w, h, seed, u8::MAX);
        let mut fast = Stillness::new(w, h);
        fast.begin(&base);
        let first = |i: usize| Rest { settled: base.line(i / w)[i % w], ..Rest::default() };
        let mut plain: Vec<Rest> = (0..w * h).map(first).collect();
        let mut clock = 0.0f32;
        for (n, dt) in steps.into_iter().enumerate() {
            let now = disturbed(&base, seed ^ (n as u64 * 31));
            let label = labels(w, h, seed ^ (n as u64 / 3 * 1013));
            clock += dt * 4.0;
            let passed = clock.floor();
            clock -= passed;
            prop_assert_eq!(fast.follow(&now, &label, dt), passed as u8);
            for (i, p) in plain.iter_mut().enumerate() {
                let (x, y) = (i % w, i / w);
                p.see(now.line(y)[x], label.line(y)[x], passed as u32);
                prop_assert_eq!(fast.lively().line(y)[x], u8::from(p.lively), "{} {} of {}", x, y, n);
                prop_assert_eq!(fast.seconds(y, x), p.quarters as f32 / 4.0, "{} {} of {}", x, y, n);
            }
        }
    }

    #[test]
    fn an_area_counts_the_pixels_that_come_back_within_two_seconds(
        (w, h) in (1usize..70, 1usize..40), seed in any::<u64>(),
        steps in prop::collection::vec((0u8..12, 0.01f32..3.0, 1u8..4), 1..24),
    ) {
        let mut fast = Restless::new(w, h);
        let mut plain = vec![Pixel::Calm(255); w * h];
        let (cols, rows) = (w.div_ceil(16), h.div_ceil(16));
        let mut returns = vec![0.0f32; cols * rows];
        for (n, (passed, dt, times)) in steps.into_iter().enumerate() {
            let label = labels(w, h, seed ^ (n as u64 * 77));
            fast.follow(&label, passed, dt, f32::from(times));
            let mut counts = vec![0u32; cols * rows];
            for (i, p) in plain.iter_mut().enumerate() {
                let (x, y) = (i % w, i / w);
                counts[y / 16 * cols + x / 16] += u32::from(p.see(label.line(y)[x], passed.into()));
            }
            for (r, n) in returns.iter_mut().zip(counts) {
                *r = *r * (-dt / 20.0).exp() + n as f32 * f32::from(times) / 256.0;
            }
            for y in 0..h {
                for x in 0..w {
                    let over = (returns[y / 16 * cols + x / 16] - 0.25).max(0.0);
                    let expected = 1.0 / (1.0 + 4.0 * over).min(12.0);
                    prop_assert_eq!(fast.weight(x, y), expected, "{} {} of {}", x, y, n);
                }
            }
            let restless = returns.iter().filter(|r| **r > 0.25).count() as f32;
            prop_assert_eq!(fast.share(), restless / returns.len() as f32);
        }
    }
}
