//! Registration: how far the camera was shaken and how much the exposure changed, against a slowly learned small picture.
//!
//! Works at half and quarter size. The shift is solved by least squares on gradients (Lucas & Kanade, "An iterative image
//! registration technique", 1981) tile by tile; tiles that do not agree with the median are things that move and do not
//! vote. A shift counts only when it explains the frame clearly better than none. The gain is the ratio of frame to
//! reference that most of the picture agrees on.

use super::GrayFrame;

/// Exposure gains that are compensated.
const GAIN: (f32, f32) = (0.4, 1.9);
/// Pixels at the border of a level that are not looked at: the reach, rounded up, and one for the gradient.
const MARGIN: usize = 5;

/// Gains that are only compensated; beyond them the model takes the new exposure over.
const REBASE: (f32, f32) = (0.65, 1.5);
/// The reference follows with this time constant, so often, and at once while fewer frames were seen.
const LEARN_SECONDS: f32 = 4.0;
const LEARN_EVERY: f32 = 0.19;
const YOUNG: u32 = 30;
/// A shift at quarter size below which the camera stands still, and the frames that the fine search goes on after one.
const STANDS: f32 = 0.12;
const SHAKEN: u8 = 12;

/// What the frame must undergo to lie over the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// Pixels of the frame: what the reference shows at `p`, the frame shows at `p + shift`.
    pub shift: (f32, f32),
    /// Exposure of the frame against the reference.
    pub gain: f32,
}

impl Alignment {
    const NONE: Alignment = Alignment {
        shift: (0.0, 0.0),
        gain: 1.0,
    };
}

/// One scale: luma × 4 in both pictures.
#[derive(Debug, Clone)]
struct Level {
    width: usize,
    height: usize,
    tile: usize,
    reference: Vec<i16>,
    now: Vec<i16>,
}

/// Normal equations of a tile.
#[derive(Debug, Clone, Copy, Default)]
struct Tile {
    a: [f32; 5],
    own: (f32, f32),
}

/// The reference picture and its buffers.
#[derive(Debug, Clone)]
pub struct Aligner {
    half: Level,
    quarter: Level,
    /// Luma × 64 at half size.
    learned: Vec<i16>,
    line: Vec<i16>,
    /// Frames for which the fine search is not left out, and seconds since the reference was moved.
    shaken: u8,
    waited: f32,
    tiles: Vec<Tile>,
    sorted: Vec<f32>,
    pub state: Alignment,
}

impl Level {
    fn new(width: usize, height: usize, tile: usize) -> Level {
        let n = width * height;
        Level {
            width,
            height,
            tile,
            reference: vec![0; n],
            now: vec![0; n],
        }
    }

    /// Whether there is something to look at inside of the margins.
    fn usable(&self) -> bool {
        self.width >= 3 * self.tile + 2 * MARGIN && self.height >= 2 * self.tile + 2 * MARGIN
    }

    /// Mean |difference| (luma × 4, each cut at 80) when the frame is read `by` pixels further; every second row.
    fn residual(&self, by: (isize, isize)) -> f32 {
        let (mut sum, mut n) = (0u32, 0u32);
        let m = MARGIN;
        for y in (m..self.height - m).step_by(2) {
            let (r, c) = self.rows(y, m, self.width - 2 * m, by);
            for (r, c) in r.iter().zip(c) {
                sum += u32::from((c - r).unsigned_abs().min(80));
            }
            n += r.len() as u32;
        }
        sum as f32 / n.max(1) as f32
    }

    fn rows(&self, y: usize, x: usize, n: usize, by: (isize, isize)) -> (&[i16], &[i16]) {
        let at = (y as isize + by.1) as usize * self.width + (x as isize + by.0) as usize;
        (
            &self.reference[y * self.width + x..][..n],
            &self.now[at..][..n],
        )
    }

