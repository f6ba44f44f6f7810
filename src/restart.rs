//! When to try again. Pure: the caller hands in the time and a random share, and owns the timer.
//!
//! A camera is retried for ever, 1 s growing to 60 s ([`Backoff::camera`]). A request to the cloud backs off with full
//! jitter up to 5 minutes ([`Backoff::http`]); an answer's `Retry-After` wins, and a wake-up after a long outage is
//! spread, so that a fleet does not return as one. No peer can ask for more than [`MAX_WAIT`].

use std::time::Duration;

use crate::time::Mono;

/// The longest wait that a peer can ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

/// An outage longer than this makes the return of many devices a crowd.
const LONG_OUTAGE: Duration = Duration::from_secs(600);

/// The first tries after a long outage are spread over this time.
const SPREAD: Duration = Duration::from_secs(60);

/// Exponential delay with jitter, counted in failures since the last success.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    least: Duration,
    first: Duration,
    cap: Duration,
    stable_after: Duration,
    failures: u32,
    down_since: Option<Mono>,
    up_since: Option<Mono>,
}

impl Backoff {
    /// For a camera: 1–2 s after the first failure, then 1–4 s, … 1–60 s; starts over after 60 s of frames.
    pub const fn camera() -> Self {
        let s = Duration::from_secs;
        Self::new(s(1), s(2), s(60), s(60))
    }

    /// For the cloud: `rand(0, min(300 s, 1 s · 2^n))`; starts over with the first good answer.
    pub const fn http() -> Self {
        let s = Duration::from_secs;
        Self::new(Duration::ZERO, s(1), s(300), Duration::ZERO)
    }

    /// For a live session that somebody waits for: 0.5–1 s, growing to 10 s; starts over after 10 s of pictures.
    pub const fn live() -> Self {
        let s = Duration::from_secs;
        Self::new(Duration::from_millis(500), s(1), s(10), s(10))
    }

    const fn new(least: Duration, first: Duration, cap: Duration, stable_after: Duration) -> Self {
        Self {
            least,
            first,
            cap,
            stable_after,
            failures: 0,
            down_since: None,
            up_since: None,
        }
    }

    /// Notes a failure and returns when to try again; `random` is a share in 0..1.
    pub fn next(&mut self, now: Mono, random: f64) -> Mono {
        self.note_failure(now);
        let doublings = (self.failures - 1).min(16);
        let most = self.first.saturating_mul(1 << doublings).min(self.cap);
        now + self.least + share(most.saturating_sub(self.least), random)
    }

    /// Notes a failure whose answer said how long to wait: never earlier, at most a tenth (10 s) later.
    pub fn next_after(&mut self, now: Mono, random: f64, wait: Duration) -> Mono {
        self.note_failure(now);
        let wait = wait.min(MAX_WAIT);
        now + wait + share((wait / 10).min(Duration::from_secs(10)), random)
    }

    /// Notes that it works; the delays start over once it has worked for the time of stability.
    pub fn works(&mut self, now: Mono) {
        let since = *self.up_since.get_or_insert(now);
        if now.since(since) >= self.stable_after {
            self.failures = 0;
            self.down_since = None;
        }
    }

    /// When to try after an outside sign that the way is open (link up, broker back): at once, but after an outage of
    /// more than 10 minutes spread over 60 s. Counts nothing.
    pub fn woken(&self, now: Mono, random: f64) -> Mono {
        match self.down_since {
            Some(since) if now.since(since) > LONG_OUTAGE => now + share(SPREAD, random),
            _ => now,
        }
    }

    /// Failures since it last worked stably.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn note_failure(&mut self, now: Mono) {
        self.up_since = None;
        self.down_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
    }
}

/// `random` of `whole`; anything but a share counts as the nearest share, so that no value can panic.
fn share(whole: Duration, random: f64) -> Duration {
    if random.is_nan() {
        return whole;
    }
    whole.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Mono = |s| Mono(s * 1_000_000_000);

    #[test]
    fn a_camera_is_retried_from_one_second_to_sixty() {
        let mut b = Backoff::camera();
        let latest: Vec<u64> = (0..8)
            .map(|_| b.next(Mono(0), 1.0).0 / 1_000_000_000)
            .collect();
        assert_eq!(latest, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(b.next(Mono(0), 0.0), S(1));
    }

    #[test]
    fn a_minute_of_frames_starts_over_but_a_flapping_camera_does_not() {
        let mut b = Backoff::camera();
        for _ in 0..5 {
            b.next(S(0), 0.5);
        }
        b.works(S(100));
        b.works(S(159));
        assert_eq!(b.failures(), 5);
        b.next(S(159), 0.5);
        b.works(S(200));
        b.works(S(260));
        assert_eq!(b.failures(), 0);
        assert_eq!(b.next(S(300), 1.0), S(302));
    }

    #[test]
    fn the_cloud_is_retried_with_full_jitter_up_to_five_minutes() {
        let mut b = Backoff::http();
        let latest: Vec<u64> = (0..11)
            .map(|_| b.next(Mono(0), 1.0).0 / 1_000_000_000)
            .collect();
        assert_eq!(latest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(b.next(Mono(0), 0.0), Mono(0));
        b.works(S(1));
        assert_eq!(b.failures(), 0);
    }

    #[test]
    fn a_long_outage_spreads_the_return_and_a_short_one_does_not() {
        let mut b = Backoff::http();
        assert_eq!(b.woken(S(5), 0.9), S(5));
        b.next(S(0), 0.5);
        assert_eq!(b.woken(S(600), 1.0), S(600));
        assert_eq!(b.woken(S(601), 1.0), S(661));
        b.works(S(602));
        assert_eq!(b.woken(S(2000), 1.0), S(2000));
    }

    proptest! {
        #[test]
        fn every_retry_lies_within_its_bounds(
            failures in 1usize..200, now in 0u64..u64::MAX / 2, random in proptest::num::f64::ANY,
        ) {
            for (mut b, least, cap) in [(Backoff::camera(), 1, 60), (Backoff::http(), 0, 300)] {
                for _ in 0..failures {
                    let wait = b.next(Mono(now), random).since(Mono(now));
                    prop_assert!(wait >= Duration::from_secs(least));
                    prop_assert!(wait <= Duration::from_secs(cap));
                }
            }
        }

        #[test]
        fn retry_after_is_never_undercut_and_never_exceeds_an_hour_by_more_than_ten_seconds(
            wait_s in 0u64..u64::MAX / 4, random in 0.0f64..1.0,
        ) {
            let mut b = Backoff::http();
            let wait = b.next_after(S(7), random, Duration::from_secs(wait_s)).since(S(7));
            prop_assert!(wait >= Duration::from_secs(wait_s).min(MAX_WAIT));
            prop_assert!(wait <= MAX_WAIT + Duration::from_secs(10));
        }

        #[test]
        fn a_later_failure_never_waits_for_less_at_the_same_share(random in 0.0f64..1.0) {
            let mut b = Backoff::http();
            let mut last = Duration::ZERO;
            for _ in 0..40 {
                let wait = b.next(Mono(0), random).since(Mono(0));
                prop_assert!(wait >= last);
                last = wait;
            }
        }
    }
}
