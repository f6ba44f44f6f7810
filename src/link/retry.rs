//! When to connect again, and whether somebody else lives under this device's name.
//!
//! | end | wait |
//! |---|---|
//! | of a session that was up | rand(0, 1 s) |
//! | no connection | full jitter: rand(0, min(300 s, 1 s · 2ⁿ)) |
//! | of a session that repeating would end again | the same, growing even if the session had been up, unless for a minute |
//! | refused (credentials, rights, version) | 5 min, doubling to 1 h, at most 10 s more |
//! | taken over three times within 60 s, or closed in order without a word five times with no failure to connect between | 10 min, and the owner is told of a clone |

use std::collections::VecDeque;
use std::time::Duration;

use super::reason::{Ended, Remedy};
use crate::restart::Backoff;
use crate::time::Mono;

const REFUSED_FIRST: Duration = Duration::from_secs(300);
const REFUSED_LONGEST: Duration = Duration::from_secs(3600);
/// A session that was up for so long has proven that the way is good, whatever ended it.
const STABLE: Duration = Duration::from_secs(60);
const TAKEOVERS: usize = 3;
/// A broker that restarts in order closes without a word too; it is rarely back before the next try, and rarely so often.
const CLOSURES: usize = 5;
const TAKEOVER_WINDOW: Duration = Duration::from_secs(60);
const TAKEOVER_PAUSE: Duration = Duration::from_secs(600);

/// What to do after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Not before this moment.
    pub at: Mono,
    /// For `status`: `waiting`, `refused`, `taken_over`.
    pub state: &'static str,
    /// Tell the owner that somebody else uses this identity.
    pub clone_suspected: bool,
}

/// Remembers what connections came to.
#[derive(Debug, Clone)]
pub struct Retry {
    backoff: Backoff,
    refused: Duration,
    takeovers: VecDeque<Mono>,
    closures: VecDeque<Mono>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            backoff: Backoff::http(),
            refused: REFUSED_FIRST,
            takeovers: VecDeque::with_capacity(TAKEOVERS),
            closures: VecDeque::with_capacity(CLOSURES),
        }
    }
}

impl Retry {
    /// A connection is over; `up`: for how long it had been up, where it had. `random` is a share in 0..1.
    pub fn ended(&mut self, now: Mono, random: f64, ended: &Ended, up: Option<Duration>) -> Next {
        let remedy = match ended.remedy() {
            Remedy::PerhapsTakenOver if up.is_none() => Remedy::Again,
            remedy => remedy,
        };
        if let Some(lasted) = up {
            self.refused = REFUSED_FIRST;
            if remedy == Remedy::Again || lasted >= STABLE {
                self.backoff.works(now);
            }
        }
        if matches!(ended, Ended::Lost(_)) {
            // The broker itself had been away.
            self.closures.clear();
        }
        let next = |at, state| Next {
            at,
            state,
            clone_suspected: false,
        };
        match remedy {
            Remedy::Again | Remedy::Suspect => next(self.backoff.next(now, random), "waiting"),
            Remedy::Pause => {
                let pause = self.refused;
                self.refused = (pause * 2).min(REFUSED_LONGEST);
                next(self.backoff.next_after(now, random, pause), "refused")
            }
            Remedy::TakenOver | Remedy::PerhapsTakenOver => {
                let clone = if remedy == Remedy::TakenOver {
                    note(&mut self.takeovers, now) >= TAKEOVERS
                } else {
                    note(&mut self.closures, now) >= CLOSURES
                };
                if !clone {
                    return next(self.backoff.next(now, random), "waiting");
                }
                self.takeovers.clear();
                self.closures.clear();
                Next {
                    at: self.backoff.next_after(now, random, TAKEOVER_PAUSE),
                    state: "taken_over",
                    clone_suspected: true,
                }
            }
        }
    }
}

