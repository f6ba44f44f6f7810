//! What somebody does to the button: edges in, gestures out.
//!
//! ```text
//! short presses ──1.5 s of silence──▶ Counted(n)
//! 3 s, released ──▶ Open
//! 10 s ──▶ HeldLong ──released──▶ Armed ──pressed within 5 s──▶ Reset
//!                                   └──5 s──▶ Disarmed
//! ```
//!
//! A level counts once it has lasted 30 ms, from its own beginning; what bounces faster was never there. When the
//! timers are looked at makes no difference to what comes out.

use std::time::Duration;

use crate::time::Mono;

/// A level that lasts shorter is a bounce.
pub const SETTLE: Duration = Duration::from_millis(30);
/// A press that is released after this opens a window.
pub const OPEN_HOLD: Duration = Duration::from_secs(3);
/// A press of this length arms the factory reset.
pub const RESET_HOLD: Duration = Duration::from_secs(10);
/// So long a second press confirms it.
pub const ARMED_FOR: Duration = Duration::from_secs(5);
/// Silence that ends a count.
pub const GAP: Duration = Duration::from_millis(1500);

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gesture {
    /// A short press, the nth of its row.
    Pressed(u8),
    /// The row ended after so many.
    Counted(u8),
    /// Held for 3 s and released.
    Open,
    /// Held for 10 s by now: letting go arms the reset.
    HeldLong,
    /// Let go after that.
    Armed,
    /// Nobody confirmed.
    Disarmed,
    /// Confirmed: reset to factory state.
    Reset,
}

/// Reads one button.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presses {
    /// The latest level and its beginning.
    raw: bool,
    raw_since: Mono,
    /// The level that has lasted.
    down: Option<Down>,
    count: u8,
    released: Mono,
    armed_until: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Down {
    since: Mono,
    long: bool,
    /// It has had its effect, or began before a count did.
    spent: bool,
}

impl Presses {
    /// The button is at this level now.
    pub fn edge(&mut self, pressed: bool, now: Mono) -> Vec<Gesture> {
        let gestures = self.tick(now);
        if pressed != self.raw {
            self.raw = pressed;
            self.raw_since = now;
        }
        gestures
    }

    /// Looks at the timers; call it at [`Presses::deadline`] or later.
    pub fn tick(&mut self, now: Mono) -> Vec<Gesture> {
        let mut gestures = Vec::new();
        while let Some((at, timer)) = self.next_timer()
            && at <= now
        {
            gestures.extend(self.apply(timer));
        }
        gestures
    }

    /// When something happens by itself.
    pub fn deadline(&self) -> Option<Mono> {
        self.next_timer().map(|(at, _)| at)
    }

    /// Counts from nothing: what was pressed before this does not count, nor does what is held down now.
    pub fn begin_count(&mut self) {
        self.count = 0;
        if let Some(down) = &mut self.down {
            down.spent = true;
        }
    }

