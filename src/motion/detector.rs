//! [`CellDetector`]: background, noise, blobs and tracks put together.
//!
//! ```text
//!            ┌──────── reset, new size ────────┐
//!            ▼                                 │
//!        Warming ── WARM_UP, ≥ 6 frames ──▶ Watching ◀── SETTLE ── Settling
//!                                              │  more than half changed ▲
//!                                              └─────────────────────────┘
//! ```
//!
//! Guarantees: no allocation a frame in steady state but for the regions of a [`Verdict::Motion`]; no panic for any size,
//! stride or content; a higher sensitivity reports every frame that a lower one reports.

use std::time::Duration;

use super::background::{Background, CELL, CellSum};
use super::blobs::{BlobFinder, CellView};
use super::cells::Cells;
use super::sensitivity::smallest_mass;
use super::tracks::{Persistence, Track, Tracks};
use super::zones::ZoneMask;
use super::{Activity, Detector, GrayFrame, Verdict};
use crate::config::{MotionConfig, Zone};
use crate::time::Pts;

/// A thing that stands still this long becomes background.
pub const ABSORB: Duration = Duration::from_secs(30);
/// Silence after a start, a reconnect or a change of size.
const WARM_UP: Duration = Duration::from_secs(2);
/// Frames that a start needs at least, however slow they come.
const WARM_UP_FRAMES: u32 = 6;
/// Silence after a change of the whole picture.
const SETTLE: Duration = Duration::from_secs(1);
/// Share of changed cells from which the picture changed as a whole.
const WHOLE: f32 = 0.5;
/// Time constants in seconds: background, background under something that moves, noise.
const BACKGROUND_SECONDS: f32 = 10.0;
const COVERED_SECONDS: f32 = 90.0;
const NOISE_SECONDS: f32 = 8.0;
/// Regions of an answer.
const MAX_REGIONS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Warming { since: Pts, frames: u32 },
    Settling { until: Pts },
    Watching,
}

/// What is known of one picture size.
#[derive(Debug, Clone)]
struct Scene {
    background: Background,
    cells: Cells,
    zones: ZoneMask,
    sums: Vec<CellSum>,
    rates: Vec<f32>,
    /// Signed difference, smoothed over about a second: what a resting cell looks like.
    settled: Vec<f32>,
    /// Seconds for which a cell has differed without changing.
    still: Vec<f32>,
    /// Cells that differ and changed in this frame.
    lively: Vec<bool>,
    finder: BlobFinder,
    tracks: Tracks,
    /// Luma added to the thresholds while the exposure changes.
    slack: f32,
    last: Pts,
    phase: Phase,
}

/// Motion detector on a background model with cells of 4×4 pixels.
///
/// `score` of an [`Activity`] is the product of size and contrast of the strongest moving thing: m/(m+4·s) with its
/// mass m and the smallest reported mass s (both in pixels), times c/(c+1) with its contrast c in multiples of the
/// threshold. 0.1 is barely found, 0.5 a plain movement, above 0.8 something large and clear.
#[derive(Debug, Clone)]
pub struct CellDetector {
    sensitivity: u8,
    include: Vec<Zone>,
    exclude: Vec<Zone>,
    scene: Option<Scene>,
}

impl CellDetector {
    /// A detector with the camera's settings; `enabled` and `fps` are the caller's to respect.
    pub fn new(config: &MotionConfig) -> CellDetector {
        CellDetector {
            sensitivity: config.sensitivity,
            include: config.include.clone(),
            exclude: config.exclude.clone(),
            scene: None,
        }
    }
}

impl Detector for CellDetector {
    fn observe(&mut self, frame: &GrayFrame<'_>) -> Verdict {
        if !well_formed(frame) {
            return Verdict::Warming;
        }
        match &mut self.scene {
            Some(scene) if scene.background.fits(frame) => scene.observe(frame, self.sensitivity),
            scene => {
                *scene = Some(Scene::new(frame, &self.include, &self.exclude));
                Verdict::Warming
            }
        }
    }

