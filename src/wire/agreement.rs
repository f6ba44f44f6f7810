//! When two sources agree on the time (T3), so that something may be deleted for its age. Pure.
//!
//! One wrong clock must not empty a disk. The cloud's time (T2) and NTP have to agree, and to have agreed for an hour
//! without a break: a jump of both at once, after a week without power or by an attack, is waited out too.

use std::time::Duration;

use super::skew::Reading;
use crate::time::{Mono, Wall};

/// Further apart than this is no agreement.
const TOLERANCE_US: u64 = 300_000_000;
/// The kernel calls a clock unsynchronised when its error may have grown to 16 s, at 500 ppm.
const NTP_GOOD_FOR: Duration = Duration::from_secs(32_000);
/// So long they have to agree.
const HOLD: Duration = Duration::from_secs(3600);

/// How long the sources have agreed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Since when, and the offset of that moment.
    since: Option<(Mono, i64)>,
}

impl Agreement {
    /// Looks at both sources: the time learned from the cloud, where there is one, and the system clock, which NTP set
    /// right at `ntp`. `true`: this is T3.
    pub fn observe(&mut self, now: Reading, learned: Option<Wall>, ntp: Option<Wall>) -> bool {
        let fresh = ntp.is_some_and(|at| {
            let age_us = now.system.since_us(at);
            // Younger than now, by a little: the clock was slewed back since.
            age_us >= -(TOLERANCE_US as i64) && age_us <= NTP_GOOD_FOR.as_micros() as i64
        });
        let learned = learned.filter(|l| l.since_us(now.system).unsigned_abs() <= TOLERANCE_US);
        let (true, Some(learned)) = (fresh, learned) else {
            self.since = None;
            return false;
        };
        let offset = learned.since_us(Wall(i64::try_from(now.mono.0 / 1000).unwrap_or(i64::MAX)));
        let steady = self
            .since
            .filter(|(_, then)| offset.abs_diff(*then) <= TOLERANCE_US);
        let (since, _) = *self.since.insert(steady.unwrap_or((now.mono, offset)));
        now.mono.since(since) >= HOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: i64 = 1_795_226_400;

    fn at(mono_s: u64, system_s: i64) -> Reading {
        Reading {
            mono: Mono(mono_s * 1_000_000_000),
            system: Wall::from_unix_seconds(system_s),
        }
    }

    fn wall(seconds: i64) -> Option<Wall> {
        Some(Wall::from_unix_seconds(seconds))
    }

    /// Both sources right and fresh at `s` seconds after boot, but for these errors of the system clock and the cloud.
    fn look(agreement: &mut Agreement, s: u64, system_off: i64, cloud_off: i64) -> bool {
        let t = TRUE + s as i64;
        let system = t + system_off;
        agreement.observe(at(s, system), wall(t + cloud_off), wall(system - 60))
    }

    #[test]
    fn an_hour_of_agreement_is_enough_and_less_is_not() {
        let mut agreement = Agreement::default();
        for s in (0..3600).step_by(5) {
            assert!(!look(&mut agreement, s, 0, 0), "{s}");
        }
        assert!(look(&mut agreement, 3600, 0, 0));
        assert!(look(&mut agreement, 9000, 200, 0), "within 300 s");
    }

    #[test]
    fn one_source_alone_never_counts() {
        for (learned, ntp) in [
            (None, wall(TRUE)),
            (wall(TRUE), None),
            (None, None),
            // NTP was lost long ago, or its mark is of a time to come.
            (wall(TRUE), wall(TRUE - 32_001)),
            (wall(TRUE), wall(TRUE + 301)),
            // They contradict each other.
            (wall(TRUE + 301), wall(TRUE)),
            (wall(TRUE - 301), wall(TRUE)),
        ] {
            let mut agreement = Agreement::default();
            for s in [0, 3600, 7200] {
                assert!(
                    !agreement.observe(at(s, TRUE), learned, ntp),
                    "{learned:?} {ntp:?}"
                );
            }
        }
    }

    #[test]
    fn a_break_or_a_jump_of_both_begins_the_hour_anew() {
        let year = 365 * 24 * 3600;
        let mut agreement = Agreement::default();
        look(&mut agreement, 0, 0, 0);
        assert!(look(&mut agreement, 3600, 0, 0));
        assert!(!look(&mut agreement, 3605, 301, 0), "they differ");
        assert!(!look(&mut agreement, 3610, 0, 0));
        assert!(look(&mut agreement, 7210, 0, 0));
        assert!(!look(&mut agreement, 7215, year, year), "both jumped");
        assert!(!look(&mut agreement, 10_810, year, year));
        assert!(look(&mut agreement, 10_815, year, year));
    }

    proptest::proptest! {
        #[test]
        fn no_clock_makes_it_panic(mono: u64, system: i64, learned: i64, ntp: i64, again: i64) {
            let mut agreement = Agreement::default();
            let now = Reading { mono: Mono(mono), system: Wall(system) };
            let first = agreement.observe(now, Some(Wall(learned)), Some(Wall(ntp)));
            proptest::prop_assert!(!first);
            agreement.observe(now, Some(Wall(again)), Some(Wall(ntp)));
        }
    }
}
