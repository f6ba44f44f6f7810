//! The detector's stages one by one, for benchmarks; nothing in the program uses this.

use super::GrayFrame;
use super::align::Aligner;
use super::blobs::Blob;
use super::plane::{Layer, Plane};
use super::restless::Restless;
use super::runs::{Finder, Planes};
use super::samples::{Rates, Samples};
use super::stillness::Stillness;
use super::tamper::View;
use super::tracks::{Persistence, Tracks};
use super::vote::Ballot;
use super::zones::ZoneMask;
use crate::config::Zone;

/// Names of the stages, in order. `zones` runs only where there are any, `look` twice a second; the others with every frame.
pub const STAGES: [&str; 12] = [
    "align",
    "lay",
    "compare",
    "label",
    "stillness",
    "restless",
    "zones",
    "runs",
    "edges",
    "tracks",
    "learn",
    "look",
];
/// Side of a zone's cell in pixels.
const CELL: usize = 4;
/// Seconds between two frames.
const DT: f32 = 0.2;

/// All that the stages need, warmed up.
pub struct Stages {
    aligner: Aligner,
    layer: Layer,
    picture: Plane,
    model: Samples,
    labels: Plane,
    ballot: Ballot,
    stillness: Stillness,
    ticks: u8,
    restless: Restless,
    zones: ZoneMask,
    watched: Plane,
    entered: Vec<u64>,
    finder: Finder,
    blobs: Vec<Blob>,
    tracks: Tracks,
    view: View,
}

/// Two places that are watched and one between them that is not.
fn zones((w, h): (usize, usize)) -> ZoneMask {
    let zone = |points: &[(f32, f32)]| Zone {
        name: String::new(),
        points: points.to_vec(),
        sensitivity: None,
    };
    let include = [
        zone(&[(0.0, 0.1), (0.6, 0.0), (0.5, 0.9), (0.1, 1.0)]),
        zone(&[(0.4, 0.3), (1.0, 0.3), (1.0, 1.0), (0.4, 1.0)]),
    ];
    let exclude = [zone(&[(0.4, 0.0), (0.5, 0.0), (0.5, 1.0)])];
    let grid = (w.div_ceil(CELL), h.div_ceil(CELL));
    ZoneMask::new(&include, &exclude, grid, CELL, (w, h))
}

impl Stages {
    /// With the frame as background.
    pub fn new(frame: &GrayFrame<'_>) -> Stages {
        let (w, h) = (frame.width, frame.height);
        let plane = || Plane::new(w, h, 0);
        let mut all = Stages {
            aligner: Aligner::new(w, h),
            layer: Layer::new(w),
            picture: plane(),
            model: Samples::new(w, h),
            labels: plane(),
            ballot: Ballot::default(),
            stillness: Stillness::new(w, h),
            ticks: 0,
            restless: Restless::new(w, h),
            zones: zones((w, h)),
            watched: plane(),
            entered: Vec::new(),
            finder: Finder::default(),
            blobs: Vec::new(),
            tracks: Tracks::default(),
            view: View::default(),
        };
        all.aligner.load(frame);
        all.aligner.assign();
        all.layer.lay(frame, all.aligner.state, &mut all.picture);
        all.model.assign(&all.picture, false);
        all
    }

    /// Things that moved in the latest frame; 0 would make the stages after `label` cost nothing.
    pub fn groups(&self) -> usize {
        self.blobs.len()
    }

    /// Runs one stage on a frame, or on what the stages before left.
    ///
    /// # Panics
    /// Where there is no such stage.
    pub fn run(&mut self, stage: &str, frame: &GrayFrame<'_>) {
        match stage {
            "align" => {
                self.aligner.load(frame);
                self.aligner.follow();
                self.aligner.learn(DT, 100);
            }
            "lay" => self.layer.lay(frame, self.aligner.state, &mut self.picture),
            "compare" => self.model.compare(&self.picture, 0),
            "label" => self.ballot.label(&self.model.votes, &mut self.labels),
            "stillness" => self.ticks = self.stillness.follow(&self.picture, &self.labels, DT),
            "restless" => self.restless.follow(&self.labels, self.ticks, DT, 1.0),
            "zones" => {
                self.zones.restrict(&self.labels, &mut self.watched);
                self.entered.clear();
                self.entered.resize(self.finder.groups().len(), 0);
                self.zones.enter(self.finder.runs(), &mut self.entered);
            }
            "runs" => {
                let planes = Planes {
                    labels: &self.labels,
                    votes: &self.model.votes,
                    lively: self.stillness.lively(),
                };
                self.finder.find(planes, |x, y| self.restless.weight(x, y));
            }
            "edges" => {
                let model = &self.model;
                let known = |y: usize| model.background(y);
                self.finder.measure_edges(|_| true, &self.picture, known);
            }
            "tracks" => {
                self.blobs.clear();
                let sure = self.finder.groups().iter().filter(|g| g.sure >= 4);
                self.blobs.extend(sure.map(|g| g.blob(0)));
                self.blobs
                    .sort_unstable_by(|a, b| b.mass.total_cmp(&a.mass));
                self.tracks.observe(&self.blobs, frame.pts, DT);
                let need = Persistence::for_interval(DT);
                let moving = self.tracks.iter().filter_map(|t| t.moving(30.0, need));
                std::hint::black_box(moving.count());
            }
            "learn" => {
                let rates = Rates {
                    own: 40,
                    neighbour: 20,
                };
                self.model.learn(&self.picture, &self.labels, rates);
            }
            "look" => {
                let (small, width, height) = self.aligner.small();
                self.view.look(small, width, height, frame.pts);
            }
            _ => panic!("no stage {stage}"),
        }
    }
}
