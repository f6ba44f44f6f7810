//! The life of motion events of one camera: verdicts in, [`Action`]s out.
//!
//! ```text
//!            Motion: Start                    Motion: extends, Update at most once a second
//!   ┌──────┐ ─────────────────────▶ ┌────────┐ ──┐
//!   │ idle │                        │ active │ ◀─┘
//!   └──────┘ ◀───────────────────── └────────┘ ──┐ Motion after max_event:
//!            post_roll without motion,      ▲    │ End(Cut) + Start(continues)
//!            gap, stop: End                 └────┘
//! ```
//!
//! Guarantees, whatever the verdicts: starts and ends alternate; events do not overlap; every frame of motion lies in
//! exactly one event's `started_at..=ended_at`; the clip's window holds the event; the same input gives the same output.
//! `Quiet`, `Warming` and `SceneChanged` are all no motion. The camera's task owns the machine and gives the events ids.

use std::time::Duration;

use crate::config::RecordingConfig;
use crate::model::Region;
use crate::motion::{Activity, Verdict};
use crate::time::Pts;

/// Updates of an event are at least this far apart.
pub const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// A peak that rose by less than this is no news.
const PEAK_NEWS: f32 = 0.1;

/// What is known of an event; all but its id and the names of its zones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// 1 at the start, one more with every update and the end.
    pub rev: u32,
    /// Latest score, 0..1.
    pub score: f32,
    /// Highest score so far, 0..1.
    pub peak_score: f32,
    /// What moved in the latest frame of motion, strongest first, at most 8.
    pub regions: Vec<Region>,
    /// Indices of the include zones entered so far, ascending.
    pub zones: Vec<usize>,
}

/// Why an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Nothing moved for the post-roll.
    Quiet,
    /// It reached `max_event`; another event continues it.
    Cut,
    /// The capture session ended.
    CameraLost,
    /// The camera was switched off or the program stops.
    Stopped,
}

impl EndReason {
    /// The word on the wire.
    pub fn code(self) -> &'static str {
        match self {
            EndReason::Quiet => "quiet",
            EndReason::Cut => "cut",
            EndReason::CameraLost => "camera_lost",
            EndReason::Stopped => "stopped",
        }
    }
}

/// What the shell has to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// An event begins: give it an id, open its clip.
    Start {
        /// First frame that moved.
        started_at: Pts,
        /// Where its clip begins: `started_at` less the pre-roll, or the cut.
        clip_from: Pts,
        /// It continues the event that was cut in the same answer.
        continues: bool,
        /// Revision 1.
        facts: Facts,
    },
    /// Something worth telling changed.
    Update {
        /// A higher revision.
        facts: Facts,
    },
    /// The event is over.
    End {
        /// As in its start.
        started_at: Pts,
        /// Last frame that moved.
        ended_at: Pts,
        /// Where its clip ends, at `ended_at` or later.
        clip_until: Pts,
        /// Why.
        reason: EndReason,
        /// The last revision.
        facts: Facts,
    },
}

#[derive(Debug, Clone, PartialEq)]
struct Active {
    started_at: Pts,
    last_motion: Pts,
    facts: Facts,
    told_at: Pts,
    told_peak: f32,
    told_zones: usize,
}

/// Event state of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct EventMachine {
    pre_roll: Duration,
    post_roll: Duration,
    max_event: Duration,
    active: Option<Active>,
    /// Newest position seen in this session.
    now: Pts,
    /// `ended_at` of the latest event of this session.
    covered: Option<Pts>,
}

impl EventMachine {
    /// An idle machine with the camera's times.
    pub fn new(config: &RecordingConfig) -> EventMachine {
        EventMachine {
            pre_roll: config.pre_roll,
            post_roll: config.post_roll,
            max_event: config.max_event,
            active: None,
            now: Pts(0),
            covered: None,
        }
    }

    /// Other times from here on; an event under way goes on with them.
    pub fn retime(&mut self, config: &RecordingConfig) {
        self.pre_roll = config.pre_roll;
        self.post_roll = config.post_roll;
        self.max_event = config.max_event;
    }

    /// Whether an event is under way.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// When [`Self::tick`] would end the event, if nothing moves until then.
    pub fn deadline(&self) -> Option<Pts> {
        self.active.as_ref().map(|a| a.last_motion + self.post_roll)
    }

