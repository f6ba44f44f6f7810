//! [`CellDetector`]: registration, samples, votes, groups and tracks put together.
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

use super::align::Aligner;
use super::blobs::{Blob, MAX_BLOBS};
use super::plane::{Layer, Plane};
use super::restless::Restless;
use super::runs::{Finder, Planes};
use super::samples::{Rates, SAMPLES, Samples};
use super::sensitivity::smallest_mass;
use super::stillness::Stillness;
use super::tamper::{Tamper, View};
use super::tracks::{Persistence, Track, Tracks};
use super::vote::{self, Ballot};
use super::zones::ZoneMask;
use super::{Activity, Detector, GrayFrame, Verdict};
use crate::config::{MotionConfig, Zone};
use crate::time::Pts;

/// A thing that stands still this long becomes background.
pub const ABSORB: Duration = Duration::from_secs(30);
/// Silence after a start, a reconnect or a change of size.
const WARM_UP: Duration = Duration::from_secs(2);
/// The same where much of the picture moves to and fro, and the share of it that is much.
const LONG_WARM_UP: Duration = Duration::from_secs(5);
const RESTLESS: f32 = 0.03;
/// Frames that a start needs at least, however slow they come.
const WARM_UP_FRAMES: u32 = 6;
/// Silence after a change of the whole picture.
const SETTLE: Duration = Duration::from_secs(1);
/// Share of changed pixels from which the picture changed as a whole.
const WHOLE: f32 = 0.5;
/// Time constants in seconds: background, background under something that moves, noise.
const BACKGROUND_SECONDS: f32 = 10.0;
/// Frames that become samples as they are.
const BOOT: u32 = 16;
/// Sure pixels that a group needs.
const SURE: u32 = 4;
/// Least group whose outline says whether it is a ghost.
const GHOST_AREA: u32 = 20;
/// Side of a zone's cell in pixels.
const CELL: usize = 4;
/// How often the view is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A change of the gain between two frames that is no switch.
const GRADUAL: f32 = 0.1;
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
    size: (usize, usize),
    aligner: Aligner,
    layer: Layer,
    /// The frame, smoothed and laid over the model.
    picture: Plane,
    model: Samples,
    labels: Plane,
    ballot: Ballot,
    stillness: Stillness,
    restless: Restless,
    finder: Finder,
    blobs: Vec<Blob>,
    /// What moves, in the model's coordinates.
    mask: Plane,
    zones: ZoneMask,
    /// The labels of watched pixels, where not all are watched.
    watched: Plane,
    entered: Vec<u64>,
    tracks: Tracks,
    /// Luma added to the thresholds while the exposure changes.
    slack: f32,
    last: Pts,
    /// Frames since the model was begun.
    age: u32,
    phase: Phase,
}

/// Motion detector on samples a pixel; zones are told apart in cells of 4×4 pixels.
///
/// `score` of an [`Activity`] is the product of size and contrast of the strongest moving thing: m/(m+4·s) with its
/// mass m and the smallest reported mass s (both in pixels), times c/(c+1) with its contrast c in multiples of the
/// threshold. 0.1 is barely found, 0.5 a plain movement, above 0.8 something large and clear.
#[derive(Debug, Clone)]
pub struct CellDetector {
    sensitivity: u8,
    /// Outlives a reset: a reconnect is a good moment to turn a camera.
    view: View,
    looked: Option<Pts>,
    include: Vec<Zone>,
    exclude: Vec<Zone>,
    scene: Option<Scene>,
    /// The highest number of a track before the last reset.
    named: u32,
}

impl CellDetector {
    /// A detector with the camera's settings; `enabled` and `fps` are the caller's to respect.
    pub fn new(config: &MotionConfig) -> CellDetector {
        CellDetector {
            sensitivity: config.sensitivity,
            view: View::default(),
            looked: None,
            include: config.include.clone(),
            exclude: config.exclude.clone(),
            scene: None,
            named: 0,
        }
    }

    /// Whether the pixel moved in the latest frame.
    pub fn moved(&self, x: usize, y: usize) -> bool {
        let Some(scene) = &self.scene else {
            return false;
        };
        let (dx, dy) = scene.aligner.state.shift;
        let at = |v: usize, d: f32, size: usize| {
            v.checked_add_signed(-(d.round() as isize))
                .filter(|v| *v < size)
        };
        match (at(x, dx, scene.size.0), at(y, dy, scene.size.1)) {
            (Some(x), Some(y)) => scene.mask.line(y)[x] != 0,
            _ => false,
        }
    }

    /// For drawings, of the latest frame: the picture as it is compared, the votes (0..=4) and the mask (0, 1), each
    /// width × height bytes in the model's coordinates.
    pub fn layers(&self) -> Option<[Vec<u8>; 3]> {
        let scene = self.scene.as_ref()?;
        let bytes = |p: &Plane| (0..p.size().1).flat_map(|y| p.line(y).to_vec()).collect();
        Some([&scene.picture, &scene.model.votes, &scene.mask].map(bytes))
    }
}

