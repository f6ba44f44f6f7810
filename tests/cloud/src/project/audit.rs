//! `audit.entry` records → `audit_logs`, in the device's own hash chain; and the cloud's entries in the
//! organization's chain.
//!
//! A device's `prev` is stored as it says; checking that chain needs the device's bytes, which
//! `edge_records` has. In the cloud's chain `row_hash` is SHA-256 over `previous_hash` and the entry.

use std::net::IpAddr;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Payload;
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;
use crate::secret::sha256_hex;

/// `data` of `audit.entry`.
#[derive(Debug, Clone, Deserialize)]
pub struct Data {
    /// Who, in words or as an object.
    pub actor: Option<Value>,
    /// CREATE, UPDATE, DELETE, …
    pub action: Option<String>,
    /// What kind of thing.
    pub entity_type: Option<String>,
    /// Which thing.
    pub entity_id: Option<Value>,
    /// Before and after, secrets as `***`.
    pub changes: Option<Value>,
    /// Address of the person at the device.
    #[serde(alias = "ip_address")]
    pub ip: Option<String>,
    /// Their program.
    #[serde(alias = "user_agent")]
    pub ua: Option<String>,
    /// When it happened.
    pub at: Option<Timestamp>,
    /// Hash of the entry before.
    #[serde(alias = "previous_hash")]
    pub prev: Option<String>,
}

const INSERT: &str = "
    insert into audit_logs (id, organization_id, actor_device_id, actor, source_uid, action, entity_type,
                            entity_id, changes, metadata, ip_address, user_agent, previous_hash, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict do nothing";

/// A string as it is, anything else as JSON.
fn words(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn at_most(mut text: String, chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
    }
    text
}

/// Adds a batch's audit entries.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    for record in records {
        let Payload::Audit(data) = &record.payload else {
            continue;
        };
        let is_hash = |text: &&String| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let action = data.action.clone().filter(|action| !action.is_empty());
        let statement = tx.prepare_cached(INSERT).await?;
        tx.execute(
            &statement,
            &[
                &Uuid::now_v7(),
                &caller.organization_id,
                &caller.device_id,
                &data.actor.as_ref().map(words),
                &record.id,
                &at_most(action.unwrap_or_else(|| "NOTE".to_owned()), 64),
                &data.entity_type.clone().map(|text| at_most(text, 100)),
                &data.entity_id.as_ref().map(|id| at_most(words(id), 255)),
                &data.changes,
                &record.envelope.get("data"),
                &data.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()),
                &data.ua,
                &data.prev.as_ref().filter(is_hash),
                &data.at.unwrap_or(record.time),
            ],
        )
        .await?;
    }
    Ok(())
}

/// One of the cloud's own entries.
#[derive(Debug)]
pub struct Entry<'a> {
    /// CREATE, UPDATE, …
    pub action: &'a str,
    /// Table, singular.
    pub entity_type: &'a str,
    /// Its key.
    pub entity_id: &'a str,
    /// Before and after, without secrets.
    pub changes: Value,
}

/// Appends an entry to the organization's chain.
///
/// # Errors
/// When a statement fails.
pub async fn append(
    tx: &Transaction<'_>,
    organization: Uuid,
    entry: &Entry<'_>,
) -> Result<(), DbError> {
    let key = organization.to_string();
    tx.execute(
        "select pg_advisory_xact_lock(hashtextextended($1, 3))",
        &[&key],
    )
    .await?;
    let last = tx
        .query_opt(
            "select row_hash from audit_logs a
             where organization_id = $1 and row_hash is not null and not exists (
               select from audit_logs b where b.organization_id = $1 and b.row_hash is not null
                 and b.previous_hash = a.row_hash)",
            &[&organization],
        )
        .await?;
    let previous: Option<String> = last.map(|row| row.get(0));
    let at = Timestamp::now();
    let text = json!([
        previous,
        key,
        at,
        entry.action,
        entry.entity_type,
        entry.entity_id,
        entry.changes
    ]);
    let hash = sha256_hex(text.to_string().as_bytes());
    tx.execute(
        "insert into audit_logs (id, organization_id, actor, action, entity_type, entity_id, changes,
                                 previous_hash, row_hash, created_at)
         values ($1, $2, 'operator', $3, $4, $5, $6, $7, $8, $9)",
        &[
            &Uuid::now_v7(),
            &organization,
            &entry.action,
            &entry.entity_type,
            &entry.entity_id,
            &entry.changes,
            &previous,
            &hash,
            &at,
        ],
    )
    .await?;
    Ok(())
}
