//! Brings clips and pictures to object storage, one turn at a time.
//!
//! ```text
//! what waits ─ order, policy, hours, budget ─▶ held (not deleted) ─▶ addresses ─▶ PUTs ─▶ complete ─▶ uploaded, told
//!      ▲                                          │ given way, cut, refused: released, and later again │
//!      └──────────────────────────────────────────┴──────────────────────────────────────────────────┘
//! ```
//!
//! [`MediaUpload::pass`] takes no input and may be cut anywhere: which parts are there is the storage's to say, so after a kill,
//! a reboot or in another network an upload goes on where it was, and sends at most the part that was cut again. A file is
//! never believed to be in the cloud before the cloud has read it and said so, signed.

mod parts;
mod settings;
mod step;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::settings::{Settings, UploadHandle};
use self::step::Step;
use super::disk::Disk;
use super::status::StatusHub;
use super::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::Client;
use crate::cloud::client::Transport;
use crate::cloud::storage::Storage;
use crate::db::retention::FileId;
use crate::db::uploads::{self, Waiting};
use crate::db::{Db, DbError, IdSource, Urgency};
use crate::restart::Backoff;
use crate::spool::Spool;
use crate::time::Mono;
use crate::upload::gate::{Line, day};
use crate::upload::order::{Class, choose, is_turn_of_oldest};
use crate::upload::rate::Bucket;

/// Looks at the table at least this often.
const PERIOD: Duration = Duration::from_secs(15);
/// Nothing can be signed before the time is known.
const TIME_PERIOD: Duration = Duration::from_secs(1);
/// One file that is refused again and again waits longer each time, up to this.
const LONGEST_OF_FILE: Duration = Duration::from_secs(3600);
const FIRST_OF_FILE: Duration = Duration::from_secs(5);
/// Files whose waits are remembered; of more, the one whose wait ends first is forgotten.
const MAX_WAITS: usize = 1024;

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Nothing may go now; a file that waits for its next try does so until this moment.
    Idle(Option<Mono>),
    /// More may wait: call again.
    More,
    /// Nothing before this moment, whatever comes.
    Wait(Mono),
}

/// What it works with.
#[derive(Clone)]
pub struct Parts {
    /// Rows.
    pub db: Db,
    /// Files.
    pub spool: Spool,
    /// How the disk is.
    pub disk: Disk,
    /// The way to the storage.
    pub storage: Storage,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Nonces, and how long to wait.
    pub entropy: Entropy,
    /// Makes record ids.
    pub ids: IdSource,
    /// Where it is shown.
    pub status: StatusHub,
    /// What is in force, and who rings.
    pub handle: UploadHandle,
    /// Wakes the uploader of records.
    pub sync: Arc<Notify>,
}

/// The task; everything that matters is in the table.
pub struct MediaUpload<T = Client> {
    parts: Parts,
    client: T,
    settings: watch::Receiver<Settings>,
    bucket: Arc<Mutex<Bucket>>,
    backoff: Backoff,
    waits: BTreeMap<FileId, (u32, Mono)>,
    /// Did not go on last time, by their own fault or not: others first, except in the turn of the oldest.
    stuck: BTreeSet<FileId>,
    turn: u64,
    fresh: bool,
    shown: Shown,
}

/// What `status` says besides the queue.
#[derive(Debug, Clone, Default)]
struct Shown {
    state: &'static str,
    error: Option<String>,
    uploaded: u64,
    bytes: u64,
    rate_bps: u64,
    held: Option<crate::upload::gate::Held>,
}

impl<T: Transport> MediaUpload<T> {
    /// Uploads as `client`.
    pub fn new(parts: Parts, client: T) -> Self {
        let settings = parts.handle.settings.clone();
        let rate = settings.borrow().config.max_kbps;
        let bucket = Bucket::new(rate, parts.time.mono());
        MediaUpload {
            client,
            settings,
            bucket: Arc::new(Mutex::new(bucket)),
            backoff: Backoff::http(),
            waits: BTreeMap::new(),
            stuck: BTreeSet::new(),
            turn: 0,
            fresh: true,
            shown: Shown::default(),
            parts,
        }
    }