impl Detector for CellDetector {
    fn observe(&mut self, frame: &GrayFrame<'_>) -> Verdict {
        if !well_formed(frame) {
            return Verdict::Warming;
        }
        let verdict = match &mut self.scene {
            Some(scene) if scene.size == (frame.width, frame.height) => {
                let own = |zones: u64| sensitivity(self.sensitivity, &self.include, zones);
                scene.observe(frame, &own)
            }
            scene => {
                let newest = scene.as_ref().map_or(self.named, |s| s.tracks.newest());
                let tracks = Tracks::after(newest);
                *scene = Some(Scene::new(frame, &self.include, &self.exclude, tracks));
                Verdict::Warming
            }
        };
        if let Some(scene) = &self.scene
            && self
                .looked
                .is_none_or(|l| frame.pts < l || frame.pts.since(l) >= LOOK_EVERY)
        {
            self.looked = Some(frame.pts);
            let (small, width, height) = scene.aligner.small();
            self.view.look(small, width, height, frame.pts);
        }
        verdict
    }

    fn tamper(&self) -> Option<Tamper> {
        self.view.tamper()
    }

    fn reset(&mut self) {
        if let Some(scene) = self.scene.take() {
            self.named = scene.tracks.newest();
        }
    }
}

/// What counts for something in these include zones (one bit each): the highest that one of them asks for.
fn sensitivity(general: u8, include: &[Zone], zones: u64) -> u8 {
    let entered = include
        .iter()
        .take(64)
        .enumerate()
        .filter(|(i, _)| zones >> i & 1 == 1);
    entered
        .map(|(_, z)| z.sensitivity.unwrap_or(general))
        .max()
        .unwrap_or(general)
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
    fn new(frame: &GrayFrame<'_>, include: &[Zone], exclude: &[Zone], tracks: Tracks) -> Scene {
        let (w, h) = (frame.width, frame.height);
        let plane = || Plane::new(w, h, 0);
        let grid = (w.div_ceil(CELL), h.div_ceil(CELL));
        let mut scene = Scene {
            size: (w, h),
            aligner: Aligner::new(w, h),
            layer: Layer::new(w),
            picture: plane(),
            model: Samples::new(w, h),
            labels: plane(),
            ballot: Ballot::default(),
            stillness: Stillness::new(w, h),
            restless: Restless::new(w, h),
            finder: Finder::default(),
            blobs: Vec::new(),
            mask: plane(),
            zones: ZoneMask::new(include, exclude, grid, CELL, (w, h)),
            watched: plane(),
            entered: Vec::new(),
            tracks,
            slack: 0.0,
            last: frame.pts,
            age: 0,
            phase: Phase::Warming {
                since: frame.pts,
                frames: 0,
            },
        };
        scene.begin(frame, false);
        scene
    }

    /// Takes the frame for the background.
    fn begin(&mut self, frame: &GrayFrame<'_>, keep: bool) {
        self.aligner.load(frame);
        self.aligner.assign();
        self.layer.lay(frame, self.aligner.state, &mut self.picture);
        self.model.assign(&self.picture, keep);
        self.stillness.begin(&self.picture);
        self.mask.fill(0);
        self.age = 0;
    }

    fn observe(&mut self, frame: &GrayFrame<'_>, sensitivity: &dyn Fn(u64) -> u8) -> Verdict {
        let dt = frame.pts.since(self.last).as_secs_f32().clamp(0.01, 5.0);
        self.last = frame.pts;
        self.age = self.age.saturating_add(1);
        self.aligner.load(frame);
        let change = self.aligner.follow().abs();
        if change < GRADUAL
            && let Some(gain) = self.aligner.rebase()
        {
            self.model.scale(gain);
        }
        self.aligner.learn(dt, self.age);
        self.slack = (self.slack * (-dt / 0.4).exp())
            .max(60.0 * (change - 0.004).max(0.0))
            .min(30.0);
        self.layer.lay(frame, self.aligner.state, &mut self.picture);
        self.model.compare(&self.picture, self.slack as u8);
        if self.aligner.state.shift != (0.0, 0.0) {
            self.model.blank(self.aligner.state.shift);
        }
        self.ballot.label(&self.model.votes, &mut self.labels);
        match self.phase {
            Phase::Warming { since, frames } => self.warm(frame, since, frames + 1, dt),
            Phase::Settling { until } => self.settle(frame, until, dt),
            Phase::Watching => self.watch(frame, dt, sensitivity),
        }
    }

    fn warm(&mut self, frame: &GrayFrame<'_>, since: Pts, frames: u32, dt: f32) -> Verdict {
        self.group(dt);
        let passed = frame.pts.since(since);
        let calm = self.restless.share() < RESTLESS;
        let done = frames >= WARM_UP_FRAMES && passed >= if calm { WARM_UP } else { LONG_WARM_UP };
        self.phase = if done {
            Phase::Watching
        } else {
            Phase::Warming { since, frames }
        };
        self.learn(dt);
        Verdict::Warming
    }

    fn settle(&mut self, frame: &GrayFrame<'_>, until: Pts, dt: f32) -> Verdict {
        if self.changed_as_a_whole() {
            return self.relearn(frame, false);
        }
        if frame.pts >= until {
            self.phase = Phase::Watching;
        }
        self.group(dt);
        self.learn(dt);
        Verdict::SceneChanged
    }

    fn changed_as_a_whole(&self) -> bool {
        let (w, h) = self.size;
        let labelled = |part: &[u8]| u32::from(part.iter().map(|l| l & vote::ANY).sum::<u8>());
        let n: u32 = (0..h)
            .flat_map(|y| self.labels.line(y).chunks(128))
            .map(labelled)
            .sum();
        n as f32 > WHOLE * (w * h) as f32
    }

    fn relearn(&mut self, frame: &GrayFrame<'_>, keep: bool) -> Verdict {
        self.begin(frame, keep);
        self.tracks.clear();
        self.phase = Phase::Settling {
            until: frame.pts + SETTLE,
        };
        Verdict::SceneChanged
    }

    /// Finds what belongs together; absorbs what rests and what is only the trace of something that has gone.
    fn group(&mut self, dt: f32) {
        let ticks = self.stillness.follow(&self.picture, &self.labels, dt);
        let watching = self.phase == Phase::Watching;
        // What returns while the model is young has had little time to do so.
        self.restless
            .follow(&self.labels, ticks, dt, if watching { 1.0 } else { 3.0 });
        let labels = if self.zones.limited() {
            self.zones.restrict(&self.labels, &mut self.watched);
            &self.watched
        } else {
            &self.labels
        };
        let restless = &self.restless;
        let planes = Planes {
            labels,
            votes: &self.model.votes,
            lively: self.stillness.lively(),
        };
        self.finder.find(planes, |x, y| restless.weight(x, y));
        let model = &self.model;
        self.finder.measure_edges(
            |g| g.area >= GHOST_AREA && g.rests(),
            &self.picture,
            |y| model.background(y),
        );
        self.mask.fill(0);
        for (run, g) in self.finder.runs() {
            let g = &self.finder.groups()[g];
            if g.sure < SURE {
                continue;
            }
            let (y, from, to) = (
                usize::from(run.y),
                usize::from(run.from),
                usize::from(run.to),
            );
            let labels = &self.labels.line(y)[from..to];
            for (m, l) in self.mask.line_mut(y)[from..to].iter_mut().zip(labels) {
                *m = u8::from(l & vote::CLEAR != 0);
            }
            let still = self.stillness.seconds(y, (from + to) / 2);
            if still >= ABSORB.as_secs_f32() || (still >= 1.0 && g.is_ghost()) {
                self.model.absorb(
                    &self.picture,
                    y,
                    from.saturating_sub(2),
                    (to + 2).min(self.size.0),
                );
            }
        }
        self.entered.clear();
        self.entered.resize(self.finder.groups().len(), 0);
        if self.zones.limited() {
            self.zones.enter(self.finder.runs(), &mut self.entered);
        }
        self.blobs.clear();
        for (g, entered) in self.finder.groups().iter().zip(&self.entered) {
            if g.sure >= SURE && !g.is_ghost() {
                self.blobs.push(g.blob(*entered));
            }
        }
        self.blobs
            .sort_unstable_by(|a, b| b.mass.total_cmp(&a.mass));
        self.blobs.truncate(MAX_BLOBS);
    }

    fn learn(&mut self, dt: f32) {
        let rates = if self.age < BOOT {
            self.model.put(&self.picture, self.age as usize);
            Rates::default()
        } else {
            let own = (SAMPLES as f32 * dt / BACKGROUND_SECONDS * 256.0).clamp(1.0, 255.0);
            Rates {
                own: own as u8,
                neighbour: (own * 0.5) as u8,
            }
        };
        self.model.learn(&self.picture, &self.labels, rates);
    }

    fn watch(
        &mut self,
        frame: &GrayFrame<'_>,
        dt: f32,
        sensitivity: &dyn Fn(u64) -> u8,
    ) -> Verdict {
        if self.changed_as_a_whole() {
            return self.relearn(frame, true);
        }
        self.group(dt);
        let pixels = frame.width * frame.height;
        let least = smallest_mass(u8::MAX, pixels);
        let enough = self.blobs.partition_point(|b| b.mass >= least);
        self.tracks.observe(&self.blobs[..enough], frame.pts, dt);
        self.learn(dt);
        self.verdict(frame, dt, |zones| smallest_mass(sensitivity(zones), pixels))
    }

    fn verdict(&self, frame: &GrayFrame<'_>, dt: f32, least: impl Fn(u64) -> f32) -> Verdict {
        let need = Persistence::for_interval(dt);
        let score = |t: &Track| {
            let (m, c) = (t.blob.mass, t.blob.strength);
            m / (m + 4.0 * least(t.blob.zones)) * (c / (c + 1.0))
        };
        let mut moving: Vec<(f32, &Track, Pts)> = self
            .tracks
            .iter()
            .filter_map(|t| {
                t.moving(least(t.blob.zones), need)
                    .map(|since| (score(t), t, since))
            })
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
                .map(|(_, t, _)| t.region(size))
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
