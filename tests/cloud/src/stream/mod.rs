//! Live sessions: a command asks a device to publish a camera for so long (protocol sections 7.3, 7.4).
//!
//! ```text
//! start ─▶ requested ── stream.live ──▶ live ── stream.ended ──▶ ended (stopped, lease, idle, …)
//!              │ command ended without success   └─ stream.failed ──▶ failed
//!              └─▶ canceled │ failed             silent after its lease ─▶ ended (lease), until the device speaks
//! ```
//! The stream's key is a secret: wrapped in the session's row, `***` in the command's, in clear in the signed
//! document only, and that document travels by HTTPS only.

pub mod issue;
pub mod state;

pub use issue::{Wanted, renew, show, start, stop};

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::command::deliver::Document;
use crate::db::{self, Db, DbError};
use crate::ingest::lock_device;
use crate::project;
use crate::secret::WrappingKey;
use crate::twin::document::HIDDEN;

/// So long after a lease a device may be silent.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What a stream's key is bound to.
fn secret_name(edge_id: &str, session: Uuid) -> String {
    format!("{edge_id}/stream/{session}")
}

/// Whether a document waits for a secret, and so must not pass a broker.
pub fn is_secret(document: &Document) -> bool {
    document.command_type == "stream.start" && document.args["stream_key"] == HIDDEN
}

/// Puts stream keys into documents, just before they are signed.
///
/// # Errors
/// When a statement fails or a secret does not open.
pub async fn reveal(
    tx: &Transaction<'_>,
    documents: &mut [Document],
    wrapping: &WrappingKey,
) -> Result<(), AdminError> {
    for document in documents.iter_mut().filter(|document| is_secret(document)) {
        let row = tx
            .query_opt(
                "select id, stream_key_wrapped from stream_sessions
                 where command_id = $1 and stream_key_wrapped is not null",
                &[&document.id],
            )
            .await?;
        let Some(row) = row else {
            continue;
        };
        let name = secret_name(&document.edge_id, row.get(0));
        let bytes = wrapping.unwrap_bytes(&name, row.get(1))?;
        document.args["stream_key"] = String::from_utf8_lossy(&bytes).into_owned().into();
    }
    Ok(())
}

/// Ends what the device says nothing of any more: sessions whose command failed, and those whose lease is over.
/// Returns how many were looked at.
///
/// # Errors
/// When the database does not answer; the next sweep does it.
pub async fn sweep(db: &Db, now: Timestamp) -> Result<usize, DbError> {
    let before = now.checked_sub(GRACE).unwrap_or(now);
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let select = tx
        .prepare_cached(
            "select s.organization_id, s.device_id, s.id, s.expires_at <= $1
             from stream_sessions s join commands c on c.id = s.command_id
             where s.status in ('requested', 'live')
               and (s.expires_at <= $1
                    or s.status = 'requested' and c.completed_at is not null and c.status <> 'succeeded')
             limit 100",
        )
        .await?;
    let rows = tx.query(&select, &[&before]).await?;
    tx.commit().await?;
    for row in &rows {
        let (organization, device, id): (Uuid, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
        let tx = client.transaction().await?;
        db::set_tenant(&tx, organization).await?;
        lock_device(&tx, device).await?;
        if row.get(3) {
            // Looked at again under the lock: it may have been renewed.
            tx.execute(
                "update stream_sessions set lapsed_at = $2
                 where id = $1 and status in ('requested', 'live') and expires_at <= $3",
                &[&id, &now, &before],
            )
            .await?;
        }
        project::stream::refresh(&tx, device, id).await?;
        tx.commit().await?;
    }
    Ok(rows.len())
}

/// A session's row is JSON without its secret.
fn session_id(session: &Value) -> Option<Uuid> {
    session["id"].as_str()?.parse().ok()
}