    fn next_timer(&self) -> Option<(Mono, Timer)> {
        let settling = (self.raw != self.down.is_some()).then_some(self.raw_since);
        // What began in time is waited for, although it has not settled in time.
        let unless_settling = |limit: Mono| settling.is_none_or(|since| since > limit);
        let settle = settling.map(|since| (since + SETTLE, Timer::Settle));
        let long = self
            .down
            .filter(|d| !d.long && !d.spent && unless_settling(d.since + RESET_HOLD))
            .map(|d| (d.since + RESET_HOLD, Timer::Long));
        let gap_ends = self.released + GAP;
        let count = (self.count > 0 && self.down.is_none() && unless_settling(gap_ends))
            .then_some((gap_ends, Timer::Count));
        let disarm = self
            .armed_until
            .filter(|until| unless_settling(*until))
            .map(|until| (until, Timer::Disarm));
        [settle, long, count, disarm]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn apply(&mut self, timer: Timer) -> Option<Gesture> {
        match timer {
            Timer::Settle if self.raw => self.pressed(self.raw_since),
            Timer::Settle => self.released(self.raw_since),
            Timer::Long => {
                self.down.as_mut()?.long = true;
                self.count = 0;
                Some(Gesture::HeldLong)
            }
            Timer::Count => Some(Gesture::Counted(std::mem::take(&mut self.count))),
            Timer::Disarm => {
                self.armed_until = None;
                Some(Gesture::Disarmed)
            }
        }
    }

    fn pressed(&mut self, at: Mono) -> Option<Gesture> {
        let confirms = self.armed_until.take().is_some();
        self.down = Some(Down {
            since: at,
            long: false,
            spent: confirms,
        });
        confirms.then_some(Gesture::Reset)
    }

    fn released(&mut self, at: Mono) -> Option<Gesture> {
        let down = self.down.take()?;
        self.released = at;
        if down.spent {
            return None;
        }
        if down.long {
            self.armed_until = Some(at + ARMED_FOR);
            return Some(Gesture::Armed);
        }
        if at.since(down.since) >= OPEN_HOLD {
            self.count = 0;
            return Some(Gesture::Open);
        }
        self.count = self.count.saturating_add(1);
        Some(Gesture::Pressed(self.count))
    }
}

#[derive(Debug, Clone, Copy)]
enum Timer {
    Settle,
    Long,
    Count,
    Disarm,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Gesture::*;
    use super::*;

    fn ms(n: u64) -> Mono {
        Mono((1000 + n) * 1_000_000)
    }

    /// Milliseconds of the longest press of these levels and their beginnings, without what bounces.
    fn longest_press(levels: &[(bool, u64)], now: u64) -> u64 {
        let mut changes = levels.to_vec();
        changes.dedup_by_key(|(level, _)| *level);
        let ends: Vec<u64> = changes.iter().skip(1).map(|c| c.1).chain([now]).collect();
        let mut settled: Vec<(bool, u64)> = changes
            .into_iter()
            .zip(ends)
            .filter(|((_, begin), end)| ms(*end).since(ms(*begin)) >= SETTLE)
            .map(|(change, _)| change)
            .collect();
        settled.dedup_by_key(|(level, _)| *level);
        let ends = settled.iter().skip(1).map(|c| c.1).chain([now]);
        let presses = settled.iter().zip(ends).filter(|((level, _), _)| *level);
        presses
            .map(|((_, begin), end)| end - begin)
            .max()
            .unwrap_or(0)
    }

    /// Gestures of presses, given as (begin, end) in milliseconds, looked at only at the edges and at the end.
    fn gestures(presses: &[(u64, u64)]) -> Vec<Gesture> {
        let mut button = Presses::default();
        let mut out = Vec::new();
        for (begin, end) in presses {
            out.extend(button.edge(true, ms(*begin)));
            out.extend(button.edge(false, ms(*end)));
        }
        let last = presses.last().map_or(0, |p| p.1);
        out.extend(button.tick(ms(last + 60_000)));
        out
    }

    #[test]
    fn three_seconds_open_and_less_is_a_press() {
        assert_eq!(gestures(&[(0, 3000)]), [Open]);
        assert_eq!(gestures(&[(0, 9999)]), [Open]);
        assert_eq!(gestures(&[(0, 2999)]), [Pressed(1), Counted(1)]);
        assert_eq!(gestures(&[(0, 10)]), []);
    }

    #[test]
    fn presses_are_counted_until_a_gap() {
        let row = [(0, 100), (400, 500), (1999, 2100)];
        let counted = [Pressed(1), Pressed(2), Pressed(3), Counted(3)];
        assert_eq!(gestures(&row), counted);
        let apart = [(0, 100), (1601, 1700)];
        assert_eq!(
            gestures(&apart),
            [Pressed(1), Counted(1), Pressed(1), Counted(1)]
        );
        assert_eq!(gestures(&[(0, 100), (500, 4000)]), [Pressed(1), Open]);
    }

    #[test]
    fn ten_seconds_arm_and_a_second_press_within_five_resets() {
        assert_eq!(gestures(&[(0, 10_100)]), [HeldLong, Armed, Disarmed]);
        let confirmed = [(0, 10_100), (15_099, 15_300)];
        assert_eq!(gestures(&confirmed), [HeldLong, Armed, Reset]);
        let late = [(0, 10_100), (15_101, 15_300)];
        assert_eq!(
            gestures(&late),
            [HeldLong, Armed, Disarmed, Pressed(1), Counted(1)]
        );
    }