    /// Takes the verdict on the frame at `pts`. A position before the newest one counts as the newest.
    pub fn observe(&mut self, pts: Pts, verdict: &Verdict) -> Vec<Action> {
        let Verdict::Motion(activity) = verdict else {
            return self.tick(pts);
        };
        self.now = self.now.max(pts);
        let since = activity.since.min(self.now);
        let mut actions = Vec::new();
        if let Some(active) = &self.active {
            let last = active.last_motion;
            if since.since(last) > self.post_roll {
                self.end(EndReason::Quiet, last + self.post_roll, &mut actions);
            } else if self.now > last && self.now.since(active.started_at) >= self.max_event {
                self.end(EndReason::Cut, self.now, &mut actions);
                self.start(self.now, self.now, true, activity, &mut actions);
                return actions;
            }
        }
        match &mut self.active {
            Some(active) => {
                active.last_motion = self.now;
                active.facts.absorb(activity);
                self.tell(&mut actions);
            }
            // A frame at the very position at which the last event ended belongs to that event.
            None if self.covered.is_some_and(|c| self.now <= c) => {}
            None => {
                let free = self.covered.map_or(Pts(0), |c| Pts(c.0.saturating_add(1)));
                let started_at = since.max(free);
                let clip_from = started_at - self.pre_roll;
                self.start(started_at, clip_from, false, activity, &mut actions);
            }
        }
        actions
    }

    /// Lets the stream's position advance without a verdict on motion.
    pub fn tick(&mut self, pts: Pts) -> Vec<Action> {
        self.now = self.now.max(pts);
        let mut actions = Vec::new();
        if let Some(active) = &self.active {
            let last = active.last_motion;
            if self.now.since(last) >= self.post_roll {
                self.end(EndReason::Quiet, last + self.post_roll, &mut actions);
            } else {
                self.tell(&mut actions);
            }
        }
        actions
    }

    /// The capture session ended; positions start anew with the next one.
    pub fn gap(&mut self) -> Vec<Action> {
        self.close(EndReason::CameraLost)
    }

    /// The camera is switched off, reconfigured, or the program stops.
    pub fn stop(&mut self) -> Vec<Action> {
        self.close(EndReason::Stopped)
    }

    fn close(&mut self, reason: EndReason) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(active) = &self.active {
            let until = (active.last_motion + self.post_roll).min(self.now);
            self.end(reason, until, &mut actions);
        }
        self.now = Pts(0);
        self.covered = None;
        actions
    }

    fn start(
        &mut self,
        started_at: Pts,
        clip_from: Pts,
        continues: bool,
        activity: &Activity,
        actions: &mut Vec<Action>,
    ) {
        let mut facts = Facts {
            rev: 1,
            ..Facts::default()
        };
        facts.absorb(activity);
        self.active = Some(Active {
            started_at,
            last_motion: self.now,
            told_at: self.now,
            told_peak: facts.peak_score,
            told_zones: facts.zones.len(),
            facts: facts.clone(),
        });
        actions.push(Action::Start {
            started_at,
            clip_from,
            continues,
            facts,
        });
    }

    /// Ends the active event.
    fn end(&mut self, reason: EndReason, clip_until: Pts, actions: &mut Vec<Action>) {
        let Some(mut active) = self.active.take() else {
            return;
        };
        active.facts.rev += 1;
        self.covered = Some(active.last_motion);
        actions.push(Action::End {
            started_at: active.started_at,
            ended_at: active.last_motion,
            clip_until: clip_until.max(active.last_motion),
            reason,
            facts: active.facts,
        });
    }

    /// Adds an update when there is news and the last one is old enough.
    fn tell(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        let Some(a) = &mut self.active else { return };
        let news =
            a.facts.peak_score >= a.told_peak + PEAK_NEWS || a.facts.zones.len() > a.told_zones;
        if news && now.since(a.told_at) >= UPDATE_EVERY {
            a.told_at = now;
            a.told_peak = a.facts.peak_score;
            a.told_zones = a.facts.zones.len();
            a.facts.rev += 1;
            actions.push(Action::Update {
                facts: a.facts.clone(),
            });
        }
    }
}

impl Facts {
    fn absorb(&mut self, activity: &Activity) {
        self.score = activity.score;
        self.peak_score = self.peak_score.max(activity.score);
        self.regions.clone_from(&activity.regions);
        for zone in &activity.zones {
            if let Err(at) = self.zones.binary_search(zone) {
                self.zones.insert(at, *zone);
            }
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
