//! The end of an upload: the object is made of its parts, read, and compared with the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::plan::{missing, ranges};
use super::row::{self, End, Owner, Upload};
use super::{storage, unknown};
use crate::db::{self, DbError};
use crate::http::App;
use crate::problem::Problem;
use crate::storage::{Storage, StorageError};

/// So long an answer waits for the verification; a larger object is asked for again.
const WAIT: Duration = Duration::from_secs(10);
/// Longest entity tag.
const MAX_ETAG: usize = 128;

/// Body of `POST /edge/v1/uploads/{id}/complete`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Completed {
    /// The entity tags of this device's PUTs, for storages that do not list them.
    #[serde(default)]
    parts: Vec<Tag>,
}

#[derive(Debug, Clone, Deserialize)]
struct Tag {
    n: u16,
    etag: String,
}

/// What the storage had.
enum Found {
    /// The file.
    File,
    /// Parts, or all of it, are not there.
    Incomplete(Vec<u16>),
    /// Other bytes; says how.
    Other(String),
}

/// Completes and verifies: 200 `available`, or 202 `verifying` when that takes longer.
///
/// # Errors
/// 404 `unknown-upload`; 409 `incomplete` with `missing`, `mismatch`.
pub async fn complete(
    app: &Arc<App>,
    owner: Owner,
    id: Uuid,
    completed: Completed,
    now: Timestamp,
) -> Result<Option<Value>, Problem> {
    storage(app)?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, owner.organization_id).await?;
    let upload = row::find(&tx, owner, id).await?.ok_or_else(unknown)?;
    row::touch(&tx, id, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    drop(client);
    match upload.status.as_str() {
        "available" => return Ok(Some(available(&upload))),
        "failed" => return Err(mismatch(upload.error.as_deref().unwrap_or_default())),
        "uploading" => {}
        _ => return Err(unknown()),
    }
    let Some(entered) = app.busy.enter(id) else {
        return Ok(None);
    };
    // On its own: a client that goes away does not stop it half-way.
    let app = app.clone();
    let finishing = tokio::spawn(async move {
        let _entered = entered;
        finish(&app, owner, &upload, &completed, now).await
    });
    match tokio::time::timeout(WAIT, finishing).await {
        Err(_) => Ok(None),
        Ok(Ok(finished)) => finished.map(Some),
        Ok(Err(_)) => Err(Problem::unavailable()),
    }
}

fn available(upload: &Upload) -> Value {
    json!({
        "upload_id": upload.id, "status": "available", "size": upload.size, "sha256": upload.sha256,
    })
}

fn mismatch(detail: &str) -> Problem {
    Problem::new(axum::http::StatusCode::CONFLICT, "mismatch", detail)
}

async fn finish(
    app: &App,
    owner: Owner,
    upload: &Upload,
    completed: &Completed,
    now: Timestamp,
) -> Result<Value, Problem> {
    let storage = storage(app)?;
    let found = look(app, storage, owner, upload, completed).await?;
    let end = match &found {
        Found::Incomplete(numbers) => {
            let detail = "the storage does not have all of it: ask for addresses again";
            let status = axum::http::StatusCode::CONFLICT;
            return Err(Problem::new(status, "incomplete", detail).with("missing", numbers.clone()));
        }
        Found::File => End::Available,
        Found::Other(how) => {
            storage.delete(&upload.key).await?;
            End::Failed(how)
        }
    };
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, owner.organization_id).await?;
    let ended = row::end(&tx, owner, upload, end, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    match end {
        End::Available if ended => {
            tracing::info!(upload_id = %upload.id, bytes = upload.size, "upload verified");
            Ok(available(upload))
        }
        // Aborted or replaced while it was read.
        End::Available => Err(unknown()),
        End::Failed(how) => {
            tracing::warn!(upload_id = %upload.id, how, "upload is not the file");
            Err(mismatch(how))
        }
        End::Aborted | End::Expired => Err(unknown()),
    }
}

async fn look(
    app: &App,
    storage: &Storage,
    owner: Owner,
    upload: &Upload,
    completed: &Completed,
) -> Result<Found, Problem> {
    if let Some(id) = &upload.storage_id
        && let Some(incomplete) = assemble(app, storage, owner, upload, id, completed).await?
    {
        return Ok(incomplete);
    }
    let all = || {
        ranges(upload.size, upload.part_size)
            .iter()
            .map(|range| range.n)
            .collect()
    };
    let Some(size) = storage.size(&upload.key).await? else {
        return Ok(Found::Incomplete(all()));
    };
    if size != upload.size {
        let how = format!("the object has {size} bytes, the file {}", upload.size);
        return Ok(Found::Other(how));
    }
    Ok(match storage.hash(&upload.key, upload.size).await? {
        None => Found::Incomplete(all()),
        Some(hashed) if (hashed.size, &hashed.sha256) == (upload.size, &upload.sha256) => {
            Found::File
        }
        Some(hashed) => Found::Other(format!("the object's SHA-256 is {}", hashed.sha256)),
    })
}

/// Makes the object of its parts, unless that was done; or says what is missing.
async fn assemble(
    app: &App,
    storage: &Storage,
    owner: Owner,
    upload: &Upload,
    id: &str,
    completed: &Completed,
) -> Result<Option<Found>, Problem> {
    let all = ranges(upload.size, upload.part_size);
    let numbers = |ranges: &[super::plan::Range]| ranges.iter().map(|range| range.n).collect();
    let there = storage.parts(&upload.key, id).await?.unwrap_or_default();
    let absent = missing(&all, &there);
    if !absent.is_empty() {
        // A crash between the storage's completion and ours leaves the object and no parts.
        let done = storage.size(&upload.key).await? == Some(upload.size);
        return Ok((!done).then(|| Found::Incomplete(numbers(&absent))));
    }
    let said: BTreeMap<u16, &str> = completed
        .parts
        .iter()
        .filter(|tag| tag.etag.len() <= MAX_ETAG)
        .map(|tag| (tag.n, tag.etag.as_str()))
        .collect();
    let etags: Vec<String> = all
        .iter()
        .map(|range| {
            let listed = there.get(&range.n).and_then(|part| part.etag.as_deref());
            let etag = listed.or(said.get(&range.n).copied());
            etag.unwrap_or("\"unknown\"").to_owned()
        })
        .collect();
    match storage.complete(&upload.key, id, &etags).await {
        Ok(()) => Ok(None),
        Err(StorageError::Refused { status, code }) => {
            tracing::warn!(upload_id = %upload.id, status, code, "the storage did not complete");
            if storage.size(&upload.key).await? == Some(upload.size) {
                return Ok(None);
            }
            // Some storages have thrown the parts away by now: begin anew rather than find out.
            storage.abort(&upload.key, id).await?;
            row::set_storage_id(&app.db, owner, upload.id, Some(id), None).await?;
            Ok(Some(Found::Incomplete(numbers(&all))))
        }
        Err(error) => Err(error.into()),
    }
}