    fn reset(&mut self) {
        self.scene = None;
    }
}

/// Whether the bytes hold the picture that the sizes promise.
pub fn well_formed(f: &GrayFrame<'_>) -> bool {
    let needed = || {
        f.stride
            .checked_mul(f.height.checked_sub(1)?)?
            .checked_add(f.width)
    };
    let sane = f.width > 0 && f.stride >= f.width && f.width.max(f.height) <= 1 << 16;
    sane && needed().is_some_and(|n| f.luma.len() >= n)
}

impl Scene {
    fn new(frame: &GrayFrame<'_>, include: &[Zone], exclude: &[Zone]) -> Scene {
        let mut background = Background::new(frame.width, frame.height);
        background.assign(frame, false);
        let (cols, rows) = background.grid();
        let n = cols * rows;
        let size = (frame.width, frame.height);
        Scene {
            background,
            cells: Cells::new(cols, rows),
            zones: ZoneMask::new(include, exclude, (cols, rows), CELL, size),
            sums: vec![CellSum::default(); n],
            rates: vec![0.0; n],
            settled: vec![0.0; n],
            still: vec![0.0; n],
            lively: vec![false; n],
            finder: BlobFinder::default(),
            tracks: Tracks::default(),
            slack: 0.0,
            last: frame.pts,
            phase: Phase::Warming {
                since: frame.pts,
                frames: 0,
            },
        }
    }

    fn observe(&mut self, frame: &GrayFrame<'_>, sensitivity: u8) -> Verdict {
        let dt = frame.pts.since(self.last).as_secs_f32().clamp(0.01, 5.0);
        self.last = frame.pts;
        let change = self.background.follow_exposure(frame).abs();
        self.slack = (self.slack * (-dt / 0.4).exp())
            .max(60.0 * (change - 0.004).max(0.0))
            .min(30.0);
        let threshold = 5.0f32.max(3.5 * self.cells.pixel_noise()) + self.slack;
        self.background
            .scan(frame, threshold, &self.rates, &mut self.sums);
        self.cells.judge(&self.sums, self.slack);
        match self.phase {
            Phase::Warming { since, frames } => self.warm(frame, since, frames + 1),
            Phase::Settling { until } => self.settle(frame, until),
            Phase::Watching => self.watch(frame, dt, sensitivity),
        }
    }

    fn warm(&mut self, frame: &GrayFrame<'_>, since: Pts, frames: u32) -> Verdict {
        let rate = 1.0 / (frames + 1) as f32;
        self.cells.learn(&self.sums, rate, true);
        self.rates.fill(rate.max(0.04));
        let done = frames >= WARM_UP_FRAMES && frame.pts.since(since) >= WARM_UP;
        self.phase = if done {
            Phase::Watching
        } else {
            Phase::Warming { since, frames }
        };
        Verdict::Warming
    }

    fn settle(&mut self, frame: &GrayFrame<'_>, until: Pts) -> Verdict {
        if self.changed_as_a_whole() {
            return self.relearn(frame, false);
        }
        if frame.pts >= until {
            self.phase = Phase::Watching;
        }
        self.rates.fill(0.2);
        Verdict::SceneChanged
    }

    fn changed_as_a_whole(&self) -> bool {
        let flagged = self.cells.flagged();
        let n = flagged.iter().filter(|f| **f).count();
        n as f32 > WHOLE * flagged.len() as f32
    }

    fn relearn(&mut self, frame: &GrayFrame<'_>, keep: bool) -> Verdict {
        self.background.assign(frame, keep);
        self.tracks.clear();
        self.still.fill(0.0);
        self.rates.fill(0.2);
        self.phase = Phase::Settling {
            until: frame.pts + SETTLE,
        };
        Verdict::SceneChanged
    }

