//! Uploads: a device is told where to put the bytes of a clip or a picture, and the cloud believes
//! nothing before it has read the object itself.
//!
//! ```text
//! POST /uploads ─▶ uploading ─ PUT to the storage ─▶ complete ─ object = file? ─▶ available, final
//!      ▲   │ asked again: the parts that are missing      │           └ no ─▶ failed, object deleted
//!      └───┴──── 409 incomplete (which) ◀─────────────────┘   nobody for a week ─▶ expired
//! ```
//! A POST may be repeated at any time: it is also how addresses are renewed and how an upload goes on after a
//! restart, since the storage, not the device's memory, says which parts are there.

mod complete;
pub mod plan;
pub mod row;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::{self, Db, DbError};
use crate::http::App;
use crate::problem::Problem;
use crate::storage::{Storage, StorageError};
pub use complete::{Completed, complete};
use plan::{Checked, MAX_ADDRESSES, Range, missing, ranges};
use row::{End, Owner, Upload};

/// So often the object was not the file: it will not be.
const MAX_FAILURES: i64 = 5;

/// Uploads that are being looked at: one look at a time.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<HashSet<Uuid>>>);

impl Busy {
    fn enter(&self, id: Uuid) -> Option<Entered> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id).then(|| Entered(self.clone(), id))
    }
}

/// Leaves when it is dropped.
#[derive(Debug)]
struct Entered(Busy, Uuid);

impl Drop for Entered {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.1);
    }
}

impl From<StorageError> for Problem {
    /// Any failure of the storage answers 503: the device has the file and tries again.
    fn from(error: StorageError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "storage failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the object storage is not available",
        )
        .with_header(axum::http::header::RETRY_AFTER, "5")
    }
}

fn storage(app: &App) -> Result<&Storage, Problem> {
    app.storage.as_deref().ok_or_else(|| {
        let detail = "this cloud has no object storage";
        Problem::new(StatusCode::NOT_FOUND, "no-storage", detail)
    })
}

fn unknown() -> Problem {
    let detail = "there is no such upload any more: ask for another";
    Problem::new(StatusCode::NOT_FOUND, "unknown-upload", detail)
}

/// `POST /edge/v1/uploads`: begins, goes on, or says that it is done.
///
/// # Errors
/// 409 `conflict` when another file is here under this id, `upload-failed` when it failed too often.
pub async fn begin(
    app: &App,
    owner: Owner,
    wanted: &Checked,
    now: Timestamp,
) -> Result<Value, Problem> {
    let storage = storage(app)?;
    let (mut upload, replaced) = settle(app, storage, owner, wanted, now).await?;
    if let Some(replaced) = replaced {
        give_up(storage, &replaced).await;
    }
    let all = ranges(upload.size, upload.part_size);
    let wanting = if upload.status == "available" {
        Vec::new()
    } else if upload.part_size == 0 {
        all
    } else {
        let there = parts(app, storage, owner, &mut upload).await?;
        missing(&all, &there)
    };
    let expires = now
        .checked_add(SignedDuration::try_from(storage.url_life()).unwrap_or_default())
        .unwrap_or(now);
    let left = wanting.len().saturating_sub(MAX_ADDRESSES);
    let parts: Vec<Value> = wanting
        .iter()
        .take(MAX_ADDRESSES)
        .map(|range| address(storage, &upload, *range, now))
        .collect();
    Ok(json!({
        "upload_id": upload.id,
        "status": upload.status,
        "multipart": upload.part_size > 0,
        "parts": parts,
        "more_parts": left,
        "complete_url": format!("/edge/v1/uploads/{}/complete", upload.id),
        "expires": format!("{expires:.0}"),
    }))
}

