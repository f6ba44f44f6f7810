//! Whether a file may leave now: policy of its camera, quiet hours, a metered line, the budget of the day.
//!
//! What a person asked for waits for nothing but policy `none`. Quiet hours and a metered line hold back clips; pictures are
//! small and are what an alarm needs. A spent budget holds back both: it is money. It is looked at before each part, so it
//! is exceeded by one part at most, and a file larger than a day's budget goes over several days.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::order::Class;
use crate::config::{Hours, UploadConfig, UploadPolicy};
use crate::time::Wall;

/// What a file is, as policies see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// A clip of motion.
    Motion,
    /// A recording on command.
    Manual,
    /// A segment of continuous footage.
    Continuous,
    /// A picture.
    Picture,
}

impl What {
    /// All of them.
    pub const ALL: [What; 4] = [What::Motion, What::Manual, What::Continuous, What::Picture];

    /// `recordings.mode`, and a word for pictures.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Motion => "motion",
            What::Manual => "manual",
            What::Continuous => "continuous",
            What::Picture => "picture",
        }
    }
}

/// Whether it goes without being asked for.
pub fn wanted(policy: UploadPolicy, what: What) -> bool {
    match policy {
        UploadPolicy::All => true,
        UploadPolicy::Events => what != What::Continuous,
        UploadPolicy::OnDemand => matches!(what, What::Manual | What::Picture),
        UploadPolicy::None => false,
    }
}

/// Why something waits; the word in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The day's bytes are spent.
    Budget,
    /// The line is paid by the byte.
    Metered,
    /// The hour.
    QuietHours,
}

/// What holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// It is a quiet hour.
    pub quiet: bool,
    /// The line is metered.
    pub metered: bool,
    /// The budget of the day is spent.
    pub spent: bool,
}

impl Line {
    /// What holds at `now`, with so many bytes sent today.
    pub fn at(now: Wall, zone: &TimeZone, config: &UploadConfig, sent_today: u64) -> Line {
        Line {
            quiet: is_quiet(now, zone, &config.quiet_hours),
            metered: config.metered,
            spent: config.daily_budget.is_some_and(|b| sent_today >= b.0),
        }
    }

    /// Why a file of this class must wait.
    pub fn holds(&self, class: Class) -> Option<Held> {
        match class {
            Class::Asked => None,
            _ if self.spent => Some(Held::Budget),
            Class::Picture => None,
            Class::Event | Class::Footage if self.metered => Some(Held::Metered),
            Class::Event | Class::Footage => self.quiet.then_some(Held::QuietHours),
        }
    }
}

/// Whether `now` lies in one of the hours, by the clock on the wall there.
pub fn is_quiet(now: Wall, zone: &TimeZone, hours: &[Hours]) -> bool {
    let Some(at) = civil(now, zone) else {
        return false;
    };
    let minute = at.hour() as u16 * 60 + at.minute() as u16;
    hours.iter().any(|h| {
        if h.from < h.to {
            (h.from..h.to).contains(&minute)
        } else {
            minute >= h.from || minute < h.to
        }
    })
}

/// The day whose budget counts.
pub fn day(now: Wall, zone: &TimeZone) -> Date {
    civil(now, zone).map_or(Date::ZERO, |at| at.date())
}

fn civil(now: Wall, zone: &TimeZone) -> Option<jiff::civil::DateTime> {
    let at = jiff::Timestamp::from_microsecond(now.0).ok()?;
    Some(zone.to_datetime(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::ByteSize;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn at(text: &str) -> Wall {
        Wall::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn quiet_hours_are_those_of_the_clock_on_the_wall_also_over_midnight_and_summer_time() {
        let evening = [Hours {
            from: 18 * 60,
            to: 23 * 60,
        }];
        let night = [Hours {
            from: 22 * 60,
            to: 6 * 60,
        }];
        let quiet = |t: &str, hours: &[Hours]| is_quiet(at(t), &berlin(), hours);
        assert!(
            quiet("2026-01-10T17:00:00Z", &evening) && !quiet("2026-01-10T16:59:59Z", &evening)
        );
        assert!(
            quiet("2026-07-10T16:00:00Z", &evening),
            "summer time is an hour earlier"
        );
        assert!(!quiet("2026-07-10T21:00:00Z", &evening));
        assert!(quiet("2026-01-10T23:00:00Z", &night) && quiet("2026-01-11T04:59:00Z", &night));
        assert!(!quiet("2026-01-11T05:00:00Z", &night));
        // The hour that does not exist, and the one that is there twice.
        let two = [Hours { from: 120, to: 180 }];
        assert!(!quiet("2026-03-29T01:30:00Z", &two));
        assert!(quiet("2026-10-25T00:30:00Z", &two) && quiet("2026-10-25T01:30:00Z", &two));
        assert_eq!(
            day(at("2026-01-10T23:30:00Z"), &berlin()).to_string(),
            "2026-01-11"
        );
    }

    #[test]
    fn what_waits_for_what() {
        let free = Line::default();
        assert!(Class::ALL.iter().all(|c| free.holds(*c).is_none()));
        let held = |line: Line| Class::ALL.map(|c| line.holds(c));
        let q = Some(Held::QuietHours);
        assert_eq!(
            held(Line {
                quiet: true,
                ..free
            }),
            [None, None, q, q]
        );
        let m = Some(Held::Metered);
        assert_eq!(
            held(Line {
                metered: true,
                quiet: true,
                ..free
            }),
            [None, None, m, m]
        );
        let b = Some(Held::Budget);
        assert_eq!(
            held(Line {
                spent: true,
                ..free
            }),
            [None, b, b, b]
        );
    }

    #[test]
    fn a_policy_wants_what_it_says() {
        let wants = |p| What::ALL.map(|w| wanted(p, w));
        assert_eq!(wants(UploadPolicy::Events), [true, true, false, true]);
        assert_eq!(wants(UploadPolicy::All), [true; 4]);
        assert_eq!(wants(UploadPolicy::OnDemand), [false, true, false, true]);
        assert_eq!(wants(UploadPolicy::None), [false; 4]);
    }

    proptest! {
        /// A day never sends more than its budget and one part, whatever waits, unless people ask.
        #[test]
        fn a_budget_is_exceeded_by_one_part_at_most(parts in prop::collection::vec(1u64..9_000_000, 0..200), budget in 1u64..200_000_000) {
            let config = UploadConfig { daily_budget: Some(ByteSize(budget)), ..UploadConfig::default() };
            let mut sent = 0;
            for part in &parts {
                let line = Line::at(at("2026-01-10T12:00:00Z"), &TimeZone::UTC, &config, sent);
                if line.holds(Class::Picture).is_none() {
                    sent += part;
                }
            }
            let largest = parts.iter().max().copied().unwrap_or(0);
            prop_assert!(sent < budget + largest.max(1));
            prop_assert_eq!(sent >= budget, parts.iter().sum::<u64>() >= budget);
        }

        /// Each minute of a day is in the window or in what is left of the day, never in both.
        #[test]
        fn a_window_and_its_complement_make_a_day(from in 0u16..1440, to in 0u16..1440, minute in 0i64..1440) {
            prop_assume!(from != to);
            let now = Wall::from_unix_seconds(1_795_219_200 + minute * 60);
            let one = is_quiet(now, &TimeZone::UTC, &[Hours { from, to }]);
            let other = is_quiet(now, &TimeZone::UTC, &[Hours { from: to, to: from }]);
            prop_assert!(one != other);
        }
    }
}