    /// The shift that is left after reading the frame `by` pixels further.
    fn solve(
        &self,
        by: (isize, isize),
        tiles: &mut Vec<Tile>,
        sorted: &mut Vec<f32>,
    ) -> Option<(f32, f32)> {
        let (w, t) = (self.width, self.tile);
        tiles.clear();
        for ty in (MARGIN..=self.height.saturating_sub(MARGIN + t)).step_by(t) {
            for tx in (MARGIN..=w.saturating_sub(MARGIN + t)).step_by(t) {
                let mut a = [0i32; 8];
                for y in ty..ty + t {
                    let left = &self.reference[y * w + tx - 1..][..t];
                    let right = &self.reference[y * w + tx + 1..][..t];
                    let up = &self.reference[(y - 1) * w + tx..][..t];
                    let down = &self.reference[(y + 1) * w + tx..][..t];
                    let (r, c) = self.rows(y, tx, t, by);
                    for i in 0..t {
                        let gx = i32::from(right[i] - left[i]);
                        let gy = i32::from(down[i] - up[i]);
                        let e = i32::from((c[i] - r[i]).clamp(-250, 250));
                        a[0] += gx * gx;
                        a[1] += gx * gy;
                        a[2] += gy * gy;
                        a[3] += gx * e;
                        a[4] += gy * e;
                        a[5] += gx;
                        a[6] += gy;
                        a[7] += e;
                    }
                }
                let a = a.map(|v| v as f32);
                let n = (t * t) as f32;
                let a = [
                    a[0] - a[5] * a[5] / n,
                    a[1] - a[5] * a[6] / n,
                    a[2] - a[6] * a[6] / n,
                    a[3] - a[5] * a[7] / n,
                    a[4] - a[6] * a[7] / n,
                ];
                // The smaller eigenvalue is about det/trace; a gradient of one luma a pixel is 8 here.
                let det = a[0] * a[2] - a[1] * a[1];
                if det > (a[0] + a[2]) * n * 64.0 * 2.0 {
                    tiles.push(Tile { a, own: answer(&a) });
                }
            }
        }
        if tiles.len() < 4 {
            return None;
        }
        let mut median = |f: &dyn Fn(&Tile) -> f32| {
            sorted.clear();
            sorted.extend(tiles.iter().map(f));
            sorted.sort_unstable_by(f32::total_cmp);
            (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
        };
        let (mx, my) = (median(&|t| t.own.0), median(&|t| t.own.1));
        let mut all = [0.0f32; 5];
        let mut n = 0;
        for t in tiles
            .iter()
            .filter(|t| (t.own.0 - mx).abs() < 0.75 && (t.own.1 - my).abs() < 0.75)
        {
            n += 1;
            for (s, v) in all.iter_mut().zip(t.a) {
                *s += v;
            }
        }
        let (x, y) = if n >= 3 { answer(&all) } else { (mx, my) };
        Some((x.clamp(-2.0, 2.0), y.clamp(-2.0, 2.0)))
    }

    fn search(&self, from: (f32, f32), tiles: &mut Vec<Tile>, sorted: &mut Vec<f32>) -> (f32, f32) {
        let limit = MARGIN as f32 - 1.0;
        let near = |v: f32| v.clamp(-limit, limit).round() as isize;
        let mut base = (near(from.0), near(from.1));
        let mut found = (base.0 as f32, base.1 as f32);
        for _ in 0..3 {
            // A caller's guess may lie outside of what can be read.
            let Some(d) = self.solve(base, tiles, sorted) else {
                return (from.0.clamp(-limit, limit), from.1.clamp(-limit, limit));
            };
            found = (
                (base.0 as f32 + d.0).clamp(-limit, limit),
                (base.1 as f32 + d.1).clamp(-limit, limit),
            );
            let next = (near(found.0), near(found.1));
            if next == base {
                break;
            }
            base = next;
        }
        found
    }
}

fn answer(a: &[f32; 5]) -> (f32, f32) {
    let det = a[0] * a[2] - a[1] * a[1];
    // Central differences are twice the gradient.
    (
        -(a[2] * a[3] - a[1] * a[4]) / det * 2.0,
        -(a[0] * a[4] - a[1] * a[3]) / det * 2.0,
    )
}

impl Aligner {
    pub fn new(width: usize, height: usize) -> Aligner {
        let (w, h) = (width / 2, height / 2);
        Aligner {
            half: Level::new(w, h, 16),
            quarter: Level::new(w / 2, h / 2, 10),
            learned: vec![0; w * h],
            line: vec![0; 2 * w],
            shaken: 0,
            waited: 0.0,
            tiles: Vec::new(),
            sorted: Vec::new(),
            state: Alignment::NONE,
        }
    }

