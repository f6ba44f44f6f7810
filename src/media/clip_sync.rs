//! The durable side of a clip: flushes the growing file now and then, and closes it for good.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::time::Instant;

use super::clip::SYNC_EVERY;
use crate::model::Sha256;

/// What may pass between two starts and the second flush together, so that with a fragment and a group of packets it stays
/// within `clip::LOSS_BOUND`.
const BUDGET: Duration = Duration::from_secs(8);

/// How long to wait with the next flush, where the last one (or what came before the file was there) `took` so long and the
/// next may take the same: what came since the last one began is lost until the next one is done.
fn pause(took: Duration) -> Duration {
    SYNC_EVERY
        .min(BUDGET.saturating_sub(took))
        .saturating_sub(took)
}

/// A thread that flushes one growing file every [`SYNC_EVERY`], so that a power cut costs seconds and not the clip.
#[derive(Debug)]
pub(super) struct SyncThread {
    stop: Option<mpsc::Sender<()>>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl SyncThread {
    /// Starts it for a file that was just created at `path`; its first packets wait for so long already.
    pub(super) fn start(file: File, path: &Path, waited: Duration) -> io::Result<SyncThread> {
        let (stop, stopped) = mpsc::channel::<()>();
        let failure = Arc::new(Mutex::new(None));
        let report = Arc::clone(&failure);
        let dir = path.parent().map(Path::to_owned);
        std::thread::Builder::new()
            .name("clip-sync".into())
            .spawn(move || {
                let mut dir = dir;
                let mut took = waited;
                while stopped.recv_timeout(pause(took)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let start = Instant::now();
                    let synced = file.sync_data().and_then(|()| match dir.take() {
                        // The name must survive too; once is enough.
                        Some(d) => File::open(d)?.sync_all(),
                        None => Ok(()),
                    });
                    if let Err(e) = synced {
                        *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                        return;
                    }
                    took = start.elapsed();
                }
            })?;
        Ok(SyncThread {
            stop: Some(stop),
            failure,
        })
    }

    /// The error that ended the thread, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// Lets the thread end; it holds the file open no longer than a running flush.
    pub(super) fn stop(&mut self) {
        self.stop = None;
    }
}

/// fsync, rename, fsync of the directory; then size and digest.
pub(super) fn close(part: &Path, path: &Path) -> io::Result<(u64, Sha256)> {
    let file = File::open(part)?;
    file.sync_all()?;
    fs::rename(part, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    let (sha256, size) = Sha256::of_reader(file)?;
    Ok((size, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::clip::{FRAGMENT, LOSS_BOUND};

    /// What a cut costs at worst, on a disk that flushes in `disk`: right before a flush is done.
    fn worst(disk: Duration) -> Duration {
        let unwritten = FRAGMENT + FRAGMENT / 2;
        let since_last_began = disk + pause(disk) + disk;
        since_last_began.max(unwritten) + unwritten
    }

    #[test]
    fn a_cut_costs_no_more_than_promised_on_disks_that_flush_within_4_s() {
        for ms in 0..=4_000 {
            let disk = Duration::from_millis(ms);
            assert!(worst(disk) <= LOSS_BOUND, "{disk:?}: {:?}", worst(disk));
        }
        assert_eq!(pause(Duration::ZERO), SYNC_EVERY);
        assert_eq!(pause(Duration::from_secs(1)), Duration::from_secs(4));
        assert_eq!(pause(Duration::from_secs(60)), Duration::ZERO);
    }
}