    fn watch(&mut self, frame: &GrayFrame<'_>, dt: f32, sensitivity: u8) -> Verdict {
        if self.changed_as_a_whole() {
            return self.relearn(frame, true);
        }
        self.cells.count_beginnings(dt);
        self.follow_stillness(frame, dt);
        let (cols, _) = self.background.grid();
        let (cells, zones, lively) = (&self.cells, &self.zones, &self.lively);
        let flagged = cells.flagged();
        let open = (0..flagged.len()).map(|i| flagged[i] && zones.watched(i));
        let blobs = self.finder.find(open, cols, |i| {
            let mut entered = 0;
            zones.enter(i, &mut entered);
            CellView {
                mass: cells.mass()[i],
                strength: cells.strength()[i],
                lively: lively[i],
                zones: entered,
            }
        });
        let pixels = frame.width * frame.height;
        let least = smallest_mass(u8::MAX, pixels);
        let enough = blobs.partition_point(|b| b.mass >= least);
        self.tracks.observe(&blobs[..enough], frame.pts, dt);
        self.cells
            .learn(&self.sums, (dt / NOISE_SECONDS).min(0.2), false);
        self.choose_rates(dt);
        self.verdict(frame, dt, smallest_mass(sensitivity, pixels))
    }

    /// Measures how long each flagged cell has not changed; absorbs what rests and takes back what was hidden.
    fn follow_stillness(&mut self, frame: &GrayFrame<'_>, dt: f32) {
        let blend = dt.min(0.5);
        for i in 0..self.sums.len() {
            let signed = self.sums[i].signed;
            let tolerance = self.cells.tolerance(i) + self.slack;
            let moved = (signed - self.settled[i]).abs() > tolerance;
            self.settled[i] += (signed - self.settled[i]) * blend;
            let differs = self.cells.flagged()[i];
            self.lively[i] = differs && moved;
            if !differs || moved {
                self.still[i] = 0.0;
            } else {
                self.still[i] += dt;
            }
            let rested = self.still[i] >= ABSORB.as_secs_f32();
            if differs && (rested || self.background.distance_to_spare(frame, i) < tolerance + 2.0)
            {
                self.background.swap(frame, i);
                self.cells.clear(i);
                self.settled[i] = 0.0;
                self.still[i] = 0.0;
            }
        }
    }

    fn choose_rates(&mut self, dt: f32) {
        let open = (dt / BACKGROUND_SECONDS).min(0.1);
        let covered = (dt / COVERED_SECONDS).min(0.05);
        for (r, f) in self.rates.iter_mut().zip(self.cells.flagged()) {
            *r = if *f { covered } else { open };
        }
    }

    fn verdict(&self, frame: &GrayFrame<'_>, dt: f32, least: f32) -> Verdict {
        let need = Persistence::for_interval(dt);
        let score = |t: &Track| {
            let (m, c) = (t.blob.mass, t.blob.strength);
            m / (m + 4.0 * least) * (c / (c + 1.0))
        };
        let mut moving: Vec<(f32, &Track, Pts)> = self
            .tracks
            .iter()
            .filter_map(|t| t.moving(least, need).map(|since| (score(t), t, since)))
            .collect();
        moving.sort_by(|a, b| b.0.total_cmp(&a.0));
        let Some(&(score, ..)) = moving.first() else {
            return Verdict::Quiet;
        };
        let watched = (self.zones.count() * CELL * CELL).max(1) as f32;
        let zones = moving.iter().fold(0, |z, (_, t, _)| z | t.blob.zones);
        let size = (frame.width, frame.height);
        Verdict::Motion(Activity {
            score: score.clamp(0.0, 1.0),
            area: (moving.iter().map(|(_, t, _)| t.blob.mass).sum::<f32>() / watched).min(1.0),
            regions: moving
                .iter()
                .take(MAX_REGIONS)
                .map(|(_, t, _)| t.blob.region(CELL, size))
                .collect(),
            zones: (0..64).filter(|i| zones >> i & 1 == 1).collect(),
            // Never after the frame itself, even where a camera's time goes backwards.
            since: moving
                .iter()
                .map(|m| m.2)
                .min()
                .map_or(frame.pts, |first| first.min(frame.pts)),
        })
    }
}