    /// Halves the frame.
    pub fn load(&mut self, frame: &GrayFrame<'_>) {
        let w = self.half.width;
        let line = &mut self.line[..2 * w];
        for (y, out) in self.half.now.chunks_exact_mut(w.max(1)).enumerate() {
            let a = &frame.luma[2 * y * frame.stride..][..2 * w];
            let b = &frame.luma[(2 * y + 1) * frame.stride..][..2 * w];
            for ((s, a), b) in line.iter_mut().zip(a).zip(b) {
                *s = i16::from(*a) + i16::from(*b);
            }
            for (o, s) in out.iter_mut().zip(line.chunks_exact(2)) {
                *o = s[0] + s[1];
            }
        }
    }

    /// The loaded frame at half size, luma × 4, with its width and height.
    pub fn small(&self) -> (&[i16], usize, usize) {
        (&self.half.now, self.half.width, self.half.height)
    }

    /// The loaded frame becomes the reference.
    pub fn assign(&mut self) {
        for (r, s) in self.learned.iter_mut().zip(&self.half.now) {
            *r = *s << 4;
        }
        self.state = Alignment::NONE;
    }

    /// Estimates shift and gain of the loaded frame; returns how much the gain changed, as a ratio minus one.
    pub fn follow(&mut self) -> f32 {
        let gain = self.state.gain;
        // The reference at the present exposure.
        let q = (gain * 4096.0) as i16;
        for (f, r) in self.half.reference.iter_mut().zip(&self.learned) {
            *f = ((i32::from(*r) * i32::from(q)) >> 16) as i16;
        }
        let mut by = (0isize, 0isize);
        let mut shift = (0.0, 0.0);
        if self.half.usable() && self.quarter.usable() {
            shrink(
                &self.half.now,
                self.half.width,
                self.half.height,
                &mut self.quarter.now,
                self.quarter.width,
            );
            shrink(
                &self.half.reference,
                self.half.width,
                self.half.height,
                &mut self.quarter.reference,
                self.quarter.width,
            );
            let coarse = self
                .quarter
                .search((0.0, 0.0), &mut self.tiles, &mut self.sorted);
            if coarse.0.abs().max(coarse.1.abs()) > STANDS {
                self.shaken = SHAKEN;
            }
            if self.shaken > 0 {
                self.shaken -= 1;
                let from = (coarse.0 * 2.0, coarse.1 * 2.0);
                let fine = self.half.search(from, &mut self.tiles, &mut self.sorted);
                by = (fine.0.round() as isize, fine.1.round() as isize);
                shift = (fine.0 * 2.0, fine.1 * 2.0);
                if by != (0, 0) && self.half.residual(by) > 0.95 * self.half.residual((0, 0)) {
                    by = (0, 0);
                    shift = (0.0, 0.0);
                }
            }
        }
        self.state.shift = shift;
        self.follow_gain(by)
    }

