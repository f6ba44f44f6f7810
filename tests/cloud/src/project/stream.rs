//! `stream.*` records → `stream_sessions`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Payload;
use super::parts::Part;
use crate::command::state::Status;
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;
use crate::stream::state::{Kind, Known, Session, decide};

/// Merges the records of a batch into their sessions.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    for record in records {
        if let Payload::Stream(kind, data) = &record.payload {
            let part = Part::of(record, data.rev, (**data).clone());
            merge(tx, caller.device_id, data.session_id, Some((*kind, part))).await?;
        }
    }
    Ok(())
}

/// Something else than a record has changed: its command or its lease. The device must be locked.
///
/// # Errors
/// When a statement fails.
pub async fn refresh(tx: &Transaction<'_>, device_id: Uuid, session: Uuid) -> Result<(), DbError> {
    merge(tx, device_id, session, None).await
}

const LOAD: &str = "
    select s.parts, c.status, c.code, c.completed_at, s.lapsed_at
    from stream_sessions s join commands c on c.id = s.command_id
    where s.id = $1 and s.device_id = $2 for update of s";

const SAVE: &str = "
    update stream_sessions set status = $2, started_at = $3, ended_at = $4, reason = $5, detail = $6,
      bytes = $7, parts = $8, rev = $9, updated_at = now()
    where id = $1";

async fn merge(
    tx: &Transaction<'_>,
    device_id: Uuid,
    id: Uuid,
    part: Option<(Kind, Part<crate::stream::state::Data>)>,
) -> Result<(), DbError> {
    let load = tx.prepare_cached(LOAD).await?;
    let Some(row) = tx.query_opt(&load, &[&id, &device_id]).await? else {
        tracing::warn!(session_id = %id, "word about a session that is not the device's");
        return Ok(());
    };
    let mut session: Session = serde_json::from_value(row.get::<_, Value>(0)).unwrap_or_default();
    if let Some((kind, part)) = part {
        session.add(kind, part);
    }
    let known = Known {
        command: Status::from_word(row.get(1)).unwrap_or(Status::Queued),
        code: row.get(2),
        completed_at: row.get(3),
        lapsed_at: row.get(4),
    };
    let shown = decide(&session, known);
    let live = || session.get(&Kind::Live).map(|part| part.time);
    let started: Option<Timestamp> = session.said(|data| data.started_at).or_else(live);
    let detail = session.said(|data| data.detail.clone());
    let detail: Option<String> = detail.map(|detail| detail.chars().take(512).collect());
    let bytes = session
        .newest_first()
        .filter_map(|part| part.data.bytes)
        .max();
    let save = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &save,
        &[
            &id,
            &shown.status,
            &started,
            &shown.ended_at,
            &shown.reason,
            &detail,
            &bytes,
            &json!(session),
            &session.newest().map_or(0, |part| part.rev),
        ],
    )
    .await?;
    Ok(())
}
