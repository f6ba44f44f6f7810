//! Decode on demand: which packets of a camera's stream are worth decoding. Pure; time is the pts of what comes.
//!
//! ```text
//!                    judged by four key frames, GOPs short enough
//!   ┌──────────┐ ───────────────────────────────────────────────▶ ┌────────────┐
//!   │ learning │                                                  │ key frames │ ◀─┐ nothing moved for HOLD,
//!   └──────────┘ ◀── a new stream ──                              └────────────┘   │ or CONFIRM without motion
//!                                          key frame or sizes suspicious │         │
//!   ┌────────────────────────┐                                           ▼         │
//!   │ all: GOPs too long,    │ ◀── GOP > LONGEST, or too many ──── ┌─────────┐ ────┘
//!   │ key frames tell little │ ─── short again, tell again ──▶     │ looking │
//!   └────────────────────────┘                                     └─────────┘
//! ```
//!
//! The unit is the *stretch* from one judged key frame to the next. Nothing of a stretch is let go until the key frame
//! that ends it has been judged: where that is suspicious, the caller reads the stretch again from its ring
//! ([`Reads::From`]), so that a movement begins where it began. Guarantees:
//!
//! - a stretch whose key frame is suspicious, or in which the detector sees motion, is decoded, whatever it costs;
//! - looking that finds nothing is bounded: where it takes more than [`BUDGET`] of the time, key frames tell too little
//!   here, everything is decoded instead, and [`Demand::mode`] says so;
//! - a GOP longer than [`LONGEST`] is decoded from its key frame on, the first one too.

mod decoder;
mod judge;
mod pace;
mod reader;
mod replayed;
mod sizes;

use std::time::Duration;

pub use decoder::{ALIKE, Decoders, HANG, Watch, difference, rank};
pub use judge::{Finding, Judge};
pub use pace::Pace;
pub use reader::{Decoder, Fed, Mark, Reader};
pub use replayed::Replayed;
pub use sizes::Sizes;

use crate::config::MotionConfig;
use crate::motion::{GrayFrame, Verdict};
use crate::time::Pts;

/// Longest GOP between whose key frames nothing is missed that lasts a second: 2 s, and a little for cameras that are
/// not exact.
pub const LONGEST: Duration = Duration::from_millis(2250);
/// Key frames that come closer are not judged.
const CLOSEST: Duration = Duration::from_millis(900);
/// Time at the start in which everything is decoded.
const LEARN: Duration = Duration::from_secs(8);
/// Decoded after a suspicious key frame when nothing moves.
const CONFIRM: Duration = Duration::from_millis(1200);
/// Decoded after the last motion.
const HOLD: Duration = Duration::from_millis(2500);
/// Share of the time that may be spent looking without finding.
pub const BUDGET: f32 = 0.25;
/// What may be spent at once, in seconds of the stream.
const PURSE: f32 = 24.0;
/// Least time that everything is decoded where key frames tell too little.
const PAUSE: Duration = Duration::from_secs(60);
/// Key frames tell enough again when a smaller share of the quiet ones is suspicious.
const CALM: f32 = 0.08;
/// A position so much before the newest is a step backwards of the clock, and no picture that comes out of order.
const BACK: Duration = Duration::from_secs(2);
/// Short GOPs in a row after a long one before key frames are trusted, doubled each time up to the most.
const SHORT_GOPS: (u32, u32) = (6, 96);
/// The ring must go back this far, so that a stretch is still there when its key frame has been judged.
pub const REACH: Duration = Duration::from_secs(6);

/// What is decoded, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, while judge and detector learn the scene.
    Learning,
    /// Key frames alone.
    KeyFrames,
    /// Everything, because something may be moving.
    Looking,
    /// Everything, because key frames come too seldom.
    LongGops,
    /// Everything, because too many key frames are suspicious for nothing.
    TellLittle,
}

/// What the caller has to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The key frames for which [`Demand::packet`] says so.
    KeyFrames,
    /// Everything from the key frame at this position on.
    From(Pts),
}

/// The policy for one stream; see the module.
#[derive(Debug, Clone)]
pub struct Demand {
    mode: Mode,
    reads: Reads,
    judge: Judge,
    sizes: Sizes,
    gops: Gops,
    begun: Option<Pts>,
    /// Key frame at which the open stretch begins.
    judged: Option<Pts>,
    /// Newest key frame that was to be decoded alone.
    sent: Option<Pts>,
    look: Look,
    /// Seconds that may be spent for nothing.
    purse: f32,
    /// Newest position.
    last: Option<Pts>,
    since: Pts,
    /// Share of the quiet key frames that were suspicious lately.
    cries: f32,
    last_motion: Option<Pts>,
    warmed: bool,
}