    fn follow_gain(&mut self, by: (isize, isize)) -> f32 {
        const BINS: usize = 512;
        const PER_UNIT: f32 = 256.0;
        let mut votes = [0u32; BINS];
        let mut total = 0u32;
        let (w, h) = (self.half.width, self.half.height);
        let m = if self.half.usable() { MARGIN } else { 0 };
        for y in (m..h.saturating_sub(m)).step_by(2) {
            let n = w - 2 * m;
            let (_, c) = self.half.rows(y, m, n, by);
            let r = &self.learned[y * w + m..][..n];
            for (i, b) in c.chunks_exact(4).zip(r.chunks_exact(4)) {
                let luma: u32 = i.iter().map(|v| *v as u32).sum();
                let base: u32 = b.iter().map(|v| *v as u32).sum();
                if base >= 8 * 4 * 64 && luma <= 16 * 245 {
                    let ratio = luma as f32 * (16.0 * PER_UNIT) / base as f32;
                    votes[(ratio as usize).min(BINS - 1)] += 1;
                    total += 1;
                }
            }
        }
        if total < 32 {
            return 0.0;
        }
        let around = |gain: f32| {
            let (from, to) = (gain * 0.97 * PER_UNIT, gain * 1.03 * PER_UNIT);
            (from as usize).min(BINS - 1)..=(to as usize).min(BINS - 1)
        };
        let mut below = [0u32; BINS + 1];
        for (i, n) in votes.iter().enumerate() {
            below[i + 1] = below[i] + n;
        }
        let count = |gain: f32| {
            let r = around(gain);
            below[*r.end() + 1] - below[*r.start()]
        };
        let centroid = |gain: f32| {
            let range = around(gain);
            let (mut n, mut s) = (0u32, 0.0f32);
            for bin in range {
                n += votes[bin];
                s += votes[bin] as f32 * (bin as f32 + 0.5);
            }
            if n == 0 {
                gain
            } else {
                s / n as f32 / PER_UNIT
            }
        };
        let old = self.state.gain;
        let here = count(old);
        let best = (0..BINS)
            .step_by(2)
            .map(|b| b as f32 / PER_UNIT)
            .max_by_key(|g| count(*g))
            .unwrap_or(old);
        let new = if count(best) * 4 > here * 5 {
            centroid(best)
        } else {
            old + (centroid(old) - old) * 0.25
        };
        let new = new.clamp(GAIN.0, GAIN.1);
        self.state.gain = new;
        new / old - 1.0
    }

    /// Where the exposure went far, takes it for the usual one: answers the gain that the model has to be multiplied with.
    pub fn rebase(&mut self) -> Option<f32> {
        let gain = self.state.gain;
        if (REBASE.0..=REBASE.1).contains(&gain) {
            return None;
        }
        for r in &mut self.learned {
            *r = (f32::from(*r) * gain).min(16_320.0) as i16;
        }
        self.state.gain = 1.0;
        Some(gain)
    }

    /// Moves the reference towards the loaded, aligned frame, `dt` seconds after the last one; `age` is the number of
    /// frames since it was assigned.
    pub fn learn(&mut self, dt: f32, age: u32) {
        self.waited += dt;
        if self.waited < LEARN_EVERY && age > YOUNG {
            return;
        }
        let rate = (self.waited / LEARN_SECONDS)
            .max(1.0 / (1 + age) as f32)
            .min(0.5);
        self.waited = 0.0;
        let (w, h) = (self.half.width, self.half.height);
        let shift = |s: f32| (s / 2.0).round() as isize;
        let (dx, dy) = (shift(self.state.shift.0), shift(self.state.shift.1));
        // Luma × 4 to luma × 64 at unity gain.
        let gain = (16384.0 / self.state.gain) as u16;
        let rate = (rate * 32768.0) as i16;
        let (x0, x1) = ((-dx).max(0) as usize, (w as isize - dx.max(0)) as usize);
        for y in 0..h {
            let Some(sy) = y.checked_add_signed(dy).filter(|v| *v < h) else {
                continue;
            };
            let from = sy * w + (x0 as isize + dx) as usize;
            approach(
                &mut self.learned[y * w + x0..y * w + x1],
                &self.half.now[from..],
                gain,
                rate,
            );
        }
    }
}

fn approach(learned: &mut [i16], now: &[i16], gain: u16, rate: i16) {
    let n = learned.len();
    let now = &now[..n];
    for i in 0..n {
        let level = ((u32::from(now[i] as u16) * 4 * u32::from(gain)) >> 12).min(16_320) as i16;
        let e = (level - learned[i]).clamp(-2048, 2048);
        learned[i] += ((i32::from(e) * 2 * i32::from(rate)) >> 16) as i16;
    }
}

/// Means of 2×2.
fn shrink(from: &[i16], w: usize, h: usize, to: &mut [i16], tw: usize) {
    for (y, out) in to.chunks_exact_mut(tw.max(1)).enumerate().take(h / 2) {
        let a = &from[2 * y * w..][..2 * tw];
        let b = &from[(2 * y + 1) * w..][..2 * tw];
        for ((o, a), b) in out.iter_mut().zip(a.chunks_exact(2)).zip(b.chunks_exact(2)) {
            *o = (a[0] + a[1] + b[0] + b[1]) >> 2;
        }
    }
}

#[cfg(test)]
#[path = "reference/align.rs"]
mod reference;