/// The row to go on with, committed; and one that it takes the place of.
async fn settle(
    app: &App,
    storage: &Storage,
    owner: Owner,
    wanted: &Checked,
    now: Timestamp,
) -> Result<(Upload, Option<Upload>), Problem> {
    let conflict = |code, detail: &str| Problem::new(StatusCode::CONFLICT, code, detail);
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, owner.organization_id).await?;
    let known = row::known(&tx, owner, wanted).await?;
    let mut replaced = None;
    if let Some(live) = known.live {
        let same = (live.size, &live.sha256) == (wanted.size, &wanted.sha256)
            && live.content_type == wanted.content_type;
        if live.status == "available" && !same {
            let detail = "another file is stored under this id, and evidence is not replaced";
            return Err(conflict("conflict", detail));
        }
        if same {
            row::touch(&tx, live.id, now).await?;
            tx.commit().await.map_err(DbError::from)?;
            return Ok((live, None));
        }
        // The device repaired the file, or finished it otherwise.
        row::end(&tx, owner, &live, End::Expired, now).await?;
        replaced = Some(live);
    }
    if known.failed >= MAX_FAILURES {
        let detail =
            "what arrived was never this file: the file or the way to the storage is broken";
        return Err(conflict("upload-failed", detail));
    }
    let upload = row::insert(&tx, owner, wanted, storage.bucket(), now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((upload, replaced))
}

/// The parts that the storage has; begins the multipart upload there when it knows none.
async fn parts(
    app: &App,
    storage: &Storage,
    owner: Owner,
    upload: &mut Upload,
) -> Result<BTreeMap<u16, crate::storage::Part>, Problem> {
    if let Some(id) = &upload.storage_id
        && let Some(parts) = storage.parts(&upload.key, id).await?
    {
        return Ok(parts);
    }
    let id = storage.begin(&upload.key, &upload.content_type).await?;
    let before = upload.storage_id.as_deref();
    if !row::set_storage_id(&app.db, owner, upload.id, before, Some(&id)).await? {
        // Somebody else began, or ended it, in the meantime.
        storage.abort(&upload.key, &id).await?;
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "in-progress",
            "the upload is being changed by another request",
        ));
    }
    upload.storage_id = Some(id);
    Ok(BTreeMap::new())
}

fn address(storage: &Storage, upload: &Upload, range: Range, now: Timestamp) -> Value {
    let put = match &upload.storage_id {
        Some(id) => storage.put_part(&upload.key, id, range.n, now),
        None => {
            let hash = BASE64_STANDARD.encode(bytes_of(&upload.sha256));
            storage.put(&upload.key, &upload.content_type, &hash, now)
        }
    };
    json!({
        "n": range.n, "offset": range.offset, "size": range.size,
        "method": "PUT", "url": put.url, "headers": put.headers,
    })
}

/// The bytes of hexadecimal that was checked.
fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok())
        .collect()
}

/// Throws away what the storage has of an upload that was not verified; the next sweep of the storage does it
/// where this fails.
async fn give_up(storage: &Storage, upload: &Upload) {
    let gone = match &upload.storage_id {
        Some(id) => storage.abort(&upload.key, id).await,
        None => storage.delete(&upload.key).await,
    };
    if let Err(error) = gone {
        tracing::warn!(upload_id = %upload.id, %error, "remains of an upload are left in the storage");
    }
}

/// `DELETE /edge/v1/uploads/{id}`: the device gives up; what is available stays.
///
/// # Errors
/// 404 when the device has no such upload.
pub async fn abort(app: &App, owner: Owner, id: Uuid, now: Timestamp) -> Result<Value, Problem> {
    let storage = storage(app)?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, owner.organization_id).await?;
    let upload = row::find(&tx, owner, id).await?.ok_or_else(unknown)?;
    let ended = row::end(&tx, owner, &upload, End::Aborted, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    if ended {
        give_up(storage, &upload).await;
        return Ok(json!({ "upload_id": id, "status": "aborted" }));
    }
    Ok(json!({ "upload_id": id, "status": upload.status }))
}

/// Ends uploads that nobody asked about for long; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn expire(db: &Db, storage: &Storage, now: Timestamp) -> Result<usize, DbError> {
    let idle = SignedDuration::try_from(storage.idle()).unwrap_or(SignedDuration::MAX);
    let Ok(since) = now.checked_sub(idle) else {
        return Ok(0);
    };
    let mut expired = 0;
    for (owner, upload) in row::idle(db, since).await? {
        let mut client = db.client().await?;
        let tx = client.transaction().await?;
        db::set_tenant(&tx, owner.organization_id).await?;
        let ended = row::end(&tx, owner, &upload, End::Expired, now).await?;
        tx.commit().await?;
        if ended {
            give_up(storage, &upload).await;
            expired += 1;
        }
    }
    Ok(expired)
}
