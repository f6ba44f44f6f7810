//! How fast bytes leave: a token bucket that may be overdrawn by one piece and is waited out afterwards.
//!
//! Over any span of time no more goes than the rate times the span, half a second's worth of burst, and one piece.

use std::time::Duration;

use crate::time::Mono;

/// The bucket holds what this much time brings.
const BURST: Duration = Duration::from_millis(500);

/// A token bucket; pieces are bytes.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Bytes a second; `None`: no bound.
    rate: Option<u64>,
    /// Bytes that may go at once, below 0 where some went too early.
    level: f64,
    last: Mono,
}

impl Bucket {
    /// A full bucket with this rate in kilobit a second.
    pub fn new(kbps: Option<u32>, now: Mono) -> Bucket {
        let mut bucket = Bucket {
            rate: kbps.map(|k| u64::from(k.max(1)) * 125),
            level: 0.0,
            last: now,
        };
        bucket.level = bucket.full();
        bucket
    }

    /// Changes the rate; what was sent before still counts.
    pub fn set(&mut self, kbps: Option<u32>, now: Mono) {
        self.refill(now);
        self.rate = kbps.map(|k| u64::from(k.max(1)) * 125);
        self.level = self.level.min(self.full());
    }

    /// Takes a piece; it may be sent after this wait.
    pub fn take(&mut self, bytes: u64, now: Mono) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        self.refill(now);
        let wait = (-self.level / rate as f64).max(0.0);
        self.level -= bytes as f64;
        Duration::from_secs_f64(wait.min(3600.0))
    }

    fn full(&self) -> f64 {
        self.rate.unwrap_or(0) as f64 * BURST.as_secs_f64()
    }

    fn refill(&mut self, now: Mono) {
        let gained = now.since(self.last).as_secs_f64() * self.rate.unwrap_or(0) as f64;
        self.level = (self.level + gained).min(self.full());
        self.last = self.last.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A sender that waits as it is told keeps the rate over every span, and is not slower than it either.
        #[test]
        fn the_rate_is_kept_over_every_span(pieces in prop::collection::vec((1u64..300_000, 0u64..2000), 2..60), kbps in 64u32..100_000) {
            let mut now = Mono(1_000_000_000);
            let mut bucket = Bucket::new(Some(kbps), now);
            let rate = f64::from(kbps) * 125.0;
            let mut sent = Vec::new();
            for (bytes, idle_ms) in &pieces {
                now = now + Duration::from_millis(*idle_ms);
                now = now + bucket.take(*bytes, now);
                sent.push((now, *bytes));
            }
            for (i, (from, _)) in sent.iter().enumerate() {
                let mut sum = 0;
                for (to, bytes) in &sent[i..] {
                    let span = to.since(*from).as_secs_f64();
                    // Pieces before the last one of the span, and one that was on its way when it began.
                    prop_assert!(sum as f64 <= rate * (span + 0.5) + 300_000.0 + 1.0);
                    sum += bytes;
                }
            }
        }

        /// A busy line is used to the full.
        #[test]
        fn nothing_is_wasted(piece in 1_000u64..300_000, kbps in 64u32..100_000) {
            let start = Mono(5);
            let (mut now, mut bucket) = (start, Bucket::new(Some(kbps), start));
            for _ in 0..50 {
                now = now + bucket.take(piece, now);
            }
            let due = 50.0 * piece as f64 / (f64::from(kbps) * 125.0);
            prop_assert!(now.since(start).as_secs_f64() <= due + 0.001);
        }
    }

    #[test]
    fn without_a_rate_nothing_waits_and_a_rate_can_change() {
        let mut bucket = Bucket::new(None, Mono(0));
        assert_eq!(bucket.take(u64::MAX >> 12, Mono(1)), Duration::ZERO);
        bucket.set(Some(8), Mono(2));
        bucket.take(2000, Mono(2));
        let wait = bucket.take(1, Mono(2));
        assert!(
            wait > Duration::from_millis(1400) && wait <= Duration::from_secs(2),
            "{wait:?}"
        );
        bucket.set(None, Mono(2));
        assert_eq!(bucket.take(1 << 30, Mono(2)), Duration::ZERO);
    }
}
