//! The one place that reads clocks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use crate::model::BootId;
use crate::time::{Mono, Wall};

/// Reads the machine's clocks; cheap to clone. A rehearsal can put its clones ahead, all together; nothing else does.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ns: Arc<AtomicU64>,
    step_us: Arc<AtomicI64>,
    ntp_us: Arc<AtomicI64>,
}

/// Touched by systemd-timesyncd whenever it has set the clock right; in memory, so of this boot. The kernel's own flag
/// (adjtimex) is out of reach: the call is the one that sets the clock too, and ProtectClock= forbids it.
const NTP_MARK: &str = "/run/systemd/timesync/synchronized";

impl Clock {
    /// CLOCK_BOOTTIME.
    pub fn mono(&self) -> Mono {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Mono(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64 + self.ahead_ns.load(Relaxed))
    }

    /// CLOCK_THREAD_CPUTIME_ID: what this thread has computed, whatever else the machine does. For measuring.
    pub fn thread_cpu(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
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

    /// Claims that NTP set the clock right at this moment.
    pub fn rehearse_ntp(&self, at: Wall) {
        self.ntp_us.store(at.0, Relaxed);
    }

    /// When NTP last set the system clock right, where it did in this boot.
    pub fn ntp_synchronised(&self) -> Option<Wall> {
        match self.ntp_us.load(Relaxed) {
            0 => modified(Path::new(NTP_MARK)),
            rehearsed => Some(Wall(rehearsed)),
        }
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

fn modified(path: &Path) -> Option<Wall> {
    let at = std::fs::metadata(path).ok()?.modified().ok()?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Wall(i64::try_from(since.as_micros()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_ntp_is_read_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("synchronized");
        assert_eq!(modified(&mark), None);
        let file = std::fs::File::create(&mark).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_226_400);
        file.set_modified(at).unwrap();
        assert_eq!(
            modified(&mark),
            Some(Wall::from_unix_seconds(1_795_226_400))
        );
    }
}
