//! The background model: what each pixel looked like lately, as a handful of samples.
//!
//! A pixel is background where at least two of its samples, or what it looked like before something stood there, are
//! nearer than its own threshold (sample consensus: ViBe, Barnich & Van Droogenbroeck, 2011). Thresholds follow the
//! pixel's noise and how often it flickers (PBAS, Hofmann et al., 2012; SuBSENSE, St-Charles et al., 2015). Bytes only,
//! whole rows, no branch a pixel: it vectorises.

use super::plane::Plane;

/// Samples a pixel.
pub const SAMPLES: usize = 8;
/// Least threshold in luma.
const LEAST: u8 = 8;
/// Noise is kept in eighths of luma.
const NOISE_START: u8 = 16;
/// A flicker adds this much; it is forgotten by one a frame, and counts an eighth in luma.
const FLICKER: u8 = 16;
const TABLE: usize = 8192;

/// What learning takes over, in parts of 256 a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Chance of a background pixel to become a sample of itself.
    pub own: u8,
    /// Chance to become a sample of a neighbour.
    pub neighbour: u8,
}

/// The model of one picture size.
#[derive(Debug, Clone)]
pub struct Samples {
    height: usize,
    stride: usize,
    /// Row by row, [`SAMPLES`] padded lines each.
    samples: Vec<u8>,
    /// What was seen here before something was absorbed.
    pub former: Plane,
    noise: Plane,
    flicker: Plane,
    distance: Plane,
    /// 0..=4: how clearly each pixel differs.
    pub votes: Plane,
    before: Plane,
    random: Vec<u8>,
    state: u64,
}

impl Samples {
    /// An empty model.
    pub fn new(width: usize, height: usize) -> Samples {
        let plane = |v| Plane::new(width, height, v);
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let random = (0..TABLE.max(4 * (width + 64)))
            .map(|_| (step(&mut state) >> 24) as u8)
            .collect();
        let stride = plane(0).stride();
        Samples {
            height,
            stride,
            samples: vec![0; stride * height * SAMPLES],
            former: plane(0),
            noise: plane(NOISE_START),
            flicker: plane(0),
            distance: plane(0),
            votes: plane(0),
            before: plane(0),
            random,
            state,
        }
    }

    /// The picture becomes all samples; with `keep` the present background stays known.
    pub fn assign(&mut self, picture: &Plane, keep: bool) {
        for y in 0..self.height {
            if keep {
                let known = &self.samples[y * SAMPLES * self.stride..][..self.stride];
                self.former.row_mut(y).copy_from_slice(known);
            } else {
                self.former.row_mut(y).copy_from_slice(picture.row(y));
            }
            for k in 0..SAMPLES {
                self.line(y, k).copy_from_slice(picture.row(y));
            }
        }
        self.flicker.fill(0);
    }

    /// The picture becomes one of the samples, wherever; for the first frames.
    pub fn put(&mut self, picture: &Plane, sample: usize) {
        for y in 0..self.height {
            self.line(y, sample % SAMPLES)
                .copy_from_slice(picture.row(y));
        }
    }

    fn line(&mut self, y: usize, k: usize) -> &mut [u8] {
        &mut self.samples[(y * SAMPLES + k) * self.stride..][..self.stride]
    }

    /// One sample of a row, as a picture of the background.
    pub fn background(&self, y: usize) -> &[u8] {
        &self.samples[y * SAMPLES * self.stride..][..self.stride]
    }

    /// Compares the picture with the samples: fills `votes`. `slack` in luma is added to every threshold.
    pub fn compare(&mut self, picture: &Plane, slack: u8) {
        std::mem::swap(&mut self.votes, &mut self.before);
        let least = LEAST.saturating_add(slack);
        for y in 0..self.height {
            let samples = &self.samples[y * SAMPLES * self.stride..][..SAMPLES * self.stride];
            let distance = self.distance.row_mut(y);
            distances(picture.row(y), samples, self.former.row(y), distance);
            judge(
                distance,
                self.noise.row(y),
                self.flicker.row(y),
                least,
                self.votes.row_mut(y),
            );
        }
    }

    /// Makes everything that is known brighter by this factor.
    pub fn scale(&mut self, gain: f32) {
        let table: [u8; 256] = std::array::from_fn(|v| (v as f32 * gain).round().min(255.0) as u8);
        for v in &mut self.samples {
            *v = table[usize::from(*v)];
        }
        for y in 0..self.height {
            for v in self.former.row_mut(y) {
                *v = table[usize::from(*v)];
            }
        }
    }

    /// Takes the votes of what lies outside of a frame that is shifted by these pixels: nothing is known there.
    pub fn blank(&mut self, (dx, dy): (f32, f32)) {
        let (w, h) = self.votes.size();
        let edge = |d: f32, size: usize| (d.abs().ceil() as usize).min(size);
        let (nx, ny) = (edge(dx, w), edge(dy, h));
        for y in 0..h {
            let outside = if dy < 0.0 { y < ny } else { y + ny >= h };
            let line = self.votes.line_mut(y);
            match (outside, dx < 0.0) {
                (true, _) => line.fill(0),
                (false, true) => line[..nx].fill(0),
                (false, false) => line[w - nx..].fill(0),
            }
        }
    }

