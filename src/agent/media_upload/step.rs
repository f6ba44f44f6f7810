//! One turn of one file: addresses, PUTs, completion, until something decides.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::MediaUpload;
use crate::cloud::client::{Call, Reply, Transport};
use crate::cloud::storage::{Moved, Range, Reading, Throttle};
use crate::db::retention::FileId;
use crate::db::uploads::{self, Waiting};
use crate::db::{Db, DbError, Urgency};
use crate::model::{CameraId, RecordingId, Sha256};
use crate::supervise::failpoint;
use crate::upload::answer::{
    self, Answer, BEGIN_PATH, Begun, Next, Part, Put, abort_path, after_begin, after_complete,
    after_put, complete_path,
};
use crate::wire::address::{Rule, Target, judge, upload_port};
use crate::wire::keys::KeySlot;

/// Questions for addresses in one turn: 4 GiB need 26, the rest is for storages that forget.
const MAX_QUESTIONS: u32 = 64;
/// Refusals of fresh addresses in a row after which the upload is begun anew.
const MAX_REFUSED: u32 = 3;
/// So often in a turn the storage may forget what it had, or say that parts are missing that were sent.
const MAX_FORGOTTEN: u32 = 4;

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The cloud has verified it.
    Done,
    /// It is not to be uploaded any more.
    Away,
    /// Something else goes first.
    GivesWay,
    /// Its file is not there.
    Gone,
    /// The cloud looks at it: ask again after this.
    Soon(Duration),
    /// What arrived was not the file, which is as it was.
    Mismatch,
    /// Not as it is.
    Never(&'static str),
    /// Network or storage: backoff, or this wait.
    Later(Option<Duration>, String),
    /// Nothing can be uploaded for so long.
    Pause(Duration, &'static str),
}

/// A file that was opened and has the right length.
struct Source {
    file: Arc<File>,
    size: u64,
}

impl Source {
    /// Begins to read what a part takes.
    fn read(&self, part: &Part) -> Reading {
        debug_assert!(part.offset + part.size <= self.size);
        Reading::start(Range {
            file: Arc::clone(&self.file),
            offset: part.offset,
            size: part.size,
        })
    }
}

/// What a PUT came to.
struct Sent {
    put: Put,
    /// How long to wait, and why, where it did not work.
    rest: (Option<Duration>, String),
    etag: Option<String>,
    /// Whether the next part may go, and then its first bytes; `None`: that is not known yet.
    ready: Option<Option<Reading>>,
}

/// What a PUT came to and is not in the table yet. Lost with the process: the storage knows the part all the same.
pub(super) struct Note {
    file: FileId,
    /// That left, also where it failed.
    pub(super) bytes: u64,
    day: String,
    part: Option<(u32, String)>,
}

async fn write_down(db: Db, note: Option<Note>) -> Result<(), DbError> {
    let Some(note) = note else {
        return Ok(());
    };
    let work = move |c: &crate::db::Connection, _: &crate::db::Run| {
        let part = note.part.as_ref().map(|(n, tag)| (*n, tag.as_str()));
        uploads::sent(c, note.file, note.bytes, &note.day, part)
    };
    db.call(Urgency::Now, work).await
}

/// What a round of PUTs came to.
enum Round {
    /// All of them are there.
    Sent,
    /// Ask for addresses again.
    Renew,
    /// `complete` says what is there.
    Complete,
    /// The turn ends so.
    End(Step),
}

impl<T: Transport> MediaUpload<T> {
    /// Brings one file as far as it goes.
    pub(super) async fn step(&mut self, w: &Waiting) -> Result<Step, DbError> {
        let step = self.go(w).await;
        write_down(self.parts.db.clone(), self.unnoted.take()).await?;
        step
    }

    async fn go(&mut self, w: &Waiting) -> Result<Step, DbError> {
        let file = w.file;
        if !self
            .parts
            .db
            .call(Urgency::Now, move |c, _| uploads::hold(c, file))
            .await?
        {
            return Ok(Step::Away);
        }
        let source = match self.open(w).await {
            Ok(source) => source,
            Err(step) => return Ok(step),
        };
        let (mut refused, mut forgotten, mut known) = (0, 0, BTreeMap::new());
        for _ in 0..MAX_QUESTIONS {
            write_down(self.parts.db.clone(), self.unnoted.take()).await?;
            let begun = match self.begin(w).await {
                Next::Send(begun) => begun,
                next => return self.after(w, next).await,
            };
            let upload = begun.upload_id;
            let tags = self
                .parts
                .db
                .call(Urgency::Now, move |c, _| uploads::begun(c, file, upload))
                .await?;
            known.extend(tags);
            failpoint::hit("upload.begun");
            let more = begun.more;
            match self
                .round(w, &source, begun, &mut known, &mut refused)
                .await?
            {
                Round::Sent if more => continue,
                Round::Sent | Round::Complete => {}
                Round::Renew if refused >= MAX_REFUSED => {
                    self.give_up(upload).await;
                    return Ok(Step::Later(
                        None,
                        "the storage refuses fresh addresses".into(),
                    ));
                }
                Round::Renew => {
                    forgotten += 1;
                    if forgotten > MAX_FORGOTTEN {
                        return Ok(Step::Later(None, "the storage forgets what it had".into()));
                    }
                    continue;
                }
                Round::End(step) => return Ok(step),
            }
            failpoint::hit("upload.sent");
            match self.complete(w, upload, &known).await {
                // It says what is missing: asked for again, and sent.
                Next::Renew => {
                    forgotten += 1;
                    if forgotten > MAX_FORGOTTEN {
                        return Ok(Step::Later(None, "the storage forgets what it had".into()));
                    }
                }
                next => return self.after(w, next).await,
            }
        }
        Ok(Step::Later(
            None,
            "the cloud asks for parts without end".into(),
        ))
    }

    async fn after(&self, w: &Waiting, next: Next) -> Result<Step, DbError> {
        Ok(match next {
            Next::Available => Step::Done,
            Next::Soon(wait) => Step::Soon(wait),
            Next::Never(code) => Step::Never(code),
            Next::Pause(wait, why) => Step::Pause(wait, why),
            Next::Later(wait) => Step::Later(wait, "the cloud did not take the question".into()),
            Next::Mismatch => self.compare(w).await,
            Next::Send(_) | Next::Renew => Step::Later(None, "the cloud makes no sense".into()),
        })
    }

    /// Where the file lies; a camera's name that is none has none.
    fn path(&self, w: &Waiting) -> Option<PathBuf> {
        let camera: CameraId = w.camera.parse().ok()?;
        Some(match w.file {
            FileId::Clip(id) => self.parts.spool.clip_path(&camera, RecordingId(id)),
            FileId::Picture(id) => self.parts.spool.picture_path(&camera, RecordingId(id)),
        })
    }

    async fn open(&self, w: &Waiting) -> Result<Source, Step> {
        let path = self.path(w).ok_or(Step::Gone)?;
        let opened = tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok::<_, std::io::Error>((file, size))
        });
        match opened.await {
            Ok(Ok((file, size))) if size == w.size => Ok(Source {
                file: Arc::new(file),
                size,
            }),
            Ok(Ok(_)) => Err(Step::Never("changed")),
            Ok(Err(e))
                if e.kind() == std::io::ErrorKind::NotFound
                    && self.parts.spool.check_mount().is_ok() =>
            {
                Err(Step::Gone)
            }
            Ok(Err(e)) => Err(Step::Later(None, format!("the file cannot be read: {e}"))),
            Err(e) => Err(Step::Later(None, e.to_string())),
        }
    }

    /// What arrived was not the file: is the file still what it was?
    async fn compare(&self, w: &Waiting) -> Step {
        let Some(path) = self.path(w) else {
            return Step::Gone;
        };
        let hashed = tokio::task::spawn_blocking(move || Sha256::of_reader(File::open(path)?));
        match hashed.await {
            Ok(Ok((sha256, size))) if (sha256, size) == (w.sha256, w.size) => Step::Mismatch,
            Ok(Ok(_)) => Step::Never("changed"),
            Ok(Err(e)) => Step::Later(None, format!("the file cannot be read: {e}")),
            Err(e) => Step::Later(None, e.to_string()),
        }
    }

    async fn begin(&self, w: &Waiting) -> Next {
        let (name, content_type) = match w.file {
            FileId::Clip(_) => ("recording_id", "video/mp4"),
            FileId::Picture(_) => ("snapshot_id", "image/jpeg"),
        };
        let mut body =
            json!({ "size": w.size, "sha256": w.sha256.to_string(), "content_type": content_type });
        body[name] = json!(w.file.uuid());
        match self
            .ask(BEGIN_PATH, Some(body.to_string().as_bytes()), false)
            .await
        {
            Some(reply) => after_begin(&answer_of(&reply), w.size),
            None => Next::Later(None),
        }
    }

    async fn complete(&self, w: &Waiting, upload: Uuid, known: &BTreeMap<u32, String>) -> Next {
        let parts: Vec<_> = known
            .iter()
            .map(|(n, etag)| json!({ "n": n, "etag": etag }))
            .collect();
        let body = json!({ "parts": parts }).to_string();
        match self
            .ask(&complete_path(upload), Some(body.as_bytes()), false)
            .await
        {
            Some(reply) => after_complete(&answer_of(&reply), w.size, &w.sha256.to_string()),
            None => Next::Later(None),
        }
    }

    /// Tells the cloud that this upload is not gone on with. If it does not hear it, it finds out by itself.
    async fn give_up(&self, upload: Uuid) {
        let _ = self.ask(&abort_path(upload), None, true).await;
    }

    async fn ask(&self, path: &str, body: Option<&[u8]>, delete: bool) -> Option<Reply> {
        let call = Call {
            path,
            body,
            delete,
            content_type: "application/json",
            idempotency_key: None,
            if_none_match: None,
            gzip: false,
            key: KeySlot::Current,
            any_date: false,
        };
        let (now, nonce) = (self.parts.time.wall(), self.parts.entropy.bytes());
        let reply = self.client.send(&call, now, nonce).await;
        reply
            .inspect_err(|e| tracing::debug!(error = %e, "no answer about an upload"))
            .ok()
    }

    /// Sends the parts in their order, one at a time. Whether the next one may go, and its first bytes, are got ready while
    /// the storage thinks about the one before.
    async fn round(
        &mut self,
        w: &Waiting,
        source: &Source,
        begun: Begun,
        known: &mut BTreeMap<u32, String>,
        refused: &mut u32,
    ) -> Result<Round, DbError> {
        let mut ready = None;
        for (i, part) in begun.parts.iter().enumerate() {
            let reading = match ready.take() {
                Some(next) => next,
                None if i == 0 && !begun.multipart => Some(source.read(part)),
                None => {
                    let stop = self.must_stop(w.place.class, 0).await?;
                    (!stop).then(|| source.read(part))
                }
            };
            let Some(reading) = reading else {
                return Ok(Round::End(Step::GivesWay));
            };
            let target = match self.allowed(part) {
                Ok(target) => target,
                Err(why) => return Ok(Round::End(Step::Later(None, why))),
            };
            let next = begun.parts.get(i + 1).map(|next| (source, next));
            let sent = self.put(w, part, &target, reading, next).await?;
            if let Some(etag) = sent.etag {
                known.insert(part.n, etag);
            }
            ready = sent.ready;
            match (sent.put, sent.rest) {
                (Put::Next, _) => *refused = 0,
                (Put::Expired, _) => {
                    *refused += 1;
                    return Ok(Round::Renew);
                }
                (Put::Forgotten, _) => return Ok(Round::Renew),
                (Put::Complete, _) => return Ok(Round::Complete),
                (Put::Again, (wait, why)) => return Ok(Round::End(Step::Later(wait, why))),
            }
        }
        Ok(Round::Sent)
    }

    /// The address rule, with the hosts of the signed twin.
    fn allowed(&self, part: &Part) -> Result<Target, String> {
        let hosts = &self.settings.borrow().hosts;
        let rule = Rule {
            schemes: &[("https", Some(443))],
            host: &|host| hosts.iter().any(|h| h.allows(host)),
            port: &upload_port,
        };
        judge(&part.url, &rule).map_err(|denied| format!("an address of the cloud {denied}"))
    }

    async fn put(
        &mut self,
        w: &Waiting,
        part: &Part,
        target: &Target,
        reading: Reading,
        next: Option<(&Source, &Part)>,
    ) -> Result<Sent, DbError> {
        let (bucket, time) = (Arc::clone(&self.bucket), self.parts.time.clone());
        let throttle: Throttle = Arc::new(move |bytes| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes, time.mono())
        });
        let moved = Arc::<Moved>::default();
        let (began, now) = (self.parts.time.mono(), self.parts.time.wall());
        // What the part before came to is committed meanwhile: a card takes its time for that.
        let note = write_down(self.parts.db.clone(), self.unnoted.take());
        let storage = self.parts.storage.clone();
        let sending = storage.put(
            target,
            &part.headers,
            reading,
            throttle,
            Arc::clone(&moved),
            now,
        );
        tokio::pin!(sending);
        let noted = Notify::new();
        let ahead = async {
            let Some((source, next)) = next else {
                return std::future::pending().await;
            };
            tokio::join!(noted.notified(), moved.whole());
            let stop = self.must_stop(w.place.class, moved.bytes()).await?;
            Ok::<_, DbError>((!stop).then(|| source.read(next)))
        };
        let work = async {
            tokio::select! {
                biased;
                ready = ahead => (sending.await, Some(ready)),
                // The next part is not ready yet, or is none.
                outcome = &mut sending => (outcome, None),
            }
        };
        let note = async {
            let written = note.await;
            noted.notify_one();
            written
        };
        let ((outcome, ready), written) = tokio::join!(work, note);
        written?;
        let ready = ready.transpose()?;
        let bytes = moved.bytes();
        let (put, rest, etag) = match outcome {
            Ok(stored) => {
                let put = after_put(stored.status);
                let why = format!("the storage answered {}", stored.status);
                (put, (stored.retry_after, why), stored.etag)
            }
            Err(e) => (Put::Again, (None, e.to_string()), String::new()),
        };
        if put == Put::Next {
            let took = self.parts.time.mono().since(began).as_secs_f64().max(0.001);
            self.shown.rate_bps = (part.size as f64 / took) as u64;
            self.shown.bytes += part.size;
            self.backoff.works(self.parts.time.mono());
        }
        failpoint::hit("upload.part");
        let etag = answer::etag(&etag).filter(|_| put == Put::Next);
        self.unnoted = Some(Note {
            file: w.file,
            bytes,
            day: self.today(),
            part: etag.clone().map(|etag| (part.n, etag)),
        });
        Ok(Sent {
            put,
            rest,
            etag,
            ready,
        })
    }
}

fn answer_of(reply: &Reply) -> Answer<'_> {
    Answer {
        status: reply.status,
        code: &reply.code,
        authentic: reply.authentic,
        retry_after: reply.retry_after,
        body: &reply.body,
    }
}