    #[test]
    fn a_count_begins_from_nothing() {
        let mut button = Presses::default();
        button.edge(true, ms(0));
        button.edge(false, ms(100));
        assert_eq!(button.edge(true, ms(300)), [Pressed(1)]);
        assert_eq!(button.tick(ms(400)), []);
        button.begin_count();
        button.edge(false, ms(500));
        button.edge(true, ms(700));
        button.edge(false, ms(900));
        assert_eq!(button.tick(ms(5000)), [Pressed(1), Counted(1)]);
    }

    /// Presses of some length with some pause between, as (press, pause) in milliseconds.
    fn presses() -> impl Strategy<Value = Vec<(u64, u64)>> {
        proptest::collection::vec((100u64..12_000, 100u64..7_000), 1..12)
    }

    proptest! {
        #[test]
        fn bounces_change_nothing(presses in presses(), bounces in proptest::collection::vec(1u64..12, 0..4)) {
            let run = |bounces: &[u64]| {
                let mut button = Presses::default();
                let (mut out, mut at) = (Vec::new(), 0);
                for (press, pause) in &presses {
                    for (level, stays) in [(true, press), (false, pause)] {
                        let mut t = at;
                        // Every bounce ends before the level that it bounces to could settle.
                        for b in bounces {
                            out.extend(button.edge(level, ms(t)));
                            out.extend(button.edge(!level, ms(t + b)));
                            t += 2 * b;
                        }
                        // The level counts from where it lasts: give every run the same moment.
                        t = at + 96;
                        out.extend(button.edge(level, ms(t)));
                        at += stays + 96;
                    }
                }
                out.extend(button.tick(ms(at + 60_000)));
                out
            };
            prop_assert_eq!(run(&bounces), run(&[]));
        }

        #[test]
        fn when_the_timers_are_looked_at_makes_no_difference(presses in presses(), every in 1u64..700) {
            let mut seldom = Vec::new();
            let mut often = Vec::new();
            let (mut a, mut b) = (Presses::default(), Presses::default());
            let mut at = 0;
            let mut looked = 0;
            for (press, pause) in presses {
                for (level, stays) in [(true, press), (false, pause)] {
                    while looked < at {
                        often.extend(b.tick(ms(looked)));
                        looked += every;
                    }
                    seldom.extend(a.edge(level, ms(at)));
                    often.extend(b.edge(level, ms(at)));
                    at += stays;
                }
            }
            seldom.extend(a.tick(ms(at + 60_000)));
            often.extend(b.tick(ms(at + 60_000)));
            prop_assert_eq!(seldom, often);
        }

        #[test]
        fn a_reset_needs_ten_seconds_and_a_second_press(edges in proptest::collection::vec((any::<bool>(), 0u64..11_000), 0..60)) {
            let mut button = Presses::default();
            let (mut at, mut levels) = (0, vec![(false, 0)]);
            let mut armed = 0;
            let mut counted = 0u32;
            let mut pressed = 0u32;
            for (level, later) in edges {
                for gesture in button.edge(level, ms(at)) {
                    match gesture {
                        Armed => armed += 1,
                        Reset => { prop_assert!(armed > 0 && longest_press(&levels, at) >= 10_000); armed = 0; }
                        Disarmed => armed = 0,
                        Pressed(_) => pressed += 1,
                        Counted(n) => counted += u32::from(n),
                        Open | HeldLong => {}
                    }
                }
                levels.push((level, at));
                at += later;
            }
            prop_assert!(counted <= pressed);
        }

        #[test]
        fn any_order_of_times_is_survived(edges in proptest::collection::vec((any::<bool>(), any::<u64>()), 0..50)) {
            let mut button = Presses::default();
            for (level, at) in edges {
                button.edge(level, Mono(at));
                button.tick(Mono(at));
            }
        }
    }
}