    /// Learns the noise and flicker of every pixel that `labels` leaves to the background (0), and a random part of the
    /// samples there.
    pub fn learn(&mut self, picture: &Plane, labels: &Plane, rates: Rates) {
        for y in 0..self.height {
            let r = step(&mut self.state);
            let pick = |shift: u32, n: u64| (((r >> shift) & 0xffff) as usize * n as usize) >> 16;
            let own = pick(0, SAMPLES as u64);
            let other = pick(16, SAMPLES as u64);
            let free = self.random.len() - 2 * self.stride;
            let from = pick(32, free as u64);
            let aside = (r >> 50) as usize % 3;
            let row = (y + (r >> 54) as usize % 3)
                .saturating_sub(1)
                .min(self.height - 1);
            let (a, b) = self.random[from..from + 2 * self.stride].split_at(self.stride);
            let (now, label) = (picture.row(y), labels.row(y));
            let line = &mut self.samples[(y * SAMPLES + own) * self.stride..][..self.stride];
            replace(line, now, label, a, rates.own);
            let n = self.stride - 2;
            let line = &mut self.samples[(row * SAMPLES + other) * self.stride + 1..][..n];
            replace(line, &now[aside..], &label[aside..], b, rates.neighbour);
            follow_noise(self.noise.row_mut(y), self.distance.row(y), label);
            follow_flicker(
                self.flicker.row_mut(y),
                self.votes.row(y),
                self.before.row(y),
                label,
            );
        }
    }

    /// Takes the pixels `from..to` of a row for background; what was known there stays known.
    pub fn absorb(&mut self, picture: &Plane, y: usize, from: usize, to: usize) {
        let span = from + super::plane::PAD..to + super::plane::PAD;
        let known = &self.samples[y * SAMPLES * self.stride..][..self.stride];
        self.former.row_mut(y)[span.clone()].copy_from_slice(&known[span.clone()]);
        for k in 0..SAMPLES {
            self.line(y, k)[span.clone()].copy_from_slice(&picture.row(y)[span.clone()]);
        }
    }
}

fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The second smallest distance to a sample, or that to the former background if it is less.
fn distances(now: &[u8], samples: &[u8], former: &[u8], out: &mut [u8]) {
    let n = now.len();
    let line = |k: usize| &samples[k * n..][..n];
    let lines: [&[u8]; SAMPLES] = std::array::from_fn(line);
    let [a, b, c, d, e, f, g, h] = lines;
    let (former, out) = (&former[..n], &mut out[..n]);
    for i in 0..n {
        let v = now[i];
        let mut first = v.abs_diff(a[i]);
        let mut second = 255u8;
        for line in [b, c, d, e, f, g, h] {
            let x = v.abs_diff(line[i]);
            second = second.min(first.max(x));
            first = first.min(x);
        }
        out[i] = second.min(v.abs_diff(former[i]));
    }
}

fn judge(distance: &[u8], noise: &[u8], flicker: &[u8], least: u8, votes: &mut [u8]) {
    let n = distance.len();
    let (noise, flicker, votes) = (&noise[..n], &flicker[..n], &mut votes[..n]);
    for i in 0..n {
        // Three times the noise, which is kept in eighths.
        let limit = least
            .max((noise[i] >> 2).saturating_add(noise[i] >> 3))
            .saturating_add(flicker[i] >> 3);
        let d = distance[i];
        votes[i] = u8::from(d > limit)
            + u8::from(d > limit.saturating_add(limit >> 1))
            + u8::from(d > limit.saturating_add(limit))
            + u8::from(d > limit.saturating_add(limit).saturating_add(limit));
    }
}

fn replace(line: &mut [u8], now: &[u8], label: &[u8], random: &[u8], chance: u8) {
    let n = line.len();
    let (now, label, random) = (&now[..n], &label[..n], &random[..n]);
    for i in 0..n {
        let take = (u8::from(random[i] < chance) & u8::from(label[i] & 2 == 0)).wrapping_neg();
        line[i] ^= (line[i] ^ now[i]) & take;
    }
}

/// A running median of the distance.
fn follow_noise(noise: &mut [u8], distance: &[u8], label: &[u8]) {
    let n = noise.len();
    let (distance, label) = (&distance[..n], &label[..n]);
    for i in 0..n {
        let d = distance[i].min(31) << 3;
        let open = u8::from(label[i] & 2 == 0);
        let up = u8::from(d > noise[i]) & open;
        let down = u8::from(d < noise[i]) & open;
        noise[i] = noise[i].saturating_add(up) - down;
    }
}

fn follow_flicker(flicker: &mut [u8], votes: &[u8], before: &[u8], label: &[u8]) {
    let n = flicker.len();
    let (votes, before, label) = (&votes[..n], &before[..n], &label[..n]);
    for i in 0..n {
        let changed =
            (u8::from(votes[i] == 0) ^ u8::from(before[i] == 0)) & u8::from(label[i] & 2 == 0);
        flicker[i] = flicker[i]
            .saturating_sub(1)
            .saturating_add(changed * FLICKER);
    }
}

#[cfg(test)]
#[path = "reference/noise.rs"]
mod reference;
