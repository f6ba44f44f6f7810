//! What everybody knows of the clip disk: the janitor says how it is, the clips say what writing to it met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::CameraId;
use crate::recording::storage::Storage;
use crate::units::ByteSize;

/// Shared knowledge of one disk; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    known: Arc<Mutex<Known>>,
    stirred: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    storage: Storage,
    write_error: Option<String>,
    flush: Option<Duration>,
    quotas: BTreeMap<String, u64>,
}

impl Disk {
    /// Whether it is worth while to begin a clip.
    pub fn takes_clips(&self) -> bool {
        self.lock().storage.takes_clips()
    }

    /// Whether files can be read.
    pub fn readable(&self) -> bool {
        self.lock().storage < Storage::Unreadable
    }

    /// The janitor looked. What writing met is forgotten where the cause of it is over.
    pub fn judged(&self, storage: Storage) {
        let mut known = self.lock();
        if storage.takes_clips() && !known.storage.takes_clips() {
            known.write_error = None;
        }
        known.storage = storage;
    }

    /// A clip is kept, after a flush that took this long.
    pub fn kept(&self, flush: Duration) {
        let mut known = self.lock();
        known.write_error = None;
        known.flush = Some(flush);
        self.stirred.notify_one();
    }

    /// A clip could not be written. True for the first one since one was kept.
    pub fn failed(&self, why: &str) -> bool {
        let before = self.lock().write_error.replace(why.to_owned());
        self.stirred.notify_one();
        before.is_none()
    }

    /// What the last clips met: an error, and how long flushing took.
    pub fn met(&self) -> (Option<String>, Option<Duration>) {
        let known = self.lock();
        (known.write_error.clone(), known.flush)
    }

    /// How much a camera may keep.
    pub fn set_quota(&self, camera: &CameraId, quota: Option<ByteSize>) {
        let mut known = self.lock();
        match quota {
            Some(bytes) => known.quotas.insert(camera.to_string(), bytes.0),
            None => known.quotas.remove(camera.as_str()),
        };
    }

    /// How much each camera may keep that has a bound of its own.
    pub fn quotas(&self) -> BTreeMap<String, u64> {
        self.lock().quotas.clone()
    }

    /// Waits until a clip was kept or failed.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Plain values, whole at any time.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