    /// Runs passes until `stop`; what is under way then goes on at the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let pass = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                pass = self.pass() => pass,
            };
            let (deaf, until) = match pass {
                Ok(Pass::More) => continue,
                Ok(Pass::Wait(until)) => (true, Some(until)),
                Ok(Pass::Idle(until)) => (false, until),
                Err(e) => {
                    tracing::error!(error = %e, "uploads cannot be read");
                    (false, None)
                }
            };
            let wake = Arc::clone(&self.parts.handle.wake);
            let pause = until.map_or(PERIOD, |until| until.since(self.parts.time.mono()));
            let pause = if deaf { pause } else { pause.min(PERIOD) };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = self.settings.changed() => self.fresh = true,
                () = wake.notified(), if !deaf => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One turn: the file that comes next, until it is there, gives way, or cannot go on.
    ///
    /// # Errors
    /// [`DbError`] only: what the network does is an outcome, not an error.
    pub async fn pass(&mut self) -> Result<Pass, DbError> {
        if !self.parts.disk.readable() {
            return self.rest("disk", None).await;
        }
        if !self.parts.time.is_synced() {
            self.shown.state = "no-time";
            return Ok(Pass::Wait(self.parts.time.mono() + TIME_PERIOD));
        }
        self.take_settings().await?;
        if self.settings.borrow().hosts.is_empty() {
            return self.rest("no-hosts", None).await;
        }
        let line = self.line(0).await?;
        let waiting = self
            .parts
            .db
            .call(Urgency::Now, |c, _| uploads::waiting(c))
            .await?;
        let now = self.parts.time.mono();
        let mut held = None;
        let mut next_try: Option<Mono> = None;
        let ready: Vec<&Waiting> = waiting
            .iter()
            .filter(|w| {
                if let Some((_, until)) = self.waits.get(&w.file)
                    && *until > now
                {
                    next_try = Some(next_try.map_or(*until, |t| t.min(*until)));
                    return false;
                }
                let holds = line.holds(w.place.class);
                held = held.or(holds);
                holds.is_none()
            })
            .collect();
        self.shown.held = held;
        self.stuck
            .retain(|file| ready.iter().any(|w| w.file == *file));
        if self.stuck.len() == ready.len() {
            self.stuck.clear();
        }
        let free = |w: &&&Waiting| is_turn_of_oldest(self.turn) || !self.stuck.contains(&w.file);
        let ready: Vec<&Waiting> = ready.iter().filter(free).copied().collect();
        let places: Vec<_> = ready.iter().map(|w| w.place).collect();
        let Some(chosen) = choose(&places, self.turn) else {
            let state = if held.is_some() { "held" } else { "idle" };
            return self.rest(state, next_try).await;
        };
        let file = ready[chosen].clone();
        self.turn = self.turn.wrapping_add(1);
        self.shown.state = "uploading";
        self.show().await?;
        let step = self.step(&file).await?;
        let pass = self.settle(&file, step).await?;
        self.show().await?;
        Ok(pass)
    }

    /// What is in force may have changed: policies of what waits, the rate. At the start: what a kill left held.
    async fn take_settings(&mut self) -> Result<(), DbError> {
        let settings = {
            let now = self.settings.borrow_and_update();
            self.fresh |= now.has_changed();
            now.clone()
        };
        let anew = self.fresh;
        self.bucket()
            .set(settings.config.max_kbps, self.parts.time.mono());
        let wants = settings.wants();
        let work = move |c: &crate::db::Connection, _: &crate::db::Run| {
            if anew {
                uploads::after_start(c)?;
            }
            uploads::apply_policy(c, &wants, anew)
        };
        self.parts.db.call(Urgency::Now, work).await?;
        self.fresh = false;
        Ok(())
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        // A plain value, whole at any time.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The day whose budget counts.
    fn today(&self) -> String {
        day(self.parts.time.wall(), &self.settings.borrow().zone).to_string()
    }

    /// What holds now; `under_way` bytes have left and are in no table yet.
    async fn line(&self, under_way: u64) -> Result<Line, DbError> {
        let today = self.today();
        let sent = self
            .parts
            .db
            .call(Urgency::Now, move |c, _| uploads::sent_on(c, &today))
            .await?;
        let sent = sent + under_way;
        let settings = self.settings.borrow();
        Ok(Line::at(
            self.parts.time.wall(),
            &settings.zone,
            &settings.config,
            sent,
        ))
    }

    /// Whether a file of this class is stopped before a part: by the line, by other settings, or, unless it `has_turn`, by
    /// one that matters more.
    async fn must_stop(
        &self,
        class: Class,
        under_way: u64,
        has_turn: bool,
    ) -> Result<bool, DbError> {
        if self.line(under_way).await?.holds(class).is_some() || !self.parts.disk.readable() {
            return Ok(true);
        }
        if self.settings.has_changed().unwrap_or(false) {
            return Ok(true);
        }
        if class == Class::Asked || has_turn {
            return Ok(false);
        }
        let waiting = self
            .parts
            .db
            .call(Urgency::Now, |c, _| uploads::waiting(c))
            .await?;
        let now = self.parts.time.mono();
        Ok(waiting.iter().any(|w| {
            crate::upload::order::gives_way(class, w.place.class)
                && self
                    .waits
                    .get(&w.file)
                    .is_none_or(|(_, until)| *until <= now)
        }))
    }

    /// Writes down what a turn came to.
    async fn settle(&mut self, waiting: &Waiting, step: Step) -> Result<Pass, DbError> {
        let (file, now) = (waiting.file, self.parts.time.mono());
        let db = self.parts.db.clone();
        let release = async |mismatch| {
            db.call(Urgency::Now, move |c, _| {
                uploads::release(c, file, mismatch)
            })
            .await
        };
        match step {
            Step::Done => {
                self.works(now);
                self.waits.remove(&file);
                self.shown.uploaded += 1;
                self.told(waiting).await?;
                Ok(Pass::More)
            }
            Step::Away => Ok(Pass::More),
            Step::GivesWay => {
                release(false).await?;
                Ok(Pass::More)
            }
            Step::Gone => {
                self.waits.remove(&file);
                self.lost(waiting, now).await?;
                Ok(Pass::More)
            }
            Step::Soon(wait) => {
                release(false).await?;
                self.wait(file, now + wait, false);
                Ok(Pass::More)
            }
            Step::Mismatch => {
                release(true).await?;
                self.trouble("what arrived was not the file");
                let pause = self.pause_of(file);
                self.wait(file, now + pause, true);
                Ok(Pass::More)
            }
            Step::Never(code) => {
                self.waits.remove(&file);
                self.never(waiting, code, now).await?;
                Ok(Pass::More)
            }
            Step::Later(wait, why) => {
                release(false).await?;
                self.trouble(&why);
                let random = self.parts.entropy.unit();
                let until = match wait {
                    Some(wait) => self.backoff.next_after(now, random, wait),
                    None => self.backoff.next(now, random),
                };
                self.stuck.insert(file);
                Ok(Pass::Wait(until))
            }
            Step::Pause(wait, why) => {
                release(false).await?;
                self.trouble(why);
                Ok(Pass::Wait(now + wait))
            }
        }
    }

    /// How long a file waits that did not arrive, longer each time.
    fn pause_of(&self, file: FileId) -> Duration {
        let times = self.waits.get(&file).map_or(0, |(n, _)| *n).min(16);
        let pause = FIRST_OF_FILE
            .saturating_mul(1 << times)
            .min(LONGEST_OF_FILE);
        pause.mul_f64(0.5 + self.parts.entropy.unit() / 2.0)
    }

    fn works(&mut self, now: Mono) {
        self.backoff.works(now);
        self.shown.error = None;
    }

    fn trouble(&mut self, why: &str) {
        if self.shown.error.as_deref() != Some(why) {
            tracing::warn!(why, "an upload did not go on");
        }
        self.shown.state = "retrying";
        self.shown.error = Some(why.to_owned());
    }

    fn wait(&mut self, file: FileId, until: Mono, failed: bool) {
        let times = self.waits.get(&file).map_or(0, |(n, _)| *n) + u32::from(failed);
        self.waits.insert(file, (times, until));
        if self.waits.len() > MAX_WAITS
            && let Some(first) = self
                .waits
                .iter()
                .min_by_key(|(_, (_, until))| *until)
                .map(|(f, _)| *f)
        {
            self.waits.remove(&first);
        }
    }

    async fn rest(&mut self, state: &'static str, until: Option<Mono>) -> Result<Pass, DbError> {
        self.shown.state = state;
        self.show().await?;
        Ok(Pass::Idle(until))
    }

    async fn show(&self) -> Result<(), DbError> {
        let today = self.today();
        let work = move |c: &crate::db::Connection, _: &crate::db::Run| {
            Ok((uploads::queue(c)?, uploads::sent_on(c, &today)?))
        };
        let (queue, sent_today) = self.parts.db.call(Urgency::Now, work).await?;
        let (s, settings) = (&self.shown, self.settings.borrow());
        let shown = json!({
            "state": s.state, "last_error": s.error, "held": s.held, "queue": queue, "uploaded": s.uploaded,
            "uploaded_bytes": s.bytes, "rate_bps": s.rate_bps, "sent_today_bytes": sent_today,
            "daily_budget_bytes": settings.config.daily_budget.map(|b| b.0), "max_kbps": settings.config.max_kbps,
            "time_zone": settings.config.time_zone, "zone_unknown": settings.zone_unknown,
        });
        drop(settings);
        self.parts.status.update(|st| st.upload = shown);
        Ok(())
    }
}
