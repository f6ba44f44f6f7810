//! Makes rows and files agree again: what plays gets a row, what is not there is said to be lost.
//!
//! Each finding is looked at once more when it is acted upon, so this may run beside cameras. Idempotent; each step is one
//! transaction.

mod examine;
mod survey;

use self::examine::{Seen, examine, look_at};
pub use self::survey::{Key, Survey, survey};
use super::records::{self, ClosedClip};
use crate::db::recordings::{self, KeptFile, Opening};
use crate::db::retention::{self, FileId};
use crate::db::{Connection, Db, DbError, IdSource, Urgency, outbox, snapshots};
use crate::model::{
    CameraId, ClipState, RecordId, RecordMode, RecordingId, SnapshotId, StreamInfo,
};
use crate::recording::audit::Finding;
use crate::spool::salvage::Salvaged;
use crate::spool::{Spool, SpoolError, part_of};
use crate::time::{Mono, Wall};

/// What became of the findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reindexed {
    /// Files that have a row now.
    pub adopted: usize,
    /// Rows that tell the truth about their file now.
    pub corrected: usize,
    /// Rows that say lost now.
    pub lost: usize,
    /// Files of deleted rows, and rests of which nothing plays, that were removed.
    pub removed: usize,
    /// What could not be put in order; the log says why.
    pub failed: usize,
}

/// Puts findings in order.
pub struct Reindexer {
    /// Rows.
    pub db: Db,
    /// Files.
    pub spool: Spool,
    /// Makes record ids.
    pub ids: IdSource,
    /// Now.
    pub now: Mono,
}

impl Reindexer {
    /// Gives rows to the files that are there and have none, or whose rows say lost: beside a running agent, after the
    /// database was lost, and when the disk is back. That a file is missing is never concluded here: perhaps it is
    /// another disk.
    pub async fn run(self) {
        let (db, spool) = (self.db.path().to_owned(), self.spool.clone());
        let look = tokio::task::spawn_blocking(move || {
            survey(
                || crate::db::schema::open_reader(&db).map(Some),
                &spool,
                true,
            )
        });
        match look.await {
            Ok(Ok(survey)) => {
                let mut sum = Reindexed::default();
                let there =
                    |f: &Finding| matches!(f, Finding::FileWithoutRow | Finding::FoundAgain);
                for finding in survey.findings.into_iter().filter(|(_, f)| there(f)) {
                    self.put_in_order(&finding.0, finding.1, &mut sum).await;
                }
                if sum != Reindexed::default() {
                    tracing::warn!(
                        adopted = sum.adopted,
                        corrected = sum.corrected,
                        lost = sum.lost,
                        removed = sum.removed,
                        failed = sum.failed,
                        "rows and files agree again"
                    );
                }
            }
            Ok(Err(e)) => tracing::warn!(error = e, "rows and files cannot be compared"),
            Err(e) => tracing::warn!(error = %e, "rows and files cannot be compared"),
        }
    }

    /// Puts one finding in order.
    pub async fn put_in_order(&self, key: &Key, finding: Finding, sum: &mut Reindexed) {
        let Ok(camera) = key.0.parse::<CameraId>() else {
            return;
        };
        let done = match key.1 {
            FileId::Clip(id) => self.clip(camera, RecordingId(id), finding, sum).await,
            FileId::Picture(id) => self.picture(camera, SnapshotId(id), finding, sum).await,
        };
        if let Err(e) = done {
            tracing::error!(error = e, camera = key.0, id = %key.1.uuid(), "a file cannot be put in order");
            sum.failed += 1;
        }
    }

    async fn clip(
        &self,
        camera: CameraId,
        id: RecordingId,
        finding: Finding,
        sum: &mut Reindexed,
    ) -> Result<(), String> {
        match finding {
            Finding::LeftOpen => return Ok(()),
            Finding::NotYetRemoved | Finding::StrayPart => {
                let (spool, part) = (self.spool.clone(), finding == Finding::StrayPart);
                blocking(move || match part {
                    true => crate::spool::unlink(&part_of(&spool.clip_path(&camera, id))).map(drop),
                    false => spool.remove(&camera, id).map(drop),
                })
                .await?;
                self.call(move |c, _| retention::swept(c, FileId::Clip(id.0)))
                    .await?;
                sum.removed += 1;
                return Ok(());
            }
            Finding::RowWithoutFile
            | Finding::OtherLength
            | Finding::FileWithoutRow
            | Finding::FoundAgain => {}
        }
        let (spool, of) = (self.spool.clone(), camera.clone());
        let seen = blocking(move || examine(&spool, &of, id)).await?;
        let row = self.call(move |c, _| recordings::find(c, id)).await?;
        match (seen, row) {
            (Seen::Clip(clip, _), Some(row)) if row.state != "recording" => {
                let file = kept(&clip);
                let ids = self.ids.clone();
                self.call(move |c, run| {
                    recordings::correct(c, id, &file)?;
                    let clip = ClosedClip {
                        id,
                        camera: row.camera.clone(),
                        event: row.event,
                        started: row.started,
                        mode: row.mode.clone(),
                        codec: row.codec.clone(),
                        width: row.width,
                        height: row.height,
                        has_audio: row.has_audio,
                        path: row.path.clone(),
                        rev: row.rev + 1,
                    };
                    let record = records::recording_closed(RecordId((ids)()), &clip, &file);
                    let run = crate::db::Run {
                        boot: row.boot,
                        ..run.clone()
                    };
                    outbox::put(c, &run, &record)
                })
                .await?;
                sum.corrected += 1;
            }
            (Seen::Clip(clip, start), None) => {
                self.adopt(camera, id, clip, start).await?;
                sum.adopted += 1;
            }
            (Seen::Nothing, None) => sum.removed += 1,
            (Seen::Nothing | Seen::Gone, Some(row)) if row.state == "kept" => {
                let (ids, at) = (self.ids.clone(), self.now);
                self.call(move |c, run| {
                    recordings::mark(c, id, ClipState::Lost)?;
                    let (record, rev) = (RecordId((ids)()), row.rev + 1);
                    let record =
                        records::recording_deleted(record, &row.camera, id, "lost", rev, at);
                    outbox::put(c, run, &record)
                })
                .await?;
                sum.lost += 1;
            }
            // It changed meanwhile, or says lost already.
            _ => {}
        }
        Ok(())
    }