/// The look that goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    from: Pts,
    until: Pts,
    found: bool,
    by_size: bool,
}

/// Lengths of the GOPs.
#[derive(Debug, Clone, Copy)]
struct Gops {
    key: Option<Pts>,
    short: u32,
    needed: u32,
}

impl Demand {
    /// For a camera with these settings; decodes everything at first.
    pub fn new(config: &MotionConfig) -> Demand {
        Demand {
            mode: Mode::Learning,
            reads: Reads::From(Pts(0)),
            judge: Judge::new(config),
            sizes: Sizes::default(),
            gops: Gops {
                key: None,
                short: 0,
                needed: 2,
            },
            begun: None,
            judged: None,
            sent: None,
            look: Look::default(),
            purse: PURSE,
            last: None,
            since: Pts(0),
            cries: 0.0,
            last_motion: None,
            warmed: false,
        }
    }

    /// What is decoded, and why.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What the caller has to decode now; may change with every call.
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// Whether the sizes of pictures are listened to on this camera.
    pub fn sizes_tell(&self) -> bool {
        self.sizes.is_informative()
    }

    /// The next video packet of the stream, decoded or not. True: a key frame that is to be decoded alone.
    pub fn packet(&mut self, pts: Pts, key: bool, bytes: usize) -> bool {
        self.begun.get_or_insert(pts);
        if let Some(last) = self.last {
            let passed = pts.since(last).min(LONGEST).as_secs_f32();
            self.purse = (self.purse + passed * BUDGET).min(PURSE);
            if last.since(pts) > BACK {
                self.go_back(pts);
            }
        }
        self.last = self.last.max(Some(pts));
        if key {
            self.gops.key(pts);
            self.sizes.gop();
        } else {
            let large = self.sizes.picture(pts, bytes);
            if large && self.mode == Mode::KeyFrames {
                self.look(self.judged.unwrap_or(pts), pts, true);
            }
        }
        if self.gops.is_long(pts) && self.mode != Mode::LongGops {
            // What was not decoded of it is decoded now.
            let from = match self.mode {
                Mode::KeyFrames => self.judged.or(self.gops.key).unwrap_or(pts),
                _ => self.judged.unwrap_or(Pts(0)),
            };
            self.enter(Mode::LongGops, pts, Some(from));
        }
        let due = key
            && self.mode == Mode::KeyFrames
            && self
                .sent
                .is_none_or(|sent| pts < sent || pts.since(sent) >= CLOSEST);
        if due {
            self.sent = Some(pts);
        }
        due
    }

    /// A key frame was decoded, in order. True: the detector may see it. False: what came before it is to be seen
    /// first; it comes again ([`Self::reads`]).
    pub fn key_picture(&mut self, frame: &GrayFrame<'_>) -> bool {
        if self.is_from_before(frame.pts) {
            return true;
        }
        let finding = self.judge.observe(frame);
        let suspicious = matches!(finding, Finding::Change(c) if c >= 1.0);
        self.warmed = finding != Finding::Learning;
        let quiet = self
            .last_motion
            .is_none_or(|m| frame.pts < m || frame.pts.since(m) > LONGEST);
        if self.mode == Mode::KeyFrames {
            if suspicious || !self.warmed {
                let from = self.judged.unwrap_or(frame.pts);
                self.look(from, frame.pts, false);
                // The same picture comes again; it has been learned from.
                return from >= frame.pts;
            }
            self.judged = Some(frame.pts);
            self.cries *= 0.9;
            self.sizes.learn();
            return true;
        }
        self.judged = Some(frame.pts);
        if quiet {
            self.cries += (f32::from(u8::from(suspicious)) - self.cries) * 0.1;
            if !suspicious {
                self.sizes.learn();
            }
        }
        if matches!(self.mode, Mode::TellLittle | Mode::LongGops) && quiet {
            // Nobody else tells the judge that the detector has looked.
            self.judge.settle(false);
        }
        self.relax(frame.pts);
        true
    }

