//! A reader as the agent has it, and a made-up decoder; what it asserts holds after every call of the policy.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::demand::*;
use crate::media::pace::Pace;
use crate::motion::Activity;
use crate::motion::synthetic::config;
use crate::recording::ring::{Item, Limits, Ring};

const WIDTH: usize = 64;
const HEIGHT: usize = 36;
/// Small, so that huge pictures overflow it.
const RING_BYTES: usize = 4 << 20;
/// Packets in the decoder, as the agent's reader allows.
const AHEAD: usize = 24;

/// A packet, and what a detector would say of its picture.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    pub at: Pts,
    pub key: bool,
    pub bytes: usize,
    pub body: u8,
    pub left: usize,
    pub says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Says {
    Quiet,
    Motion,
    SceneChanged,
    Warming,
}

impl Item for Shot {
    fn pts(&self) -> Pts {
        self.at
    }
    fn is_video(&self) -> bool {
        true
    }
    fn is_video_key(&self) -> bool {
        self.key
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A packet so many nanoseconds after the last one, or before it.
    Packet(i64, Shot),
    /// For so many packets the decoder puts out this many pictures a packet; 0: its verdicts are late, or never come.
    Speed(u32, usize),
    /// Another decoder: what is in this one is gone.
    Replaced,
    /// Another stream.
    Stream,
}

pub struct Shell {
    ring: Ring<Shot>,
    pub demand: Demand,
    cursor: Option<u64>,
    rewind: bool,
    run: u64,
    seen: Option<Pts>,
    /// The decoder: chosen pictures that are under way, each with its run.
    inside: VecDeque<(u64, Shot)>,
    needs_key: bool,
    pace: Pace,
    pub speed: (u32, usize),
    clock: Pts,
    /// Newest key frame of the stream.
    key: Option<Pts>,
    mode: Mode,
    pub packets: u64,
    pub decoded: u64,
}

impl Shell {
    pub fn new() -> Shell {
        Shell {
            ring: Ring::new(Limits {
                pre_roll: REACH,
                max_bytes: RING_BYTES,
            }),
            demand: Demand::new(&config(5)),
            cursor: None,
            rewind: true,
            run: 0,
            seen: None,
            inside: VecDeque::new(),
            needs_key: true,
            pace: Pace::new(5.0),
            speed: (0, 1),
            clock: Pts(0),
            key: None,
            mode: Mode::Learning,
            packets: 0,
            decoded: 0,
        }
    }

    /// Only the transitions of the module's picture; what is to be read follows from the mode; the purse is bounded.
    pub fn check(&mut self) -> Result<(), TestCaseError> {
        use Mode::*;
        let (from, to) = (self.mode, self.demand.mode());
        let allowed = match from {
            Learning => matches!(to, Looking | LongGops),
            KeyFrames => matches!(to, Looking | LongGops),
            Looking => matches!(to, KeyFrames | TellLittle | LongGops),
            TellLittle => matches!(to, Looking | LongGops),
            LongGops => to == Looking,
        };
        prop_assert!(from == to || allowed, "{:?} to {:?}", from, to);
        self.mode = to;
        let alone = self.demand.reads() == Reads::KeyFrames;
        prop_assert_eq!(alone, to == KeyFrames);
        prop_assert!(self.demand.purse <= PURSE && self.demand.purse.is_finite());
        prop_assert!((0.0..=1.0).contains(&self.demand.cries));
        prop_assert!(self.ring.bytes() <= RING_BYTES && self.inside.len() <= AHEAD + 1);
        Ok(())
    }

    fn follow(&mut self) {
        match self.demand.reads() {
            Reads::KeyFrames => self.cursor = None,
            Reads::From(from) if self.cursor.is_none() => {
                self.cursor = self.ring.number_of_key(from);
                self.rewind = true;
            }
            Reads::From(_) => {}
        }
    }

    fn restart(&mut self) {
        if self.cursor.is_some() {
            self.cursor = self.ring.number_of_key(self.seen.unwrap_or(Pts(0)));
        }
        self.rewind = true;
    }

    fn packet(&mut self, shot: Shot) -> Result<(), TestCaseError> {
        let resets = self.ring.losses().resets;
        self.ring.push(shot);
        if self.ring.losses().resets != resets {
            self.seen = None;
            self.restart();
        }
        let alone = self.demand.packet(shot.at, shot.key, shot.bytes);
        prop_assert!(!alone || (shot.key && self.demand.mode() == Mode::KeyFrames));
        self.check()?;
        self.packets += 1;
        if shot.key {
            self.key = Some(shot.at);
        }
        if self.key.is_some_and(|key| shot.at.since(key) > LONGEST) {
            prop_assert_eq!(
                self.demand.mode(),
                Mode::LongGops,
                "key frames come too seldom"
            );
        }
        self.follow();
        if alone && self.cursor.is_none() {
            self.give(shot);
            self.needs_key = true;
        }
        self.work()
    }