    async fn adopt(
        &self,
        camera: CameraId,
        id: RecordingId,
        clip: Salvaged,
        start: Wall,
    ) -> Result<(), String> {
        let (codec, width, height, has_audio) = clip.picture;
        let ids = self.ids.clone();
        self.call(move |c, run| {
            let run = retention::adopting(c, run)?;
            let opening = Opening {
                id,
                event: None,
                started: retention::adopted_moment(start),
                // Nothing tells a segment from an event's clip; what may be evidence is treated as such.
                mode: RecordMode::Motion,
                info: StreamInfo {
                    codec,
                    width,
                    height,
                    fps: 0.0,
                    has_audio,
                },
                path: format!("{camera}/{id}.mp4"),
            };
            let file = kept(&clip);
            recordings::open(c, &run, &camera, &opening)?;
            recordings::keep(c, id, &file)?;
            let clip = ClosedClip {
                id,
                camera: camera.to_string(),
                event: None,
                started: opening.started,
                mode: opening.mode.as_str().into(),
                codec: codec.to_string(),
                width,
                height,
                has_audio,
                path: opening.path.clone(),
                rev: 2,
            };
            let record = records::recording_closed(RecordId((ids)()), &clip, &file);
            outbox::put(c, &run, &record)
        })
        .await
    }

    async fn picture(
        &self,
        camera: CameraId,
        id: SnapshotId,
        finding: Finding,
        sum: &mut Reindexed,
    ) -> Result<(), String> {
        let (spool, of) = (self.spool.clone(), camera.clone());
        match finding {
            Finding::NotYetRemoved => {
                blocking(move || spool.remove(&of, RecordingId(id.0)).map(drop)).await?;
                self.call(move |c, _| retention::swept(c, FileId::Picture(id.0)))
                    .await?;
                sum.removed += 1;
            }
            Finding::RowWithoutFile => {
                if blocking(move || Ok(spool.picture_path(&of, RecordingId(id.0)).exists())).await?
                {
                    return Ok(());
                }
                let (ids, at) = (self.ids.clone(), self.now);
                self.call(move |c, run| {
                    let Some(rev) = snapshots::lost(c, id)? else {
                        return Ok(());
                    };
                    let (record, camera) = (RecordId((ids)()), camera.as_str());
                    let record = records::snapshot_deleted(record, camera, id.0, "lost", rev, at);
                    outbox::put(c, run, &record)
                })
                .await?;
                sum.lost += 1;
            }
            Finding::FileWithoutRow | Finding::FoundAgain | Finding::OtherLength => {
                let Some(picture) = blocking(move || look_at(&spool, of, id)).await? else {
                    return Err("not a JPEG".into());
                };
                let known = finding != Finding::FileWithoutRow;
                self.call(move |c, run| match known {
                    true => snapshots::correct(c, &picture),
                    false => snapshots::keep(c, &retention::adopting(c, run)?, &picture),
                })
                .await?;
                if known {
                    sum.corrected += 1;
                } else {
                    sum.adopted += 1;
                }
            }
            Finding::StrayPart | Finding::LeftOpen => {}
        }
        Ok(())
    }

    async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &crate::db::Run) -> Result<R, DbError> + Send + 'static,
    ) -> Result<R, String> {
        let done = self.db.call(Urgency::Soon, work).await;
        done.map_err(|e| e.to_string())
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, SpoolError> + Send + 'static,
) -> Result<R, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn kept(clip: &Salvaged) -> KeptFile {
    KeptFile {
        size_bytes: clip.size_bytes,
        duration_ms: clip.duration.as_millis() as u64,
        sha256: clip.sha256,
        truncated: clip.truncated,
    }
}
