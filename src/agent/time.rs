//! Trusted time for all tasks: local clocks from the board, what the cloud's answers taught on top.
//!
//! One owner ([`TimeKeeper`]), cheap to read. Learning something new is written to the store by the uploader, so that
//! every unsent record of this boot leaves with the right time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::board::clock::Clock;
use crate::time::{Mono, Wall};
use crate::wire::envelope::BootClock;
use crate::wire::skew::{DateSample, Learned, Reading, TrustedClock};

/// Trusted time; cheap to clone.
#[derive(Clone)]
pub struct TimeKeeper {
    clock: Clock,
    trusted: Arc<Mutex<TrustedClock>>,
}

impl TimeKeeper {
    /// Starts with no more than a floor.
    pub fn new(clock: Clock, floor: Wall) -> Self {
        Self {
            clock,
            trusted: Arc::new(Mutex::new(TrustedClock::new(floor))),
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

    /// It cannot be earlier than this either.
    pub fn raise_floor(&self, floor: Wall) {
        self.with(|t| t.raise_floor(floor));
    }

    /// Learns from a verified answer.
    pub fn learn(&self, sample: DateSample) -> Learned {
        let reading = self.reading();
        self.with(|t| t.learn(sample, reading))
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
