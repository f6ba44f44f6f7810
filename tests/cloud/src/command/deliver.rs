//! Handing out: rows become signed documents. And expiry, of what nobody acknowledged in time.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::db::{self, Db, DbError};
use crate::jws;

/// Most commands of one answer.
pub const MAX_LIMIT: i64 = 16;

/// How long after `exp` the cloud waits for an `acknowledged` that is on its way.
const GRACE: SignedDuration = SignedDuration::from_secs(5);

/// One command, as far as it is signed.
#[derive(Debug, Clone)]
pub struct Document {
    /// `jti`.
    pub id: Uuid,
    /// Place among the device's commands.
    pub n: i64,
    /// `aud`.
    pub edge_id: String,
    /// `cmd.type`.
    pub command_type: String,
    /// `cmd.args`.
    pub args: Value,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    jti: Uuid,
    n: i64,
    iat: i64,
    exp: i64,
    cmd: Cmd<'a>,
}

#[derive(Serialize)]
struct Cmd<'a> {
    #[serde(rename = "type")]
    command_type: &'a str,
    args: &'a Value,
}

impl Document {
    /// What is signed.
    pub fn claims(&self) -> impl Serialize + '_ {
        Claims {
            iss: jws::ISSUER,
            aud: &self.edge_id,
            jti: self.id,
            n: self.n,
            iat: self.issued_at.as_second(),
            exp: self.expires_at.as_second(),
            cmd: Cmd {
                command_type: &self.command_type,
                args: &self.args,
            },
        }
    }
}

const HAND_OUT: &str = "
    update commands c set
      status = 'dispatched', last_dispatched_at = now(), updated_at = now(),
      retry_count = c.retry_count + (c.last_dispatched_at is not null)::integer
    from (select id from commands
          where device_id = $1 and n > $2 and status in ('queued', 'dispatched') and expires_at > $3
          order by n limit $4 for update) p
    where c.id = p.id
    returning c.id, c.n, c.command_type, c.payload, c.issued_at, c.expires_at";

/// The commands after number `after` that nobody has acknowledged and that have not expired, in order;
/// they are `dispatched` from now on.
///
/// # Errors
/// When a statement fails.
pub async fn hand_out(
    tx: &Transaction<'_>,
    device_id: Uuid,
    edge_id: &str,
    after: i64,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Document>, DbError> {
    let statement = tx.prepare_cached(HAND_OUT).await?;
    let rows = tx
        .query(&statement, &[&device_id, &after, &now, &limit])
        .await?;
    let mut documents: Vec<Document> = rows.iter().map(|row| document(edge_id, row)).collect();
    documents.sort_by_key(|document| document.n);
    Ok(documents)
}

/// The newest commands whatever became of them, for faults: what a replaying middleman would have.
///
/// # Errors
/// When a statement fails.
pub async fn stale(
    tx: &Transaction<'_>,
    device_id: Uuid,
    edge_id: &str,
) -> Result<Vec<Document>, DbError> {
    let statement = tx
        .prepare_cached(
            "select id, n, command_type, payload, issued_at, expires_at from commands
             where device_id = $1 order by n desc limit $2",
        )
        .await?;
    let rows = tx.query(&statement, &[&device_id, &MAX_LIMIT]).await?;
    Ok(rows.iter().map(|row| document(edge_id, row)).collect())
}

fn document(edge_id: &str, row: &tokio_postgres::Row) -> Document {
    Document {
        edge_id: edge_id.to_owned(),
        id: row.get(0),
        n: row.get(1),
        command_type: row.get(2),
        args: row.get(3),
        issued_at: row.get(4),
        expires_at: row.get(5),
    }
}

/// How many commands wait for the device, for the answer of a batch.
///
/// # Errors
/// When the statement fails.
pub async fn pending(tx: &Transaction<'_>, device_id: Uuid) -> Result<i64, DbError> {
    let statement = tx
        .prepare_cached(
            "select count(*) from commands
             where device_id = $1 and status in ('queued', 'dispatched') and expires_at > now()",
        )
        .await?;
    Ok(tx.query_one(&statement, &[&device_id]).await?.get(0))
}

/// Ends what passed its time without `acknowledged`, for all tenants; returns how many.
///
/// # Errors
/// When the database does not answer; the next sweep does it.
pub async fn expire(db: &Db, now: Timestamp) -> Result<u64, DbError> {
    let before = now.checked_sub(GRACE).unwrap_or(now);
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "update commands set status = 'expired', code = 'expired', completed_at = $1, updated_at = now()
             where status in ('queued', 'dispatched') and expires_at <= $2",
        )
        .await?;
    let expired = tx.execute(&statement, &[&now, &before]).await?;
    tx.commit().await?;
    Ok(expired)
}