/// Notes a moment; returns how many lie within the window.
fn note(moments: &mut VecDeque<Mono>, now: Mono) -> usize {
    moments.push_back(now);
    moments.retain(|at| now.since(*at) <= TAKEOVER_WINDOW);
    moments.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHORT: Option<Duration> = Some(Duration::from_secs(3));
    const S: fn(u64) -> Mono = |s| Mono(s * 1_000_000_000);

    fn wait(next: Next, now: Mono) -> u64 {
        next.at.since(now).as_secs()
    }

    #[test]
    fn a_dead_broker_is_retried_with_growing_jitter_and_a_worked_session_starts_over() {
        let mut r = Retry::default();
        let lost = Ended::Lost("refused".into());
        let waits: Vec<u64> = (0..10)
            .map(|_| wait(r.ended(S(0), 1.0, &lost, None), S(0)))
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(wait(r.ended(S(1), 1.0, &lost, SHORT), S(1)), 1);
    }

    #[test]
    fn a_session_that_ends_by_what_it_carries_is_no_loop() {
        let mut r = Retry::default();
        for end in [Ended::Protocol("junk"), Ended::Disconnected(0x95)] {
            let waits: Vec<u64> = (0..5)
                .map(|_| wait(r.ended(S(0), 1.0, &end, SHORT), S(0)))
                .collect();
            assert!(waits.windows(2).all(|w| w[1] > w[0]), "{waits:?}");
        }
    }

    #[test]
    fn a_refusal_pauses_five_minutes_to_an_hour() {
        let mut r = Retry::default();
        let waits: Vec<u64> = (0..6)
            .map(|_| wait(r.ended(S(0), 0.0, &Ended::Refused(0x86), None), S(0)))
            .collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600]);
        r.ended(S(0), 0.0, &Ended::NoPong, SHORT);
        let next = r.ended(S(0), 1.0, &Ended::SubscriptionRefused(0x87), None);
        assert_eq!((wait(next, S(0)), next.state), (310, "refused"));
    }

    #[test]
    fn three_take_overs_within_a_minute_are_a_clone() {
        let mut r = Retry::default();
        let taken = Ended::Disconnected(0x8e);
        assert!(!r.ended(S(0), 0.5, &taken, SHORT).clone_suspected);
        assert!(!r.ended(S(30), 0.5, &taken, SHORT).clone_suspected);
        // The first one is too long ago by now.
        assert!(!r.ended(S(61), 0.5, &taken, SHORT).clone_suspected);
        let third = r.ended(S(80), 0.0, &taken, SHORT);
        assert!(third.clone_suspected);
        assert_eq!((wait(third, S(80)), third.state), (600, "taken_over"));
        // After the pause it takes three again.
        assert!(!r.ended(S(700), 0.5, &taken, SHORT).clone_suspected);
    }

    #[test]
    fn a_broker_that_closes_without_a_word_counts_only_where_the_session_was_up() {
        let mut r = Retry::default();
        for _ in 0..9 {
            assert!(!r.ended(S(0), 0.5, &Ended::Closed, None).clone_suspected);
        }
        let close = |r: &mut Retry| r.ended(S(1), 0.5, &Ended::Closed, SHORT).clone_suspected;
        assert!((0..4).all(|_| !close(&mut r)));
        // A broker that was away for a moment has restarted.
        r.ended(S(1), 0.5, &Ended::Lost("refused".into()), None);
        assert!((0..4).all(|_| !close(&mut r)));
        assert!(close(&mut r));
    }

    #[test]
    fn an_hour_of_work_starts_the_backoff_over_whatever_ended_it() {
        let mut r = Retry::default();
        for _ in 0..9 {
            r.ended(S(0), 1.0, &Ended::NoConnack, None);
        }
        let hour = Some(Duration::from_secs(3600));
        let next = r.ended(S(3700), 1.0, &Ended::Protocol("x"), hour);
        assert_eq!(wait(next, S(3700)), 1);
    }

    proptest! {
        #[test]
        fn no_end_is_answered_by_a_wait_of_more_than_an_hour(
            ends in proptest::collection::vec((0u8..9, any::<u8>(), any::<bool>().prop_map(|up| up.then_some(Duration::from_secs(3)))), 1..60), random in 0.0f64..1.0,
        ) {
            let mut r = Retry::default();
            for (kind, code, up) in ends {
                let end = match kind {
                    0 => Ended::Lost(String::new()),
                    1 => Ended::NoConnack,
                    2 => Ended::Refused(code),
                    3 => Ended::SubscriptionRefused(code),
                    4 => Ended::NoPuback,
                    5 => Ended::NoPong,
                    7 => Ended::Closed,
                    6 => Ended::Disconnected(code),
                    _ => Ended::Protocol("x"),
                };
                let next = r.ended(S(5), random, &end, up);
                prop_assert!(wait(next, S(5)) <= 3610);
                prop_assert!(next.state != "refused" || wait(next, S(5)) >= 300);
            }
        }
    }
}
