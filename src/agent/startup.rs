//! What a crash left behind is put in order before any camera starts: clips are salvaged with an honest `truncated`,
//! events that never ended are ended, and the cloud is told of both.
//!
//! Idempotent: each step is one transaction that changes rows only from the state that needs it, so a crash in here
//! is repaired by the next start.

use crate::db::events::{Orphan, end, last_proof, orphans};
use crate::db::recordings::{KeptFile, RecordingRow, first_clip, keep, mark, unfinished};
use crate::db::{Db, DbError, IdSource, Run, Urgency, outbox, uploads};
use crate::model::{ClipState, RecordId, Severity};
use crate::spool::Spool;
use crate::spool::salvage::{Outcome, salvage};
use crate::time::Mono;

use super::records::{self, ClosedClip, Ending};

/// What was put in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Clips that play and are kept, without their end.
    pub salvaged: usize,
    /// Clips of which nothing could be saved.
    pub lost: usize,
    /// Events that were ended.
    pub ended: usize,
}

/// Puts the store and the spool in order. Blocking file work runs beside the runtime.
pub async fn repair(
    db: &Db,
    spool: &Spool,
    ids: &IdSource,
    now: Mono,
) -> Result<Repaired, DbError> {
    let mut repaired = Repaired::default();
    for row in db.call(Urgency::Now, |c, _| unfinished(c)).await? {
        let outcome = salvaged(spool, &row).await;
        let ids = ids.clone();
        if let Some(file) = outcome {
            tracing::info!(
                camera = row.camera,
                clip = row.path,
                duration_ms = file.duration_ms,
                "salvaged an interrupted clip"
            );
            repaired.salvaged += 1;
            db.call(Urgency::Now, move |c, run| {
                keep(c, row.id, &file)?;
                let record = records::recording_closed(RecordId((ids)()), &closed(&row), &file);
                outbox::put(c, &of_boot(run, row.boot), &record)
            })
            .await?;
        } else {
            tracing::warn!(
                camera = row.camera,
                clip = row.path,
                "an interrupted clip could not be saved"
            );
            repaired.lost += 1;
            db.call(Urgency::Now, move |c, run| {
                mark(c, row.id, ClipState::Lost)?;
                let record = records::recording_deleted(
                    RecordId((ids)()),
                    &row.camera,
                    row.id,
                    "lost",
                    row.rev + 1,
                    now,
                );
                outbox::put(c, run, &record)
            })
            .await?;
        }
    }
    for orphan in db.call(Urgency::Now, |c, _| orphans(c)).await? {
        repaired.ended += 1;
        let id = RecordId((ids)());
        db.call(Urgency::Now, move |c, run| finish(c, run, orphan, id))
            .await?;
    }
    // Nothing is being uploaded yet; what is held would never be deleted.
    db.call(Urgency::Now, |c, _| uploads::after_start(c))
        .await?;
    Ok(repaired)
}

fn finish(
    c: &crate::db::Connection,
    run: &Run,
    mut orphan: Orphan,
    id: RecordId,
) -> Result<(), DbError> {
    let ended = last_proof(c, orphan.facts.id)?
        .unwrap_or(orphan.started)
        .max(orphan.started);
    orphan.facts.rev += 1;
    end(c, &orphan.facts, ended, "crash")?;
    let ending = Ending {
        severity: Severity::Warning,
        started: orphan.started,
        ended,
        reason: "crash",
        recording: first_clip(c, orphan.facts.id)?,
    };
    let record = records::motion_ended(id, &orphan.camera, &orphan.facts, ending);
    outbox::put(c, &of_boot(run, orphan.boot), &record)
}

/// Records about moments of an earlier boot belong to that boot.
fn of_boot(run: &Run, boot: i64) -> Run {
    Run {
        boot,
        ..run.clone()
    }
}

async fn salvaged(spool: &Spool, row: &RecordingRow) -> Option<KeptFile> {
    let part = crate::spool::part_of(&spool.clip_path(&row.camera.parse().ok()?, row.id));
    let outcome = tokio::task::spawn_blocking(move || salvage(&part))
        .await
        .ok()?;
    match outcome {
        Ok(Outcome::Salvaged(clip)) => Some(KeptFile {
            size_bytes: clip.size_bytes,
            duration_ms: clip.duration.as_millis() as u64,
            sha256: clip.sha256,
            truncated: clip.truncated,
        }),
        Ok(_) => None,
        Err(e) => {
            tracing::error!(error = %e, "a clip could not be salvaged");
            None
        }
    }
}

fn closed(row: &RecordingRow) -> ClosedClip {
    ClosedClip {
        id: row.id,
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
    }
}
