//! The janitor: keeps the clips within quota, age and free space, and tells how the disk is.
//!
//! ```text
//! look ──▶ judge ──cannot be written──▶ told, nothing is deleted
//!            └──▶ sweep ──▶ decide: rows say deleted, with their records (one transaction) ──▶ sweep: files go
//! ```
//!
//! [`Janitor::pass`] is idempotent and bounded: a crash anywhere in it is made good by the next pass. While files of
//! deleted rows cannot be removed, no further row is deleted: they would free nothing.

mod look;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::look::{Looker, Seen};
use self::task::{Decided, Gone, Task};
use super::disk::Disk;
use super::journal::{Fact, Journal};
use super::records;
use super::reindex::Reindexer;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::config::{Quota, RetentionConfig};
use crate::db::retention::{self, FileId};
use crate::db::{Db, DbError, IdSource, Urgency};
use crate::model::{RecordId, RecordingId};
use crate::recording::retention::{Limits, Why};
use crate::recording::storage::{Look, Storage, judge};
use crate::spool::Spool;
use crate::time::Mono;

/// Looks at least this often.
const PERIOD: Duration = Duration::from_secs(5);
/// Age is looked at this often: it needs the oldest rows.
const AGE_PERIOD: Duration = Duration::from_secs(60);
/// Files that one pass deletes, and rows that it reads, at most.
const BATCH: u32 = 512;
/// A file system may count what was removed a little later.
const SPACE_PAUSE: Duration = Duration::from_secs(2);
/// What a first clip may come to.
const FIRST_CLIP: u64 = 16 << 20;

/// What the janitor works with.
pub struct Parts {
    /// Rows.
    pub db: Db,
    /// Files.
    pub spool: Spool,
    /// Quota and age.
    pub config: RetentionConfig,
    /// Below this nothing is recorded.
    pub min_free: u64,
    /// There is a cloud that clips go to.
    pub uploads: bool,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Makes record ids.
    pub ids: IdSource,
    /// Where it is told how the disk is.
    pub journal: Journal,
    /// Where it is shown.
    pub status: StatusHub,
    /// What the clips met.
    pub disk: Disk,
    /// Wakes the uploader.
    pub sync: Arc<Notify>,
}

/// The janitor task.
pub struct Janitor {
    parts: Parts,
    looker: Looker,
    storage: Storage,
    gone: BTreeMap<Why, Gone>,
    last: Option<Value>,
    next_age: Mono,
    next_space: Mono,
}

