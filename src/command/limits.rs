//! How much is let in: open commands, commands a second, restarts of the machine an hour, rows remembered.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// Commands that wait or run. When there are as many, further ones stay at the cloud.
pub const MAX_OPEN: usize = 32;
/// Commands let in within a second. When there were as many, further ones stay at the cloud.
pub const PER_SECOND: usize = 4;
/// Restarts of the machine within an hour; further ones are rejected.
pub const REBOOTS_PER_HOUR: usize = 3;
/// Commands remembered. An ended one may be forgotten once it cannot be acted on anyhow; when none may, further ones
/// stay at the cloud.
pub const MAX_ROWS: usize = 4096;
/// So long after its expiry a command is remembered: a clock that is corrected backwards brings none to life again.
pub const REMEMBERED_S: i64 = 86_400;

/// A sliding second.
#[derive(Debug, Clone, Default)]
pub struct Rate(VecDeque<Mono>);

impl Rate {
    /// Whether one more may come in now.
    pub fn has_room(&mut self, now: Mono) -> bool {
        while self
            .0
            .front()
            .is_some_and(|at| now.since(*at) >= Duration::from_secs(1))
        {
            self.0.pop_front();
        }
        self.0.len() < PER_SECOND
    }

    /// One came in.
    pub fn count(&mut self, now: Mono) {
        if self.0.len() == PER_SECOND {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn never_more_than_four_within_a_second(steps in proptest::collection::vec(0u64..900_000_000, 1..200)) {
            let (mut rate, mut now, mut let_in) = (Rate::default(), 0u64, Vec::new());
            for step in steps {
                now += step;
                if rate.has_room(Mono(now)) {
                    rate.count(Mono(now));
                    let_in.push(now);
                }
            }
            for group in let_in.windows(PER_SECOND + 1) {
                proptest::prop_assert!(group[PER_SECOND] - group[0] >= 1_000_000_000);
            }
        }
    }
}
