//! A recorded clip seen by the live code: the detector, and the event machine with pre-roll and post-roll.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::{MotionConfig, RecordingConfig};
use crate::model::Region;
use crate::motion::{CellDetector, Detector, GrayFrame, Verdict};
use crate::recording::event::{Action, EndReason, EventMachine};
use crate::time::Pts;

/// An event as the live agent would have told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// First frame that moved.
    pub started_at: Pts,
    /// Last frame that moved.
    pub ended_at: Pts,
    /// Where its clip would have begun.
    pub clip_from: Pts,
    /// Where its clip would have ended.
    pub clip_until: Pts,
    /// Why it ended; [`EndReason::Stopped`] where the clip ended first.
    pub reason: EndReason,
    /// It continues the event before it, which was cut.
    pub continues: bool,
    /// Highest score, 0..1.
    pub peak_score: f32,
    /// Position of the frame with that score.
    pub peak_at: Pts,
    /// The largest box of all its frames.
    pub largest: Option<Region>,
    /// Numbers of the tracks that were followed in it, ascending.
    pub tracks: BTreeSet<u32>,
    /// Indices of the include zones entered.
    pub zones: Vec<usize>,
}

impl Seen {
    /// From the first to the last frame that moved.
    pub fn length(&self) -> Duration {
        self.ended_at.since(self.started_at)
    }
}

/// Word for what a frame showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The detector was learning and said nothing.
    Warming,
    /// Nothing moved.
    Quiet,
    /// Something moved.
    Motion,
    /// The picture changed as a whole.
    SceneChanged,
}

/// One judged frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Which frame.
    pub at: Pts,
    /// What it showed.
    pub state: State,
    /// Score of the motion, 0 without.
    pub score: f32,
    /// What moved, strongest first.
    pub regions: Vec<Region>,
}

impl Judged {
    /// What is kept of a verdict.
    pub fn of(at: Pts, verdict: &Verdict) -> Judged {
        let (state, score, regions) = match verdict {
            Verdict::Motion(a) => (State::Motion, a.score, a.regions.clone()),
            Verdict::Warming => (State::Warming, 0.0, Vec::new()),
            Verdict::SceneChanged => (State::SceneChanged, 0.0, Vec::new()),
            Verdict::Quiet => (State::Quiet, 0.0, Vec::new()),
        };
        Judged {
            at,
            state,
            score,
            regions,
        }
    }
}

/// Runs one clip under one set of settings.
pub struct Replay {
    detector: CellDetector,
    machine: EventMachine,
    open: Option<Seen>,
    events: Vec<Seen>,
}

impl Replay {
    /// A detector that has seen nothing, and no event.
    pub fn new(motion: &MotionConfig, recording: &RecordingConfig) -> Replay {
        Replay {
            detector: CellDetector::new(motion),
            machine: EventMachine::new(recording),
            open: None,
            events: Vec::new(),
        }
    }

    /// Judges the next picture.
    pub fn see(&mut self, frame: &GrayFrame<'_>) -> Verdict {
        let verdict = self.detector.observe(frame);
        self.judge(frame.pts, &verdict);
        verdict
    }

    /// Takes a verdict as the camera's task does.
    fn judge(&mut self, at: Pts, verdict: &Verdict) {
        let actions = self.machine.observe(at, verdict);
        self.act(actions, at);
        if let (Some(open), Verdict::Motion(activity)) = (&mut self.open, verdict) {
            if activity.score > open.peak_score {
                open.peak_score = activity.score;
                open.peak_at = at;
            }
            let tracks = activity.regions.iter().filter_map(|r| r.track);
            open.tracks.extend(tracks);
            let area = |r: &Region| r.w * r.h;
            let all = activity.regions.iter().chain(&open.largest);
            open.largest = all.max_by(|a, b| area(a).total_cmp(&area(b))).copied();
        }
    }

    /// Whether an event is under way.
    pub fn is_active(&self) -> bool {
        self.machine.is_active()
    }

