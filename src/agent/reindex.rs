//! Makes rows and files agree again: what plays gets a row, what is not there is said to be lost.
//!
//! Each finding is looked at once more when it is acted upon, so this may run beside cameras. Idempotent; each step is one
//! transaction.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::records::{self, ClosedClip};
use crate::db::query::{self, FileRow};
use crate::db::recordings::{self, KeptFile, Opening};
use crate::db::retention::{self, FileId};
use crate::db::snapshots::{self, Picture};
use crate::db::{Connection, Db, DbError, IdSource, Urgency, outbox};
use crate::media::picture::jpeg_size;
use crate::model::{
    CameraId, ClipState, RecordId, RecordMode, RecordingId, Sha256, SnapshotId, StreamInfo,
    VideoCodec,
};
use crate::recording::audit::{Files, Finding, Says, compare};
use crate::spool::salvage::{Outcome, Salvaged, salvage};
use crate::spool::{FileKind, Spool, SpoolError, part_of};
use crate::time::{Mono, Wall};

/// A clip's id is made when its row is; its first frame is older by the pre-roll, which has this limit.
const LONGEST_PRE_ROLL: Duration = Duration::from_secs(70);
/// Pictures that are read into memory are smaller.
const MAX_PICTURE: u64 = 32 << 20;

/// A file by camera and id.
pub type Key = (String, FileId);

/// What was compared.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Where rows and files disagree.
    pub findings: Vec<(Key, Finding)>,
    /// Rows whose files should be there.
    pub rows: usize,
    /// Clips and pictures that are there.
    pub files: usize,
    /// Names that the agent does not give; never touched.
    pub foreign: Vec<PathBuf>,
}

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

/// Compares both ways. Files are listed before rows are read: a row is older than its file.
///
/// # Errors
/// What disk or database say, in words.
pub fn survey(
    conn: impl FnOnce() -> Result<Option<Connection>, DbError>,
    spool: &Spool,
    agent_runs: bool,
) -> Result<Survey, String> {
    let found = match spool.check_mount().and_then(|()| spool.scan()) {
        Ok(found) => found,
        Err(SpoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Vec::new()
        }
        Err(e) => return Err(e.to_string()),
    };
    let mut survey = Survey::default();
    let mut files: BTreeMap<Key, Files> = BTreeMap::new();
    for file in found {
        let (Some(camera), Some(id)) = (file.camera, file.id) else {
            if file.kind == FileKind::Foreign {
                survey.foreign.push(file.path);
            }
            continue;
        };
        let id = match file.kind {
            FileKind::Picture => FileId::Picture(id.0),
            _ => FileId::Clip(id.0),
        };
        let files = files.entry((camera.to_string(), id)).or_default();
        match file.kind {
            FileKind::Part => files.part = Some(file.bytes),
            _ => files.closed = Some(file.bytes),
        }
    }
    survey.files = files.len();
    let rows = match conn().map_err(|e| e.to_string())? {
        Some(conn) => query::all_files(&conn).map_err(|e| e.to_string())?,
        None => Vec::new(),
    };
    let rows: BTreeMap<Key, Says> = rows.into_iter().map(says).collect();
    let there = |s: &&Says| matches!(s, Says::There(_) | Says::Growing);
    survey.rows = rows.values().filter(there).count();
    survey.findings = compare(&rows, &files, agent_runs);
    Ok(survey)
}

