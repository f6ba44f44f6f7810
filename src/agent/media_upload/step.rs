//! One turn of one file: addresses, PUTs ([`super::parts`]), completion, until something decides.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::MediaUpload;
use super::parts::{Round, Source};
use crate::cloud::client::{Call, Reply, Transport};
use crate::db::retention::FileId;
use crate::db::uploads::{self, Waiting};
use crate::db::{DbError, Urgency};
use crate::model::{CameraId, RecordingId, Sha256};
use crate::supervise::failpoint;
use crate::upload::answer::{
    Answer, BEGIN_PATH, Next, abort_path, after_begin, after_complete, complete_path,
};
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

impl<T: Transport> MediaUpload<T> {
    /// Brings one file as far as it goes.
    pub(super) async fn step(&mut self, w: &Waiting) -> Result<Step, DbError> {
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
        // A turn sends one part at least: what gave way before that would never get on.
        let mut has_turn = true;
        for _ in 0..MAX_QUESTIONS {
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
                .round(w, &source, begun, &mut known, &mut refused, &mut has_turn)
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
        let has_directory = path.parent().is_some_and(std::path::Path::is_dir);
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
            // Where the camera's directory is not there either, it may be the disk that is gone.
            Ok(Err(e))
                if e.kind() == std::io::ErrorKind::NotFound
                    && has_directory
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
