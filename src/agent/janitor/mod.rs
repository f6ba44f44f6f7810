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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::look::{Looker, Seen};
use super::disk::Disk;
use super::journal::{Fact, Journal};
use super::records;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::config::{Quota, RetentionConfig};
use crate::db::retention::{self, FileId, OpenClip};
use crate::db::{Db, DbError, IdSource, Run, Urgency, outbox};
use crate::model::{RecordId, RecordingId};
use crate::recording::retention::{Limits, Usage, Why, decide, exceeded, reserve};
use crate::recording::storage::{Look, Storage, judge};
use crate::spool::Spool;
use crate::time::{Mono, Wall};

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

/// Files and bytes that went for a reason.
#[derive(Debug, Clone, Copy, Default)]
struct Gone {
    files: u64,
    bytes: u64,
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

/// What one transaction decided.
#[derive(Debug, Default)]
struct Decided {
    usage: Usage,
    gone: BTreeMap<Why, Gone>,
    unmet: Vec<&'static str>,
    more: bool,
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
        self.judge(&seen).await;
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
                total: match self.parts.config.quota {
                    Quota::Share(share) => Some(seen.total / 100 * u64::from(share)),
                    Quota::Bytes(bytes) => Some(bytes.0),
                    Quota::Off => None,
                },
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

    /// Says so where the disk is in another state.
    async fn judge(&mut self, seen: &Seen) {
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
            return;
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
    }

    fn show(&self, seen: &Seen, decided: Option<&Decided>) {
        let gone: BTreeMap<&str, Value> = self
            .gone
            .iter()
            .map(|(why, g)| (why.as_str(), json!({ "files": g.files, "bytes": g.bytes })))
            .collect();
        let (storage, quota) = (self.storage, self.parts.config.quota);
        let quota = match quota {
            Quota::Share(share) => Some(seen.total / 100 * u64::from(share)),
            Quota::Bytes(bytes) => Some(bytes.0),
            Quota::Off => None,
        };
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

/// One decision, made and written in one transaction.
struct Task {
    seen: Seen,
    limits: Limits,
    min_free: u64,
    space: bool,
    uploads: bool,
    proven: Option<Wall>,
    now: Mono,
    ids: IdSource,
}

impl Task {
    fn run(&self, conn: &crate::db::Connection, run: &Run) -> Result<Decided, DbError> {
        let mut usage = self.usage(retention::used(conn)?);
        if !self.space {
            usage.free = u64::MAX;
        }
        let mut items = Vec::new();
        if let (Some(proven), Some(max_age)) = (self.proven, self.limits.max_age) {
            items = retention::too_old(conn, proven, max_age, self.uploads, BATCH)?;
        }
        let mut whole = items.len() < BATCH as usize;
        if exceeded(&usage, &self.limits) {
            let over = |(camera, limit): (&String, &u64)| {
                (usage.cameras.get(camera)? > limit).then(|| camera.clone())
            };
            let mut over: Vec<Option<String>> = self
                .limits
                .cameras
                .iter()
                .filter_map(over)
                .map(Some)
                .collect();
            over.push(None);
            for camera in over {
                let found = retention::candidates(conn, camera.as_deref(), self.uploads, BATCH)?;
                whole &= found.len() < BATCH as usize;
                items.extend(found);
            }
            // Those that are too old come first: they know their age.
            let mut seen = std::collections::BTreeSet::new();
            items.retain(|i| seen.insert(i.key));
        }
        let decision = decide(&items, &usage, &self.limits);
        let mut decided = Decided {
            more: !whole && decision.victims.len() as u32 >= BATCH,
            unmet: decision
                .unmet
                .iter()
                .filter(|_| whole)
                .map(|w| w.as_str())
                .collect(),
            ..Decided::default()
        };
        for (i, why) in decision.victims.into_iter().take(BATCH as usize) {
            let item = &items[i];
            let Some(rev) = retention::delete(conn, item.key, why)? else {
                continue;
            };
            let (id, at) = (RecordId((self.ids)()), self.now);
            let record = match item.key {
                FileId::Clip(clip) => records::recording_deleted(
                    id,
                    &item.camera,
                    RecordingId(clip),
                    why.as_str(),
                    rev,
                    at,
                ),
                FileId::Picture(picture) => {
                    records::snapshot_deleted(id, &item.camera, picture, why.as_str(), rev, at)
                }
            };
            outbox::put(conn, run, &record)?;
            let gone = decided.gone.entry(why).or_default();
            gone.files += 1;
            gone.bytes += item.bytes;
            if let Some(used) = usage.cameras.get_mut(&item.camera) {
                *used = used.saturating_sub(item.bytes);
            }
        }
        retention::forget(conn, retention::GONE_KEPT)?;
        decided.usage = usage;
        Ok(decided)
    }

    /// Adds what grows and what is free to what is closed.
    fn usage(&self, mut usage: Usage) -> Usage {
        for (clip, bytes) in &self.seen.open {
            *usage.cameras.entry(clip.camera.to_string()).or_default() += bytes;
        }
        usage.free = self.seen.look.free;
        usage.floor = self.min_free;
        let growth = |(clip, bytes): &(OpenClip, u64)| match clip.usual {
            0 => FIRST_CLIP.saturating_sub(*bytes),
            usual => usual.saturating_sub(*bytes),
        };
        let open = self.seen.open.iter().map(growth);
        usage.reserve = reserve(
            self.min_free,
            self.seen.database_growth,
            open,
            self.seen.total,
        );
        usage
    }
}
