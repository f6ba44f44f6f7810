//! Trusted time for all tasks: local clocks from the board, what the cloud's answers taught on top.
//!
//! One owner ([`TimeKeeper`]), cheap to read. Learning something new is written to the store by the uploader, so that
//! every unsent record of this boot leaves with the right time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::board::clock::Clock;
use crate::db::{Db, DbError, Urgency, open};
use crate::time::{Mono, Wall};
use crate::wire::agreement::Agreement;
use crate::wire::envelope::BootClock;
use crate::wire::skew::{DateSample, Learned, Reading, TrustedClock};

/// Trusted time; cheap to clone.
#[derive(Clone)]
pub struct TimeKeeper {
    clock: Clock,
    trusted: Arc<Mutex<TrustedClock>>,
    agreement: Arc<Mutex<Agreement>>,
}

impl TimeKeeper {
    /// Starts with no more than a floor.
    pub fn new(clock: Clock, floor: Wall) -> Self {
        Self {
            clock,
            trusted: Arc::new(Mutex::new(TrustedClock::new(floor))),
            agreement: Arc::default(),
        }
    }

    /// CLOCK_BOOTTIME now.
    pub fn mono(&self) -> Mono {
        self.clock.mono()
    }

    /// Best idea of the time now.
    pub fn wall(&self) -> Wall {
        let reading = self.reading();
        self.with(|t| t.now(reading))
    }

    /// What is known of this boot's clock.
    pub fn boot_clock(&self) -> BootClock {
        let reading = self.reading();
        self.with(|t| t.boot_clock(reading))
    }

    /// Whether requests may be signed as they are.
    pub fn is_synced(&self) -> bool {
        self.with(|t| t.is_synced())
    }

    /// Trusted time, where two sources have agreed on it for long enough to delete by age (T3). Only who asks often
    /// learns how long they have agreed.
    pub fn proven_wall(&self) -> Option<Wall> {
        let reading = self.reading();
        let learned = self.with(|t| t.is_synced().then(|| t.now(reading)));
        let ntp = self.clock.ntp_synchronised();
        let mut agreement = self
            .agreement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let agrees = agreement.observe(reading, learned, ntp);
        learned.filter(|_| agrees)
    }

    /// It cannot be earlier than this either.
    pub fn raise_floor(&self, floor: Wall) {
        self.with(|t| t.raise_floor(floor));
    }

    /// Learns from a verified answer.
    pub fn learn(&self, sample: DateSample) -> Learned {
        let reading = self.reading();
        self.with(|t| t.learn(sample, reading))
    }

    /// Learns `date`, as from an answer that came at once. For tests.
    pub fn rehearse_answer(&self, date: Wall) -> Learned {
        let now = self.mono();
        self.learn(DateSample {
            date,
            sent: now,
            received: now,
            cached: false,
        })
    }

    fn reading(&self) -> Reading {
        Reading {
            mono: self.clock.mono(),
            system: self.clock.system_wall(),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut TrustedClock) -> R) -> R {
        // A poisoned lock holds a plain value that is whole at any time.
        f(&mut self.trusted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Learns from a verified answer, and gives every unsent record of this boot the right time.
///
/// # Errors
/// [`DbError`]: the time is learned all the same.
pub async fn learn(time: &TimeKeeper, db: &Db, sample: DateSample) -> Result<(), DbError> {
    let Learned::Moved { by_us } = time.learn(sample) else {
        return Ok(());
    };
    tracing::info!(
        offset_s = by_us as f64 / 1e6,
        "learned the time from the cloud"
    );
    let (clock, wall) = (time.boot_clock(), time.wall());
    db.call(Urgency::Now, move |c, run| {
        open::set_boot_clock(c, run, clock, wall)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_is_proven_after_an_hour_in_which_cloud_and_ntp_agree() {
        let clock = Clock::default();
        let time = TimeKeeper::new(clock.clone(), clock.build_time());
        let ntp_works = || clock.rehearse_ntp(clock.system_wall());
        ntp_works();
        assert_eq!(time.proven_wall(), None, "the cloud said nothing yet");
        time.rehearse_answer(clock.system_wall());
        assert_eq!(time.proven_wall(), None, "it has agreed for no time");
        clock.rehearse_passing(Duration::from_secs(3601));
        ntp_works();
        let proven = time.proven_wall().unwrap();
        assert!(proven.since_us(clock.system_wall()).abs() < 3_000_000);
        clock.rehearse_step(400_000_000);
        ntp_works();
        assert_eq!(time.proven_wall(), None, "they contradict each other");
    }
}
