//! The detector's stages one by one, for benchmarks; nothing in the program uses this.

use super::GrayFrame;
use super::align::Aligner;
use super::plane::{Layer, Plane};
use super::restless::Restless;
use super::runs::{Finder, Planes};
use super::samples::{Rates, Samples};
use super::stillness::Stillness;
use super::vote::Ballot;

/// Names of the stages, in order.
pub const STAGES: [&str; 7] = [
    "align",
    "lay",
    "compare",
    "label",
    "stillness",
    "group",
    "learn",
];

/// All that the stages need, warmed up.
pub struct Stages {
    aligner: Aligner,
    layer: Layer,
    picture: Plane,
    model: Samples,
    labels: Plane,
    ballot: Ballot,
    stillness: Stillness,
    restless: Restless,
    finder: Finder,
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
            restless: Restless::new(w, h),
            finder: Finder::default(),
        };
        all.aligner.load(frame);
        all.aligner.assign();
        all.layer.lay(frame, all.aligner.state, &mut all.picture);
        all.model.assign(&all.picture, false);
        all
    }

    /// Runs one stage on a frame, or on what the stages before left.
    pub fn run(&mut self, stage: &str, frame: &GrayFrame<'_>) {
        match stage {
            "align" => {
                self.aligner.load(frame);
                self.aligner.follow();
                self.aligner.learn(0.2, 100);
            }
            "lay" => self.layer.lay(frame, self.aligner.state, &mut self.picture),
            "compare" => self.model.compare(&self.picture, 0),
            "label" => self.ballot.label(&self.model.votes, &mut self.labels),
            "stillness" => {
                let ticks = self.stillness.follow(&self.picture, &self.labels, 0.2);
                self.restless.follow(&self.labels, ticks, 0.2, 1.0);
            }
            "group" => {
                let planes = Planes {
                    labels: &self.labels,
                    votes: &self.model.votes,
                    lively: self.stillness.lively(),
                };
                self.finder.find(planes, |x, y| self.restless.weight(x, y));
            }
            _ => {
                let rates = Rates {
                    own: 40,
                    neighbour: 20,
                };
                self.model.learn(&self.picture, &self.labels, rates);
            }
        }
    }
}