    /// As the sampler: whole GOPs from a key frame on, pictures that are due.
    fn give(&mut self, shot: Shot) {
        if std::mem::take(&mut self.rewind) {
            self.run += 1;
            self.needs_key = true;
            self.pace.restart();
        }
        if self.needs_key && !shot.key {
            return;
        }
        self.needs_key = false;
        self.decoded += 1;
        if shot.key && self.pace.key_due(shot.at) {
            self.pace.take_key(shot.at);
        } else if self.pace.due(shot.at) {
            self.pace.take(shot.at);
        } else {
            return;
        }
        self.inside.push_back((self.run, shot));
    }

    /// Lets the decoder do what it does in the time of a packet.
    fn work(&mut self) -> Result<(), TestCaseError> {
        let pictures = if self.speed.0 > 0 {
            self.speed.1
        } else {
            usize::MAX
        };
        self.speed.0 = self.speed.0.saturating_sub(1);
        let mut done = 0;
        loop {
            self.feed();
            if done == pictures {
                return Ok(());
            }
            let Some((run, shot)) = self.inside.pop_front() else {
                return Ok(());
            };
            done += 1;
            self.picture(run, shot)?;
        }
    }

    fn feed(&mut self) {
        if let Some(cursor) = self.cursor
            && let Some((_, next)) = self.ring.at(cursor)
            && self.ring.newest().is_some_and(|n| n.since(next.at) > REACH)
            && let Some(newest) = self.ring.number_of_key(Pts(u64::MAX))
            && newest > cursor
        {
            (self.cursor, self.rewind) = (Some(newest), true);
        }
        while let Some(cursor) = self.cursor
            && self.inside.len() < AHEAD
        {
            let Some((number, shot)) = self.ring.at(cursor) else {
                break;
            };
            let shot = *shot;
            self.rewind |= number != cursor;
            self.cursor = Some(number + 1);
            self.give(shot);
        }
    }

    fn picture(&mut self, run: u64, shot: Shot) -> Result<(), TestCaseError> {
        if self.rewind || run != self.run || self.seen.is_some_and(|seen| shot.at <= seen) {
            return Ok(());
        }
        let mut luma = vec![100; WIDTH * HEIGHT];
        for row in luma.chunks_mut(WIDTH).skip(8).take(12) {
            row[shot.left..shot.left + 12].fill(shot.body);
        }
        let frame = GrayFrame {
            luma: &luma,
            width: WIDTH,
            height: HEIGHT,
            stride: WIDTH,
            pts: shot.at,
        };
        if shot.key {
            let accepted = self.demand.key_picture(&frame);
            self.check()?;
            if !accepted {
                self.held_back(shot.at)?;
                self.follow();
                return Ok(());
            }
        }
        self.seen = Some(shot.at);
        self.follow();
        let verdict = match shot.says {
            Says::Quiet => Verdict::Quiet,
            Says::SceneChanged => Verdict::SceneChanged,
            Says::Warming => Verdict::Warming,
            Says::Motion => Verdict::Motion(Activity {
                score: 0.5,
                area: 0.1,
                regions: Vec::new(),
                zones: Vec::new(),
                since: shot.at,
            }),
        };
        self.demand.verdict(shot.at, &verdict);
        self.check()?;
        if shot.says == Says::Motion {
            prop_assert!(self.mode != Mode::KeyFrames, "motion is looked at");
        }
        self.follow();
        Ok(())
    }

    /// A suspicious key frame: what lies before it is read again, from a key frame that the ring still has unless the
    /// decoder was late or the ring overflowed.
    fn held_back(&self, at: Pts) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.mode, Mode::Looking);
        let Reads::From(from) = self.demand.reads() else {
            return Err(TestCaseError::fail("suspicion without a look"));
        };
        prop_assert!(from < at, "{:?} {:?}", from, at);
        let Some(newest) = self.ring.newest() else {
            return Ok(());
        };
        if newest.since(at) <= Duration::from_secs(2) && self.ring.losses().gops == 0 {
            let number = self.ring.number_of_key(from).expect("it holds pictures");
            let (_, key) = self.ring.at(number).expect("it is there");
            prop_assert!(
                key.key && key.at <= from,
                "{:?} has gone, {:?} is the oldest",
                from,
                key.at
            );
        }
        Ok(())
    }

    pub fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Packet(by, shot) => {
                let at = self.clock.0.saturating_add_signed(by).min(1 << 62);
                self.clock = Pts(at);
                self.packet(Shot {
                    at: self.clock,
                    ..shot
                })
            }
            Step::Speed(packets, pictures) => {
                self.speed = (packets, pictures);
                Ok(())
            }
            Step::Replaced => {
                self.inside.clear();
                self.restart();
                Ok(())
            }
            Step::Stream => {
                let clock = self.clock;
                *self = Shell {
                    clock,
                    ..Shell::new()
                };
                Ok(())
            }
        }
    }
}
