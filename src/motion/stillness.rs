//! How long what differs from the background has not changed.

use super::plane::Plane;

/// Change in luma that is movement.
const TOLERANCE: u8 = 12;
/// Stillness is counted in quarters of a second, up to a minute.
const TICKS: f32 = 4.0;

/// Stillness of every pixel.
#[derive(Debug, Clone)]
pub struct Stillness {
    /// What each pixel looked like when it last changed.
    settled: Plane,
    ticks: Plane,
    lively: Plane,
    clock: f32,
}

impl Stillness {
    /// Nothing is known.
    pub fn new(width: usize, height: usize) -> Stillness {
        let plane = || Plane::new(width, height, 0);
        Stillness {
            settled: plane(),
            ticks: plane(),
            lively: plane(),
            clock: 0.0,
        }
    }

    /// Forgets everything.
    pub fn begin(&mut self, picture: &Plane) {
        self.settled.clone_from(picture);
        self.ticks.fill(0);
    }

    /// 1 where a labelled pixel changed in the latest frame.
    pub fn lively(&self) -> &Plane {
        &self.lively
    }

    /// For how long the pixel has differed from the background without changing.
    pub fn seconds(&self, y: usize, x: usize) -> f32 {
        f32::from(self.ticks.line(y)[x]) / TICKS
    }

    /// Looks at the next picture, `dt` seconds later; answers the quarters of a second that have passed.
    pub fn follow(&mut self, picture: &Plane, labels: &Plane, dt: f32) -> u8 {
        self.clock += dt * TICKS;
        let ticks = self.clock.floor();
        self.clock -= ticks;
        for y in 0..picture.size().1 {
            let rows = (
                self.settled.row_mut(y),
                self.ticks.row_mut(y),
                self.lively.row_mut(y),
            );
            follow_row(picture.row(y), labels.row(y), ticks as u8, rows);
        }
        ticks as u8
    }
}

fn follow_row(
    now: &[u8],
    label: &[u8],
    passed: u8,
    (settled, ticks, lively): (&mut [u8], &mut [u8], &mut [u8]),
) {
    let n = now.len();
    let (label, settled, ticks, lively) = (
        &label[..n],
        &mut settled[..n],
        &mut ticks[..n],
        &mut lively[..n],
    );
    for i in 0..n {
        let differs = u8::from(label[i] != 0);
        let moved = u8::from(now[i].abs_diff(settled[i]) > TOLERANCE);
        let rests = (differs & !moved & 1).wrapping_neg();
        lively[i] = moved & differs;
        ticks[i] = ticks[i].saturating_add(passed) & rests;
        settled[i] = now[i] ^ ((now[i] ^ settled[i]) & rests);
    }
}