    /// The clip is over: its events, in order.
    pub fn finish(mut self) -> Vec<Seen> {
        let actions = self.machine.stop();
        self.act(actions, Pts(0));
        self.events
    }

    fn act(&mut self, actions: Vec<Action>, at: Pts) {
        for action in actions {
            match action {
                Action::Start {
                    started_at,
                    clip_from,
                    continues,
                    ..
                } => {
                    self.open = Some(Seen {
                        started_at,
                        ended_at: started_at,
                        clip_from,
                        clip_until: started_at,
                        reason: EndReason::Stopped,
                        continues,
                        peak_score: -1.0,
                        peak_at: at,
                        largest: None,
                        tracks: BTreeSet::new(),
                        zones: Vec::new(),
                    });
                }
                Action::Update { .. } => {}
                Action::End {
                    ended_at,
                    clip_until,
                    reason,
                    facts,
                    ..
                } => {
                    if let Some(open) = self.open.take() {
                        self.events.push(Seen {
                            ended_at,
                            clip_until,
                            reason,
                            peak_score: facts.peak_score,
                            zones: facts.zones,
                            ..open
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motion::Activity;

    fn ms(n: u64) -> Pts {
        Pts(n * 1_000_000)
    }

    fn motion(at: Pts, score: f32, side: f32) -> Verdict {
        let region = Region {
            x: 0.1,
            y: 0.2,
            w: side,
            h: side,
            ..Region::default()
        };
        Verdict::Motion(Activity {
            score,
            area: side * side,
            regions: vec![region],
            zones: vec![1],
            since: at,
        })
    }

    fn recording() -> RecordingConfig {
        let text = "[[camera]]\nid = \"c\"\ntest = true\n";
        let config = crate::config::Config::parse(text, &|_| Err("none".into())).unwrap();
        config.cameras[0].recording.clone()
    }

    fn replay(verdicts: impl IntoIterator<Item = (u64, Verdict)>) -> Vec<Seen> {
        let config = crate::config::Config::parse("[[camera]]\nid = \"c\"\ntest = true\n", &|_| {
            Err("none".into())
        })
        .unwrap();
        let mut replay = Replay::new(&config.cameras[0].motion, &recording());
        for (at, verdict) in verdicts {
            replay.judge(ms(at), &verdict);
        }
        replay.finish()
    }

    #[test]
    fn an_event_has_its_peak_its_largest_box_and_its_clip() {
        let seen = replay([
            (8_000, Verdict::Quiet),
            (10_000, motion(ms(10_000), 0.2, 0.1)),
            (10_200, motion(ms(10_200), 0.7, 0.05)),
            (10_400, motion(ms(10_400), 0.4, 0.3)),
            (12_000, Verdict::Quiet),
            (16_000, Verdict::Quiet),
        ]);
        let [event] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((event.started_at, event.ended_at), (ms(10_000), ms(10_400)));
        assert_eq!((event.clip_from, event.clip_until), (ms(5_000), ms(15_400)));
        assert_eq!((event.peak_score, event.peak_at), (0.7, ms(10_200)));
        assert_eq!(event.largest.map(|r| r.w), Some(0.3));
        assert_eq!(
            (event.reason, &event.zones[..]),
            (EndReason::Quiet, &[1][..])
        );
    }

    #[test]
    fn a_clip_that_ends_in_motion_ends_the_event_there() {
        let seen = replay((0..10).map(|i| (i * 200, motion(ms(i * 200), 0.5, 0.1))));
        let [event] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (event.reason, event.ended_at),
            (EndReason::Stopped, ms(1_800))
        );
        assert_eq!(event.clip_until, ms(1_800));
    }

    #[test]
    fn an_event_that_is_cut_goes_on_as_another() {
        let verdicts = (0..1_700).map(|i| (i * 200, motion(ms(i * 200), 0.5, 0.1)));
        let seen = replay(verdicts);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].reason, EndReason::Cut);
        assert!(!seen[0].continues && seen[1].continues);
        assert!(seen[0].ended_at < seen[1].started_at);
        assert_eq!(seen[0].clip_until, seen[1].clip_from);
    }
}
