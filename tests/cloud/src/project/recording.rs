//! `recording.*` records → `recordings`.
//!
//! ```text
//!  opened ▶ recording ── closed ──▶ awaiting_upload ── uploaded ──▶ available
//!                          lost ──▶ failed                  deleted (from any) ──▶ deleted, final
//! ```

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::parts::{Part, Parts};
use super::{Payload, check_camera_id, check_not_negative};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;

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
    /// The row is there, the file is not.
    Lost,
    /// Removed by retention or by a person.
    Deleted,
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
    /// Why it was deleted or lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
        if self.width.is_some_and(|width| width < 0) || self.height.is_some_and(|h| h < 0) {
            return Err("width and height must not be below 0".into());
        }
        let is_hex = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if self.sha256.as_deref().is_some_and(|sha256| !is_hex(sha256)) {
            return Err("sha256 must be 64 lower-case hexadecimal digits".into());
        }
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

/// The status word that follows.
fn status(recording: &Recording) -> &'static str {
    // From final to first.
    [
        (Kind::Deleted, "deleted"),
        (Kind::Lost, "failed"),
        (Kind::Uploaded, "available"),
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
                            has_audio, codec, width, height, path_name, error, parts, rev)
    select r.id, $1, $2, r.uid, r.camera, r.event, r.mode, r.status, r.started, r.ended, r.duration,
           r.size, r.sha256, r.truncated, r.audio, r.codec, nullif(r.width, 0),
           nullif(r.height, 0), r.path, r.error,
           r.parts, r.rev
    from unnest($3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[],
                $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[], $13::text[],
                $14::boolean[], $15::boolean[], $16::text[], $17::integer[], $18::integer[],
                $19::text[], $20::text[], $21::jsonb[], $22::bigint[])
      r (id, uid, camera, event, mode, status, started, ended, duration, size, sha256, truncated,
         audio, codec, width, height, path, error, parts, rev)
    on conflict (device_id, recording_uid) do update set
      camera_id = excluded.camera_id, event_uid = excluded.event_uid, mode = excluded.mode,
      status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at,
      duration_ms = excluded.duration_ms, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
      truncated = excluded.truncated, has_audio = excluded.has_audio, codec = excluded.codec,
      width = excluded.width, height = excluded.height, path_name = excluded.path_name,
      error = excluded.error, parts = excluded.parts, rev = excluded.rev, updated_at = now()";

/// Merges the records of a batch into their recordings.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    let mut uids: Vec<Uuid> = Vec::new();
    for record in records {
        if let Payload::Recording(_, data) = &record.payload
            && !uids.contains(&data.recording_id)
        {
            uids.push(data.recording_id);
        }
    }
    if uids.is_empty() {
        return Ok(());
    }
    let load = tx.prepare_cached(LOAD).await?;
    let mut recordings: HashMap<Uuid, Recording> = HashMap::new();
    for found in tx.query(&load, &[&caller.device_id, &uids]).await? {
        let parts: Value = found.get(1);
        recordings.insert(
            found.get(0),
            serde_json::from_value(parts).unwrap_or_default(),
        );
    }
    for record in records {
        if let Payload::Recording(kind, data) = &record.payload {
            let part = Part::of(record, data.rev, (**data).clone());
            recordings
                .entry(data.recording_id)
                .or_default()
                .add(*kind, part);
        }
    }
    let rows: Vec<(Uuid, &Recording)> = uids
        .iter()
        .filter_map(|uid| Some((*uid, recordings.get(uid)?)))
        .collect();
    macro_rules! said {
        ($field:ident) => {
            rows.iter()
                .map(|(_, recording)| recording.said(|data| data.$field.clone()))
                .collect::<Vec<_>>()
        };
    }
    let new_ids: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let uids: Vec<Uuid> = rows.iter().map(|(uid, _)| *uid).collect();
    let statuses: Vec<&str> = rows
        .iter()
        .map(|(_, recording)| status(recording))
        .collect();
    let started: Vec<Option<Timestamp>> = rows
        .iter()
        .map(|(_, recording)| {
            let earliest = || recording.newest_first().map(|part| part.time).min();
            recording.said(|data| data.started_at).or_else(earliest)
        })
        .collect();
    let truncated: Vec<bool> = said!(truncated)
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    let parts: Vec<Value> = rows.iter().map(|(_, recording)| json!(recording)).collect();
    let revs: Vec<i64> = rows
        .iter()
        .map(|(_, recording)| recording.newest().map_or(0, |part| part.rev))
        .collect();
    let save = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &save,
        &[
            &caller.organization_id,
            &caller.device_id,
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
            &said!(reason),
            &parts,
            &revs,
        ],
    )
    .await?;
    Ok(())
}
