//! How often a claim window may open: three in an hour, and not within five minutes of one that brought nothing.

use std::time::Duration;

use crate::time::Mono;

/// Windows of one hour.
const PER_HOUR: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// After a window that ended without a claim.
const COOL_DOWN: Duration = Duration::from_secs(300);

/// The windows of this boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    opened: Vec<Mono>,
    failed: Option<Mono>,
}

impl Windows {
    /// Opens one.
    ///
    /// # Errors
    /// How long to wait until one may open.
    pub fn open(&mut self, now: Mono) -> Result<(), Duration> {
        self.opened.retain(|at| now.since(*at) < HOUR);
        let cool = self
            .failed
            .map_or(Duration::ZERO, |at| COOL_DOWN.saturating_sub(now.since(at)));
        let full = match self.opened.len() {
            PER_HOUR.. => HOUR.saturating_sub(now.since(self.opened[0])),
            _ => Duration::ZERO,
        };
        match cool.max(full) {
            Duration::ZERO => {
                self.opened.push(now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// One ended and brought nothing.
    pub fn failed(&mut self, now: Mono) {
        self.failed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Mono {
        Mono(n * 1_000_000_000)
    }

    #[test]
    fn five_minutes_between_and_three_an_hour() {
        let mut windows = Windows::default();
        assert_eq!(windows.open(s(10)), Ok(()));
        windows.failed(s(20));
        assert_eq!(windows.open(s(30)), Err(Duration::from_secs(290)));
        assert_eq!(windows.open(s(320)), Ok(()));
        windows.failed(s(330));
        assert_eq!(windows.open(s(630)), Ok(()));
        windows.failed(s(640));
        assert_eq!(windows.open(s(1000)), Err(Duration::from_secs(2610)));
        assert_eq!(windows.open(s(3610)), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_three_in_any_hour(steps in proptest::collection::vec((0u64..2000, proptest::bool::ANY), 0..80)) {
            let mut windows = Windows::default();
            let mut opened: Vec<u64> = Vec::new();
            let mut at = 0;
            for (later, fails) in steps {
                at += later;
                if windows.open(s(at)).is_ok() {
                    opened.push(at);
                }
                if fails {
                    windows.failed(s(at));
                }
            }
            for four in opened.windows(4) {
                proptest::prop_assert!(four[3] - four[0] >= 3600);
            }
        }
    }
}
