//! What the cloud's answers teach about time: the offset between trusted time and CLOCK_BOOTTIME, and how far to
//! trust it. The system clock is never set. Pure: readings come as arguments.
//!
//! ```text
//! T0 none ──(system clock ≥ floor)──▶ T1 floor ──(Date of a verified, fresh, quick answer)──▶ T2 synced
//! ```
//!
//! Follows what the AWS SDKs do for skew: an answer that went through a cache (`Age`) or took long teaches nothing,
//! an offset that has become stale is corrected silently.

use std::time::Duration;

use super::envelope::BootClock;
use crate::time::{Mono, TimeQuality, Wall};

/// An answer that took longer than this teaches nothing about time.
pub const MAX_ROUND_TRIP: Duration = Duration::from_secs(30);
/// `Date` counts whole seconds; within this the present offset is kept and the better clock is not disturbed.
const TOLERANCE_US: i64 = 2_500_000;

/// One reading of both local clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// CLOCK_BOOTTIME.
    pub mono: Mono,
    /// The system's wall clock, which may be wrong.
    pub system: Wall,
}

impl Reading {
    fn system_offset_us(self) -> i64 {
        self.system.0.saturating_sub(boot_us(self.mono))
    }
}

/// When an answer's `Date` was made, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateSample {
    /// `Date` of the answer.
    pub date: Wall,
    /// The request left.
    pub sent: Mono,
    /// The answer's head came.
    pub received: Mono,
    /// `Age` was present: a cache answered.
    pub cached: bool,
}

/// What a sample changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Cached, too slow, or older than this program: it says nothing.
    Ignored,
    /// It confirms what is known.
    Confirmed,
    /// The first trusted time of this boot, or a correction of it, in microseconds.
    Moved { by_us: i64 },
}

/// Trusted time of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedClock {
    /// Build time or the last trusted time on disk: what a device without a clock starts from.
    floor: Wall,
    /// Build time: the truth is never before this.
    oldest: Wall,
    learned_offset_us: Option<i64>,
}

impl TrustedClock {
    /// Knows only that it cannot be earlier than `oldest`, the build time.
    pub fn new(oldest: Wall) -> Self {
        Self {
            floor: oldest,
            oldest,
            learned_offset_us: None,
        }
    }

    /// The last run trusted this time. It was learned from an answer, so an answer can correct it.
    pub fn raise_floor(&mut self, floor: Wall) {
        self.floor = self.floor.max(floor);
    }

    /// What is known of this boot's clock now.
    pub fn boot_clock(&self, now: Reading) -> BootClock {
        match self.learned_offset_us {
            Some(offset_us) => BootClock {
                offset_us,
                quality: TimeQuality::Synced,
            },
            None if now.system >= self.floor => BootClock {
                offset_us: now.system_offset_us(),
                quality: TimeQuality::Floor,
            },
            None => BootClock {
                offset_us: self.floor.0.saturating_sub(boot_us(now.mono)),
                quality: TimeQuality::None,
            },
        }
    }

    /// Best idea of the time.
    pub fn now(&self, now: Reading) -> Wall {
        self.boot_clock(now).wall(now.mono)
    }

    /// Whether requests may be signed as they are: T2 or better.
    pub fn is_synced(&self) -> bool {
        self.learned_offset_us.is_some()
    }

    /// Learns from a TLS-verified answer. Where the system clock agrees with `Date` it is the finer clock and is used.
    pub fn learn(&mut self, sample: DateSample, now: Reading) -> Learned {
        let round_trip = sample.received.since(sample.sent);
        if sample.cached || round_trip > MAX_ROUND_TRIP || sample.date < self.oldest {
            return Learned::Ignored;
        }
        let half_trip_us = i64::try_from(round_trip.as_micros() / 2).unwrap_or(0);
        // `Date` is cut to the second, so on average it is half a second behind.
        let estimate = sample.date.0 + 500_000 + half_trip_us - boot_us(sample.received);
        let tolerance = TOLERANCE_US + half_trip_us;
        let before = self.learned_offset_us;
        if before.is_some_and(|offset| (estimate - offset).abs() <= tolerance) {
            return Learned::Confirmed;
        }
        let system = now.system_offset_us();
        let offset = if (estimate - system).abs() <= tolerance {
            system
        } else {
            estimate
        };
        self.learned_offset_us = Some(offset);
        Learned::Moved {
            by_us: offset.saturating_sub(before.unwrap_or(system)),
        }
    }
}