impl Janitor {
    /// A janitor that has seen nothing yet.
    pub fn new(parts: Parts) -> Janitor {
        let state_dir = parts.db.path().to_owned();
        Janitor {
            looker: Looker::new(parts.spool.clone(), state_dir),
            parts,
            storage: Storage::Ok,
            gone: BTreeMap::new(),
            last: None,
            next_age: Mono(0),
            next_space: Mono(0),
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let more = match self.pass().await {
                Ok(more) => more,
                Err(e) => {
                    tracing::warn!(error = %e, "the janitor cannot use the store now");
                    false
                }
            };
            if stop.is_cancelled() {
                break;
            }
            if more {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.parts.disk.stirred() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Brings the disk within its limits; `true`: there is more to do.
    ///
    /// # Errors
    /// [`DbError`]; the next pass goes on where this one ended.
    pub async fn pass(&mut self) -> Result<bool, DbError> {
        let open = self
            .parts
            .db
            .call(Urgency::Soon, |c, _| retention::open_clips(c))
            .await?;
        let seen = self.looker.look(open).await;
        if self.judge(&seen).await {
            self.welcome_back().await;
        }
        // Full is what it is there for.
        if !(self.storage.takes_clips()
            || matches!(self.storage, Storage::Full | Storage::NoInodes))
        {
            self.show(&seen, None);
            return Ok(false);
        }
        if !self.sweep().await? {
            self.show(&seen, None);
            return Ok(false);
        }
        let decided = self.decide(&seen).await?;
        let went = !decided.gone.is_empty();
        let swept = !went || self.sweep().await?;
        self.show(&seen, Some(&decided));
        // What was freed may have been what was missing.
        Ok(swept && (decided.more || (went && !self.storage.takes_clips())))
    }

    /// Removes the files of deleted rows; `false`: some could not be removed, or there are more.
    async fn sweep(&self) -> Result<bool, DbError> {
        let garbage = self
            .parts
            .db
            .call(Urgency::Soon, |c, _| retention::garbage(c, BATCH))
            .await?;
        if garbage.is_empty() {
            return Ok(true);
        }
        let (spool, count) = (self.parts.spool.clone(), garbage.len());
        let removed = tokio::task::spawn_blocking(move || remove(&spool, garbage));
        let removed = removed.await.unwrap_or_default();
        let all = removed.len() == count && count < BATCH as usize;
        crate::supervise::failpoint::hit("janitor.removed");
        self.parts
            .db
            .call(Urgency::Soon, move |c, _| {
                removed.iter().try_for_each(|id| retention::swept(c, *id))
            })
            .await?;
        Ok(all)
    }

    async fn decide(&mut self, seen: &Seen) -> Result<Decided, DbError> {
        let now = self.parts.time.mono();
        // Asked at every pass, because only then is it known that the sources agreed all the time.
        let mut proven = self.parts.time.proven_wall();
        if now < self.next_age {
            proven = None;
        } else if proven.is_some() {
            self.next_age = now + AGE_PERIOD;
        }
        let task = Task {
            seen: seen.clone(),
            limits: Limits {
                total: self.quota(seen),
                cameras: self.parts.disk.quotas(),
                max_age: self.parts.config.max_age.filter(|_| proven.is_some()),
            },
            min_free: self.parts.min_free,
            space: now >= self.next_space,
            uploads: self.parts.uploads,
            proven,
            now,
            ids: self.parts.ids.clone(),
        };
        let decided = self
            .parts
            .db
            .call(Urgency::Soon, move |c, run| task.run(c, run))
            .await?;
        for (why, gone) in &decided.gone {
            let sum = self.gone.entry(*why).or_default();
            sum.files += gone.files;
            sum.bytes += gone.bytes;
            tracing::info!(
                why = why.as_str(),
                files = gone.files,
                bytes = gone.bytes,
                "deleted what must not be kept"
            );
            self.last = Some(
                json!({ "at": self.parts.time.wall().rfc3339(), "why": why.as_str(),
                                     "files": gone.files, "bytes": gone.bytes }),
            );
            if *why == Why::Space {
                self.next_space = now + SPACE_PAUSE;
            }
        }
        if !decided.gone.is_empty() {
            crate::supervise::failpoint::hit("janitor.decided");
            self.parts.sync.notify_one();
        }
        Ok(decided)
    }

    fn quota(&self, seen: &Seen) -> Option<u64> {
        match self.parts.config.quota {
            Quota::Share(share) => Some(seen.total / 100 * u64::from(share)),
            Quota::Bytes(bytes) => Some(bytes.0),
            Quota::Off => None,
        }
    }

    /// The disk is back. What was lost only because it was away, is not.
    async fn welcome_back(&self) {
        let reindexer = Reindexer {
            db: self.parts.db.clone(),
            spool: self.parts.spool.clone(),
            ids: self.parts.ids.clone(),
            now: self.parts.time.mono(),
        };
        reindexer.run().await;
    }

    /// Says so where the disk is in another state; `true`: clips can be written that could not before.
    async fn judge(&mut self, seen: &Seen) -> bool {
        let (write_error, flush) = self.parts.disk.met();
        let look = Look {
            floor: self.parts.min_free,
            write_error,
            flush,
            ..seen.look.clone()
        };
        let storage = judge(&look);
        self.parts.disk.judged(storage);
        if storage == self.storage {
            return false;
        }
        let before = std::mem::replace(&mut self.storage, storage);
        let detail = look.unreadable.or(look.write_error).unwrap_or_default();
        if storage > Storage::Ok {
            tracing::warn!(state = storage.as_str(), detail, "{}", storage.advice());
        } else {
            tracing::info!(before = before.as_str(), "clips can be written again");
        }
        let record = records::storage_health(
            RecordId((self.parts.ids)()),
            self.parts.time.mono(),
            storage,
            &detail,
            seen.look.free,
        );
        self.parts.journal.write(Fact::Told, vec![record]).await;
        storage.takes_clips() && !before.takes_clips()
    }

    fn show(&self, seen: &Seen, decided: Option<&Decided>) {
        let gone: BTreeMap<&str, Value> = self
            .gone
            .iter()
            .map(|(why, g)| (why.as_str(), json!({ "files": g.files, "bytes": g.bytes })))
            .collect();
        let (storage, quota) = (self.storage, self.quota(seen));
        let cameras = self.parts.disk.quotas();
        self.parts.status.update(|s| {
            let mut shown = json!({
                "state": storage, "advice": storage.advice(), "free_bytes": seen.look.free,
                "inodes_free": seen.look.inodes_free, "quota_bytes": quota, "camera_quota_bytes": cameras,
                "deleted": gone, "last_deleted": self.last,
            });
            match decided {
                Some(d) => {
                    shown["used_bytes"] = json!(d.usage.total());
                    shown["cameras"] = json!(d.usage.cameras);
                    shown["reserve_bytes"] = json!(d.usage.reserve);
                    shown["unmet"] = json!(d.unmet);
                }
                // Not known while the disk is away: what was known stays.
                None => {
                    for key in ["used_bytes", "cameras", "reserve_bytes", "unmet"] {
                        shown[key] = s.storage[key].clone();
                    }
                }
            }
            s.storage = shown;
        });
    }
}

/// Removes files; returns those that are gone.
fn remove(spool: &Spool, garbage: Vec<(FileId, String)>) -> Vec<FileId> {
    let mut gone = Vec::new();
    for (id, camera) in garbage {
        // A camera's name that is none has no file.
        let removed = camera.parse().map_or(Ok(Default::default()), |camera| {
            spool.remove(&camera, RecordingId(id.uuid()))
        });
        match removed {
            Ok(_) => gone.push(id),
            Err(e) => {
                tracing::error!(error = %e, "a deleted file cannot be removed, nothing more is deleted");
                break;
            }
        }
    }
    gone
}
