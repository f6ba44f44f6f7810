//! Three kinds of time, three types, so that the compiler keeps them apart.
//!
//! [`Wall`] may step (a Pi without a clock boots in 1970); [`Mono`] never steps and counts through suspend;
//! [`Pts`] is a position in one capture session's stream. `board::clock` is the only place that reads a clock;
//! [`Anchor`] is the only place that maps a [`Pts`] to [`Mono`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z. May step in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// Time since boot, suspend included (CLOCK_BOOTTIME), in nanoseconds. Never steps; means nothing after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// Presentation time stamp: nanoseconds of running time since the capture session's pipeline started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pts(pub u64);

/// How far a [`Wall`] value can be trusted (`timequality` on the wire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeQuality {
    /// T0: no idea of the time; the system clock is before the build time of this program.
    None,
    /// T1: not before this (build time, last trusted time), perhaps much later.
    Floor,
    /// T2 or better: learned from an authenticated answer or agreed with NTP.
    Synced,
}

/// Where running time zero of a capture session lies on the [`Mono`] scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The moment of running time zero.
    pub zero: Mono,
}

impl Anchor {
    /// Maps a stream position to the moment at which it was captured.
    pub fn mono(self, pts: Pts) -> Mono {
        Mono(self.zero.0.saturating_add(pts.0))
    }
}

impl Wall {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Wall = Wall(0);

    /// Whole seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// From whole seconds since 1970.
    pub fn from_unix_seconds(s: i64) -> Wall {
        Wall(s.saturating_mul(1_000_000))
    }

    /// Signed distance `self − other` in microseconds.
    pub fn since_us(self, other: Wall) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// RFC 3339 with milliseconds and `Z`, as the wire wants it.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => format!("{t:.3}"),
            Err(_) => format!(
                "{:.3}",
                if self.0 < 0 {
                    jiff::Timestamp::MIN
                } else {
                    jiff::Timestamp::MAX
                }
            ),
        }
    }

    /// Reads RFC 3339; the offset is honoured.
    pub fn parse_rfc3339(s: &str) -> Option<Wall> {
        s.parse::<jiff::Timestamp>()
            .ok()
            .map(|t| Wall(t.as_microsecond()))
    }
}

impl std::ops::Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, d: Duration) -> Wall {
        Wall(
            self.0
                .saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl std::ops::Sub<Duration> for Wall {
    type Output = Wall;
    fn sub(self, d: Duration) -> Wall {
        Wall(
            self.0
                .saturating_sub(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

macro_rules! nanosecond_scale {
    ($t:ty) => {
        impl $t {
            /// From nanoseconds of the given length.
            pub fn from_duration(d: Duration) -> Self {
                Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
            }

            /// `self − earlier`, zero where `earlier` is later.
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }
        }

        impl std::ops::Add<Duration> for $t {
            type Output = Self;
            fn add(self, d: Duration) -> Self {
                Self(
                    self.0
                        .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
                )
            }
        }

        impl std::ops::Sub<Duration> for $t {
            type Output = Self;
            fn sub(self, d: Duration) -> Self {
                Self(
                    self.0
                        .saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
                )
            }
        }
    };
}
nanosecond_scale!(Mono);
nanosecond_scale!(Pts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_has_milliseconds_and_reads_back() {
        let t = Wall(1_795_226_400_123_000);
        assert_eq!(t.rfc3339(), "2026-11-21T02:00:00.123Z");
        assert_eq!(
            Wall::parse_rfc3339("2026-11-21T03:00:00.123+01:00"),
            Some(t)
        );
        assert_eq!(Wall::EPOCH.rfc3339(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn subtraction_never_wraps() {
        assert_eq!(Pts(5) - Duration::from_secs(1), Pts(0));
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }
}
