//! The one place that reads clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::model::BootId;
use crate::time::{Mono, Wall};

/// Reads the machine's clocks; cheap to clone. A rehearsal can put its clones ahead, all together; nothing else does.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ns: Arc<AtomicU64>,
    step_us: Arc<AtomicI64>,
}

impl Clock {
    /// CLOCK_BOOTTIME.
    pub fn mono(&self) -> Mono {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Mono(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64 + self.ahead_ns.load(Relaxed))
    }

    /// Lets time pass without waiting for it: both clocks go on by this.
    pub fn rehearse_passing(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ahead_ns.fetch_add(ns, Relaxed);
    }

    /// Steps the wall clock alone, as somebody setting the date does.
    pub fn rehearse_step(&self, by_us: i64) {
        self.step_us.fetch_add(by_us, Relaxed);
    }

    /// The system's wall clock.
    pub fn system_wall(&self) -> Wall {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let ahead_us = i64::try_from(self.ahead_ns.load(Relaxed) / 1000).unwrap_or(i64::MAX);
        let now = t.tv_sec * 1_000_000 + t.tv_nsec / 1000;
        Wall(now + ahead_us + self.step_us.load(Relaxed))
    }

    /// Not before this: the time of this release.
    pub fn build_time(&self) -> Wall {
        Wall::from_unix_seconds(1_763_683_200)
    }

    /// This boot. Without the kernel's answer (a container, a test) a fixed one.
    pub fn boot_id(&self) -> BootId {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        BootId(text.trim().parse().unwrap_or_default())
    }

    /// Name of this machine, for people.
    pub fn hostname(&self) -> String {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    }
}