fn says(row: FileRow) -> (Key, Says) {
    let says = match row.state.as_str() {
        "recording" => Says::Growing,
        "kept" => Says::There(row.size_bytes.unwrap_or(0)),
        "deleted" => Says::Deleted,
        _ => Says::Lost,
    };
    ((row.camera, row.id), says)
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

/// What a file turned out to be.
enum Seen {
    Clip(Salvaged, Wall, (VideoCodec, u32, u32, bool)),
    Nothing,
    Gone,
}

impl Reindexer {
    /// Compares and puts in order, beside a running agent: after the database was lost or made anew.
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
                for finding in survey.findings {
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
            (Seen::Clip(clip, _, _), Some(row)) if row.state != "recording" => {
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
            (Seen::Clip(clip, start, picture), None) => {
                self.adopt(camera, id, clip, start, picture).await?;
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
        (codec, width, height, has_audio): (VideoCodec, u32, u32, bool),
    ) -> Result<(), String> {
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

/// What is in a clip's file; what is not finished is made a clip of, what cannot be played is removed.
fn examine(spool: &Spool, camera: &CameraId, id: RecordingId) -> Result<Seen, SpoolError> {
    let path = spool.clip_path(camera, id);
    let part = part_of(&path);
    if path.exists() && part.exists() {
        // The closed one is complete, or it would not have its name.
        crate::spool::unlink(&part)?;
    }
    let there = [&path, &part].into_iter().find(|p| p.exists());
    let Some(modified) = there.map(|p| modified(p)) else {
        return Ok(Seen::Gone);
    };
    match salvage(&part)? {
        Outcome::Nothing { .. } => Ok(Seen::Nothing),
        Outcome::Salvaged(clip) => {
            let picture = clip.picture;
            let start = begun(id.0, modified, clip.duration);
            Ok(Seen::Clip(clip, start, picture))
        }
    }
}

fn modified(path: &std::path::Path) -> Option<Wall> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Wall::EPOCH + since)
}

/// When the first frame was captured: the file's last change less its length, where that fits what its id tells; else the
/// moment at which its id was made.
fn begun(id: uuid::Uuid, modified: Option<Wall>, length: Duration) -> Wall {
    let made = id.get_timestamp().map(|t| {
        let (s, ns) = t.to_unix();
        Wall::from_unix_seconds(s as i64) + Duration::from_nanos(ns.into())
    });
    match (made, modified.map(|m| m - length)) {
        (Some(made), Some(start)) if start > made - LONGEST_PRE_ROLL && start < made => start,
        (Some(made), _) => made,
        (None, Some(start)) => start,
        (None, None) => Wall::EPOCH,
    }
}

fn look_at(spool: &Spool, camera: CameraId, id: SnapshotId) -> Result<Option<Picture>, SpoolError> {
    let path = spool.picture_path(&camera, RecordingId(id.0));
    let io = crate::spool::failed("read", &path);
    let meta = match std::fs::metadata(&path) {
        Ok(meta) if meta.len() <= MAX_PICTURE => meta,
        Ok(_) => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let jpeg = std::fs::read(&path).map_err(io)?;
    let Some((width, height)) = jpeg_size(&jpeg) else {
        return Ok(None);
    };
    let Ok((sha256, _)) = Sha256::of_reader(&jpeg[..]) else {
        return Ok(None);
    };
    Ok(Some(Picture {
        id,
        path: format!("{camera}/{id}.jpg"),
        camera,
        taken: retention::adopted_moment(begun(id.0, modified(&path), Duration::ZERO)),
        width,
        height,
        size_bytes: meta.len(),
        sha256,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_begins_by_its_file_where_its_id_agrees() {
        // 2026-11-21T02:00:00Z in a UUIDv7.
        let made = Wall(1_795_226_400_000_000);
        let id =
            uuid::Uuid::from_u128((1_795_226_400_000u128 << 80) | (0x7 << 76) | (0x8 << 60) | 5);
        let s = Duration::from_secs;
        assert_eq!(
            begun(id, Some(made + s(25)), s(30)),
            made - s(5),
            "five seconds of pre-roll"
        );
        assert_eq!(
            begun(id, Some(made + s(9999)), s(30)),
            made,
            "it was copied"
        );
        assert_eq!(begun(id, None, s(30)), made);
        assert_eq!(begun(uuid::Uuid::nil(), Some(made), s(30)), made - s(30));
    }
}
