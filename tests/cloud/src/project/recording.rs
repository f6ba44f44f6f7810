//! `recording.*` records → `recordings`.
//!
//! ```text
//!  opened ▶ recording ── closed ──▶ awaiting_upload ── an upload ──▶ uploading ── verified ──▶ available, final
//!                  lost, failed ──▶ failed   deleted ──▶ deleted          └─ not the file ──▶ failed
//! ```
//! `recording.uploaded` is what the device believes: it is kept and moves nothing. A device may delete what is
//! available: the row stays so, with `device_deleted_at`.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::parts::{self, Part, Parts};
use super::{Payload, check_camera_id, check_file, check_not_negative, upload};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;
use crate::storage::keys;
use crate::upload::row::Owner;

/// Which record of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The file was begun.
    Opened,
    /// The file is whole and safe on the device.
    Closed,
    /// The device believes that the bytes are in the cloud.
    Uploaded,
    /// The device will not upload it as it is.
    Failed,
    /// The row is there, the file is not.
    Lost,
    /// Removed by retention or by a person.
    Deleted,
    /// Kept from retention, or no longer.
    Locked,
}

/// `data` of these types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The recording's own id.
    pub recording_id: Uuid,
    /// Counts up with each record of the recording.
    pub rev: i64,
    /// Which camera; opened and closed have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera_id: Option<String>,
    /// The event it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// Opened and closed have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Closed has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Bytes of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Of the file, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Cut by a power loss and repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    /// File name on the device, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_name: Option<String>,
    /// Whether it has sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_audio: Option<bool>,
    /// `motion`, `continuous`, `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// h264, h265, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Pixels; 0 when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i32>,
    /// Pixels; 0 when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i32>,
    /// Why it was deleted, lost or not uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `recording.locked` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// `failed` in `recording.deleted` says that nobody deleted it: it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Data {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Which member is missing or out of range.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        check_not_negative("rev", Some(self.rev))?;
        check_not_negative("duration_ms", self.duration_ms)?;
        check_not_negative("size_bytes", self.size_bytes)?;
        if let Some(camera_id) = &self.camera_id {
            check_camera_id(camera_id)?;
        } else if matches!(kind, Kind::Opened | Kind::Closed) {
            return Err("camera_id is missing".into());
        }
        if self.started_at.is_none() && matches!(kind, Kind::Opened | Kind::Closed) {
            return Err("started_at is missing".into());
        }
        if self.locked.is_none() && kind == Kind::Locked {
            return Err("locked is missing".into());
        }
        check_file(self.width, self.height, self.sha256.as_deref())?;
        if !matches!(
            self.mode.as_deref(),
            None | Some("motion" | "continuous" | "manual")
        ) {
            return Err("mode must be motion, continuous or manual".into());
        }
        Ok(())
    }
}

/// Everything known of one recording.
pub type Recording = Parts<Kind, Data>;

/// The status word of the device's records.
fn status(recording: &Recording) -> &'static str {
    // From final to first.
    [
        (Kind::Deleted, "deleted"),
        (Kind::Lost, "failed"),
        (Kind::Failed, "failed"),
        (Kind::Uploaded, "awaiting_upload"),
        (Kind::Closed, "awaiting_upload"),
    ]
    .into_iter()
    .find(|(kind, _)| recording.get(kind).is_some())
    .map_or("recording", |(_, status)| status)
}

const LOAD: &str =
    "select recording_uid, parts from recordings where device_id = $1 and recording_uid = any($2)";

const SAVE: &str = "
    insert into recordings (id, organization_id, device_id, recording_uid, camera_id, event_uid, mode,
                            status, started_at, ended_at, duration_ms, size_bytes, sha256, truncated,
                            has_audio, codec, width, height, path_name, error, parts, rev, bucket,
                            object_key, available_at, device_deleted_at, is_locked)
    select r.id, $1, $2, r.uid, r.camera, r.event, r.mode, r.status, r.started, r.ended, r.duration,
           r.size, r.sha256, r.truncated, r.audio, r.codec, nullif(r.width, 0),
           nullif(r.height, 0), r.path, r.error,
           r.parts, r.rev, r.bucket, r.object_key, r.available, r.device_deleted, r.locked
    from unnest($3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[],
                $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[], $13::text[],
                $14::boolean[], $15::boolean[], $16::text[], $17::integer[], $18::integer[],
                $19::text[], $20::text[], $21::jsonb[], $22::bigint[], $23::text[], $24::text[],
                $25::timestamptz[], $26::timestamptz[], $27::boolean[])
      r (id, uid, camera, event, mode, status, started, ended, duration, size, sha256, truncated,
         audio, codec, width, height, path, error, parts, rev, bucket, object_key, available,
         device_deleted, locked)
    on conflict (device_id, recording_uid) do update set
      camera_id = excluded.camera_id, event_uid = excluded.event_uid, mode = excluded.mode,
      status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at,
      duration_ms = excluded.duration_ms, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
      truncated = excluded.truncated, has_audio = excluded.has_audio, codec = excluded.codec,
      width = excluded.width, height = excluded.height, path_name = excluded.path_name,
      error = excluded.error, parts = excluded.parts, rev = excluded.rev, bucket = excluded.bucket,
      object_key = excluded.object_key, available_at = excluded.available_at,
      device_deleted_at = excluded.device_deleted_at, is_locked = excluded.is_locked,
      updated_at = now()";

