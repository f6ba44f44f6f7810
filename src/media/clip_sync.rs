//! The durable side of a clip: flushes the growing file now and then, and closes it for good.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::clip::SYNC_EVERY;
use crate::model::Sha256;

/// A thread that flushes one growing file every [`SYNC_EVERY`], so that a power cut costs seconds and not the clip.
#[derive(Debug)]
pub(super) struct SyncThread {
    stop: Option<mpsc::Sender<()>>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl SyncThread {
    /// Starts it for a file that was just created at `path`.
    pub(super) fn start(file: File, path: &Path) -> io::Result<SyncThread> {
        let (stop, stopped) = mpsc::channel::<()>();
        let failure = Arc::new(Mutex::new(None));
        let report = Arc::clone(&failure);
        let dir = path.parent().map(Path::to_owned);
        std::thread::Builder::new()
            .name("clip-sync".into())
            .spawn(move || {
                let mut dir = dir;
                while stopped.recv_timeout(SYNC_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let synced = file.sync_data().and_then(|()| match dir.take() {
                        // The name must survive too; once is enough.
                        Some(d) => File::open(d)?.sync_all(),
                        None => Ok(()),
                    });
                    if let Err(e) = synced {
                        *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                        return;
                    }
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