    /// What the detector said of the picture at `pts`, key frame or not.
    pub fn verdict(&mut self, pts: Pts, verdict: &Verdict) {
        if self.is_from_before(pts) {
            return;
        }
        let hold = match verdict {
            Verdict::Motion(_) => {
                if self.mode == Mode::Looking && !self.look.by_size && !self.look.found {
                    self.sizes.moved();
                }
                self.last_motion = Some(pts);
                self.look.found = true;
                HOLD
            }
            // The model learns: it needs pictures.
            Verdict::Warming | Verdict::SceneChanged => CONFIRM,
            Verdict::Quiet => Duration::ZERO,
        };
        match self.mode {
            Mode::KeyFrames if hold > Duration::ZERO => {
                self.look(pts, pts, false);
                self.look.found = matches!(verdict, Verdict::Motion(_));
                self.look.until = self.look.until.max(pts + hold);
            }
            Mode::Looking => {
                if hold > Duration::ZERO {
                    self.look.until = self.look.until.max(pts + hold);
                } else if pts >= self.look.until {
                    self.end_look(pts);
                }
            }
            _ => {}
        }
    }

    /// The clock went backwards: positions from before mean nothing, and what was to end then ends soon.
    fn go_back(&mut self, pts: Pts) {
        self.last = None;
        (self.begun, self.since) = (Some(pts), pts);
        (self.judged, self.sent, self.last_motion) = (None, None, None);
        self.gops.key = Some(pts);
        self.look.from = pts;
        self.look.until = pts + CONFIRM;
        if let Reads::From(from) = &mut self.reads {
            *from = pts;
        }
    }

    /// Later than every packet: it was in the decoder when the clock went backwards.
    fn is_from_before(&self, pts: Pts) -> bool {
        self.last.is_some_and(|last| pts > last)
    }

    fn look(&mut self, from: Pts, at: Pts, by_size: bool) {
        self.look = Look {
            from,
            until: at + CONFIRM,
            found: false,
            by_size,
        };
        self.enter(Mode::Looking, at, Some(from));
    }

    fn end_look(&mut self, pts: Pts) {
        let look = self.look;
        self.judge.settle(look.found);
        if look.by_size {
            self.sizes.answered(look.found);
        } else if !look.found {
            self.purse -= pts.since(look.from).as_secs_f32();
        }
        let spent = self.purse < 0.0;
        let mode = if spent {
            Mode::TellLittle
        } else {
            Mode::KeyFrames
        };
        if spent {
            self.cries = 1.0;
            self.purse = PURSE;
        }
        self.enter(mode, pts, None);
    }

    /// Leaves the modes that decode everything where there is no reason left.
    fn relax(&mut self, pts: Pts) {
        let short = self.gops.short >= self.gops.needed;
        let ready = match self.mode {
            Mode::Learning => self.warmed && self.begun.is_some_and(|b| pts.since(b) >= LEARN),
            Mode::LongGops => self.warmed,
            Mode::TellLittle => pts.since(self.since) >= PAUSE && self.cries < CALM,
            Mode::KeyFrames | Mode::Looking => false,
        };
        if ready && short {
            let moved = self.last_motion.map_or(Pts(0), |m| m + HOLD);
            self.look = Look {
                from: pts,
                until: moved.max(pts),
                found: true,
                by_size: false,
            };
            self.enter(Mode::Looking, pts, None);
        }
    }

    fn enter(&mut self, mode: Mode, pts: Pts, from: Option<Pts>) {
        self.mode = mode;
        self.since = pts;
        match (mode, self.reads) {
            (Mode::KeyFrames, _) => self.reads = Reads::KeyFrames,
            (_, Reads::KeyFrames) => self.reads = Reads::From(from.unwrap_or(pts)),
            (_, Reads::From(_)) => {}
        }
    }
}

impl Gops {
    fn key(&mut self, pts: Pts) {
        if let Some(key) = self.key.replace(pts)
            && pts > key
            && pts.since(key) <= LONGEST
        {
            self.short = self.short.saturating_add(1);
        }
    }

    /// The GOP that runs is too long; the first time that is seen it costs trust.
    fn is_long(&mut self, pts: Pts) -> bool {
        let long = self.key.is_some_and(|k| pts.since(k) > LONGEST);
        if long && self.short > 0 {
            self.short = 0;
            self.needed = (self.needed * 2).clamp(SHORT_GOPS.0, SHORT_GOPS.1);
        }
        long
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