/// Merges the records of a batch into their recordings.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    let owner = Owner {
        organization_id: caller.organization_id,
        device_id: caller.device_id,
    };
    let said = records.iter().filter_map(|record| match &record.payload {
        Payload::Recording(kind, data) => {
            let part = Part::of(record, data.rev, (**data).clone());
            Some((data.recording_id, *kind, part))
        }
        _ => None,
    });
    let recordings = parts::merge(tx, LOAD, owner.device_id, said.collect()).await?;
    save(tx, owner, &recordings).await
}

/// An upload of a recording has changed; a row that is not here yet will see it when it comes. The device
/// must be locked.
///
/// # Errors
/// When a statement fails.
pub async fn refresh(tx: &Transaction<'_>, owner: Owner, uid: Uuid) -> Result<(), DbError> {
    let recordings = parts::load(tx, LOAD, owner.device_id, &[uid]).await?;
    save(tx, owner, &recordings).await
}

async fn save(
    tx: &Transaction<'_>,
    owner: Owner,
    recordings: &HashMap<Uuid, Recording>,
) -> Result<(), DbError> {
    if recordings.is_empty() {
        return Ok(());
    }
    let (uids, rows): (Vec<Uuid>, Vec<&Recording>) = recordings.iter().unzip();
    let uploads = upload::latest(tx, owner.device_id, keys::Kind::Recording, &uids).await?;
    macro_rules! said {
        ($field:ident) => {
            rows.iter()
                .map(|recording| recording.said(|data| data.$field.clone()))
                .collect::<Vec<_>>()
        };
    }
    macro_rules! uploaded {
        ($field:ident) => {
            uids.iter()
                .map(|uid| Some(uploads.get(uid)?.$field.clone()))
                .collect::<Vec<_>>()
        };
    }
    let new_ids: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let statuses: Vec<&str> = rows
        .iter()
        .zip(&uids)
        .map(|(recording, uid)| upload::status(status(recording), uploads.get(uid)))
        .collect();
    let reasons = said!(reason);
    let errors: Vec<Option<&str>> = statuses
        .iter()
        .zip(&reasons)
        .zip(&uids)
        .map(|((status, reason), uid)| upload::error(status, reason.as_deref(), uploads.get(uid)))
        .collect();
    let started: Vec<Option<Timestamp>> = rows
        .iter()
        .map(|recording| {
            let earliest = || recording.newest_first().map(|part| part.time).min();
            recording.said(|data| data.started_at).or_else(earliest)
        })
        .collect();
    let deleted: Vec<Option<Timestamp>> = rows
        .iter()
        .map(|recording| recording.get(&Kind::Deleted).map(|part| part.time))
        .collect();
    let truncated: Vec<bool> = said!(truncated)
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    let locked: Vec<bool> = said!(locked)
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    let available: Vec<Option<Timestamp>> = uploaded!(available_at)
        .into_iter()
        .map(Option::flatten)
        .collect();
    let parts: Vec<Value> = rows.iter().map(|recording| json!(recording)).collect();
    let revs: Vec<i64> = rows
        .iter()
        .map(|recording| recording.newest().map_or(0, |part| part.rev))
        .collect();
    let save = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &save,
        &[
            &owner.organization_id,
            &owner.device_id,
            &new_ids,
            &uids,
            &said!(camera_id),
            &said!(event_id),
            &said!(mode),
            &statuses,
            &started,
            &said!(ended_at),
            &said!(duration_ms),
            &said!(size_bytes),
            &said!(sha256),
            &truncated,
            &said!(has_audio),
            &said!(codec),
            &said!(width),
            &said!(height),
            &said!(path_name),
            &errors,
            &parts,
            &revs,
            &uploaded!(bucket),
            &uploaded!(object_key),
            &available,
            &deleted,
            &locked,
        ],
    )
    .await?;
    Ok(())
}
