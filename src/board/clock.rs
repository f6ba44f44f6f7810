//! The one place that reads clocks.

use crate::model::BootId;
use crate::time::{Mono, Wall};

/// Reads the machine's clocks; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock;

impl Clock {
    /// CLOCK_BOOTTIME.
    pub fn mono(&self) -> Mono {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Mono(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// The system's wall clock.
    pub fn system_wall(&self) -> Wall {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Wall(t.tv_sec * 1_000_000 + t.tv_nsec / 1000)
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
