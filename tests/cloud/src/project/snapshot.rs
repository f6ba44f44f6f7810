//! `snapshot.*` records → `snapshots`: pictures on command and of events.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::parts::{self, Part, Parts};
use super::{Payload, check_camera_id, check_file, check_not_negative, upload};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;
use crate::notify;
use crate::storage::keys;
use crate::upload::row::Owner;

/// Which record of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The file is safe on the device.
    Taken,
    /// Removed by retention or by a person, or lost.
    Deleted,
}

/// `data` of these types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The picture's own id.
    pub snapshot_id: Uuid,
    /// Counts up with each record of the picture.
    #[serde(default)]
    pub rev: i64,
    /// Which camera; taken has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera_id: Option<String>,
    /// The event it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Uuid>,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// `snapshot`, `thumbnail`, `annotated`; `thumbnail` where it is not said and there is an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When the frame was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i32>,
    /// Pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i32>,
    /// Bytes of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Of the file, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `image/jpeg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// File name on the device, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_name: Option<String>,
    /// Why it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `failed` in `snapshot.deleted` says that nobody deleted it: it was lost.
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
        check_not_negative("size_bytes", self.size_bytes)?;
        if let Some(camera_id) = &self.camera_id {
            check_camera_id(camera_id)?;
        } else if kind == Kind::Taken {
            return Err("camera_id is missing".into());
        }
        check_file(self.width, self.height, self.sha256.as_deref())?;
        if !matches!(
            self.kind.as_deref(),
            None | Some("snapshot" | "thumbnail" | "annotated")
        ) {
            return Err("kind must be snapshot, thumbnail or annotated".into());
        }
        Ok(())
    }
}

/// Everything known of one picture.
pub type Snapshot = Parts<Kind, Data>;

/// The status word of the device's records.
fn status(snapshot: &Snapshot) -> &'static str {
    match snapshot.get(&Kind::Deleted) {
        Some(part) if part.data.status.as_deref() == Some("failed") => "failed",
        Some(_) => "deleted",
        None => "awaiting_upload",
    }
}

const LOAD: &str =
    "select snapshot_uid, parts from snapshots where device_id = $1 and snapshot_uid = any($2)";

const SAVE: &str = "
    insert into snapshots (id, organization_id, device_id, snapshot_uid, camera_id, event_uid, command_id, kind,
                           status, taken_at, width, height, size_bytes, sha256, content_type, path_name, bucket,
                           object_key, available_at, error, device_deleted_at, parts, rev)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11::integer, 0), nullif($12::integer, 0), $13, $14,
            $15, $16, $17, $18, $19, $20, $21, $22, $23)
    on conflict (device_id, snapshot_uid) do update set
      camera_id = excluded.camera_id, event_uid = excluded.event_uid, command_id = excluded.command_id,
      kind = excluded.kind, status = excluded.status, taken_at = excluded.taken_at, width = excluded.width,
      height = excluded.height, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
      content_type = excluded.content_type, path_name = excluded.path_name, bucket = excluded.bucket,
      object_key = excluded.object_key, available_at = excluded.available_at, error = excluded.error,
      device_deleted_at = excluded.device_deleted_at, parts = excluded.parts, rev = excluded.rev,
      updated_at = now()";

/// Merges the records of a batch into their pictures.
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
        Payload::Snapshot(kind, data) => {
            let part = Part::of(record, data.rev, (**data).clone());
            Some((data.snapshot_id, *kind, part))
        }
        _ => None,
    });
    let snapshots = parts::merge(tx, LOAD, owner.device_id, said.collect()).await?;
    save(tx, owner, &snapshots).await
}

/// An upload of a picture has changed; a row that is not here yet will see it when it comes. The device must
/// be locked.
///
/// # Errors
/// When a statement fails.
pub async fn refresh(tx: &Transaction<'_>, owner: Owner, uid: Uuid) -> Result<(), DbError> {
    let snapshots = parts::load(tx, LOAD, owner.device_id, &[uid]).await?;
    save(tx, owner, &snapshots).await
}

async fn save(
    tx: &Transaction<'_>,
    owner: Owner,
    snapshots: &HashMap<Uuid, Snapshot>,
) -> Result<(), DbError> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let uids: Vec<Uuid> = snapshots.keys().copied().collect();
    let uploads = upload::latest(tx, owner.device_id, keys::Kind::Snapshot, &uids).await?;
    let save = tx.prepare_cached(SAVE).await?;
    for (uid, snapshot) in snapshots {
        let latest = uploads.get(uid);
        let status = upload::status(status(snapshot), latest);
        let reason = snapshot.said(|data| data.reason.clone());
        let event = snapshot.said(|data| data.event_id);
        let usual = if event.is_some() {
            "thumbnail"
        } else {
            "snapshot"
        };
        let kind = snapshot.said(|data| data.kind.clone());
        let earliest = || snapshot.newest_first().map(|part| part.time).min();
        tx.execute(
            &save,
            &[
                &Uuid::now_v7(),
                &owner.organization_id,
                &owner.device_id,
                uid,
                &snapshot.said(|data| data.camera_id.clone()),
                &event,
                &snapshot.said(|data| data.command_id),
                &kind.as_deref().unwrap_or(usual),
                &status,
                &snapshot.said(|data| data.taken_at).or_else(earliest),
                &snapshot.said(|data| data.width),
                &snapshot.said(|data| data.height),
                &snapshot.said(|data| data.size_bytes),
                &snapshot.said(|data| data.sha256.clone()),
                &snapshot.said(|data| data.content_type.clone()),
                &snapshot.said(|data| data.path_name.clone()),
                &latest.map(|latest| &latest.bucket),
                &latest.map(|latest| &latest.object_key),
                &latest.and_then(|latest| latest.available_at),
                &upload::error(status, reason.as_deref(), latest),
                &snapshot.get(&Kind::Deleted).map(|part| part.time),
                &json!(snapshot),
                &snapshot.newest().map_or(0, |part| part.rev),
            ],
        )
        .await?;
        if status == "available" {
            notify::thumbnail_is_there(tx, owner.device_id, *uid).await?;
        }
    }
    Ok(())
}