fn boot_us(mono: Mono) -> i64 {
    i64::try_from(mono.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Wall = Wall(1_790_000_000_000_000);
    const TRUE: i64 = 1_795_226_400;

    fn at(mono_s: u64, system_s: i64) -> Reading {
        Reading {
            mono: Mono(mono_s * 1_000_000_000),
            system: Wall::from_unix_seconds(system_s),
        }
    }

    fn sample(date_s: i64, sent_s: u64, received_s: u64) -> DateSample {
        DateSample {
            date: Wall::from_unix_seconds(date_s),
            sent: Mono(sent_s * 1_000_000_000),
            received: Mono(received_s * 1_000_000_000),
            cached: false,
        }
    }

    #[test]
    fn a_floor_that_a_wrong_cloud_raised_gives_way_down_to_the_build_time() {
        let mut clock = TrustedClock::new(FLOOR);
        clock.raise_floor(Wall::from_unix_seconds(TRUE + 10 * 365 * 86_400));
        let now = at(10, TRUE);
        assert!(clock.now(now).unix_seconds() > TRUE);
        let moved = clock.learn(sample(TRUE, 10, 10), now);
        assert!(matches!(moved, Learned::Moved { .. }));
        assert_eq!(clock.now(now).unix_seconds(), TRUE);
        let ancient = sample(FLOOR.unix_seconds() - 1, 10, 10);
        assert_eq!(clock.learn(ancient, now), Learned::Ignored);
    }

    #[test]
    fn a_boot_in_1970_starts_at_the_floor_and_learns() {
        let mut clock = TrustedClock::new(FLOOR);
        let now = at(10, 10);
        assert_eq!(clock.boot_clock(now).quality, TimeQuality::None);
        assert_eq!(clock.now(now), FLOOR);
        assert!(matches!(
            clock.learn(sample(TRUE, 10, 10), now),
            Learned::Moved { .. }
        ));
        assert!(clock.is_synced());
        assert_eq!(clock.now(at(10, 10)).unix_seconds(), TRUE);
        assert_eq!(clock.now(at(70, 70)).unix_seconds(), TRUE + 60);
    }

    #[test]
    fn a_good_system_clock_is_kept_for_its_resolution() {
        let mut clock = TrustedClock::new(FLOOR);
        let now = Reading {
            mono: Mono(10_000_000_000),
            system: Wall(TRUE * 1_000_000 + 123_456),
        };
        clock.learn(sample(TRUE, 10, 10), now);
        assert_eq!(clock.now(now), now.system);
    }

    #[test]
    fn what_teaches_nothing_is_ignored() {
        let mut clock = TrustedClock::new(FLOOR);
        let now = at(100, TRUE - 86_400);
        let cached = DateSample {
            cached: true,
            ..sample(TRUE, 10, 10)
        };
        assert_eq!(clock.learn(cached, now), Learned::Ignored);
        assert_eq!(clock.learn(sample(TRUE, 10, 41), now), Learned::Ignored);
        assert_eq!(clock.learn(sample(1_000, 10, 10), now), Learned::Ignored);
        assert!(!clock.is_synced());
    }

    #[test]
    fn skew_cases() {
        // (system − true, seconds), expected correction in seconds.
        for (skew, corrected) in [
            (0, false),
            (2, false),
            (-2, false),
            (30, true),
            (240, true),
            (-3_600, true),
            (86_400 * 365, true),
        ] {
            let mut clock = TrustedClock::new(FLOOR);
            let now = at(10, TRUE + skew);
            clock.learn(sample(TRUE, 10, 10), now);
            let error = clock.now(now).unix_seconds() - TRUE;
            assert_eq!(error, if corrected { 0 } else { skew }, "skew {skew}");
        }
    }

    #[test]
    fn a_stale_offset_is_corrected_and_a_good_one_is_kept() {
        let mut clock = TrustedClock::new(FLOOR);
        clock.learn(sample(TRUE, 10, 10), at(10, 10));
        assert_eq!(
            clock.learn(sample(TRUE + 61, 70, 70), at(70, 70)),
            Learned::Confirmed
        );
        let moved = clock.learn(sample(TRUE + 600, 130, 130), at(130, 130));
        assert_eq!(moved, Learned::Moved { by_us: 480_000_000 });
    }

    #[test]
    fn a_stepping_system_clock_does_not_move_synced_time() {
        let mut clock = TrustedClock::new(FLOOR);
        clock.learn(sample(TRUE, 10, 10), at(10, TRUE));
        assert_eq!(clock.now(at(20, 0)).unix_seconds(), TRUE + 10);
    }
}
