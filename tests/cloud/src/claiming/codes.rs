//! Claim codes: made by an organization, shown once, single use, at most a day old.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::after;
use super::code::Code;
use crate::admin::{AdminError, record};
use crate::db::{self, DbError};
use crate::http::App;
use crate::secret::WrappingKey;

/// A code lives at most so long.
pub const MAX_LIFE_S: i64 = 24 * 3600;

/// A code that may be used.
#[derive(Debug)]
pub(super) struct Found {
    pub id: Uuid,
    pub organization: Uuid,
    pub device_name: Option<String>,
    /// The claim that held it so far.
    pub held_by: Option<Uuid>,
}

/// Makes a code of the organization; the answer has the only copy.
///
/// # Errors
/// `Refused` for a life of nothing or of more than a day.
pub async fn create(
    tx: &Transaction<'_>,
    key: &WrappingKey,
    organization: Uuid,
    device_name: Option<&str>,
    life_s: i64,
    now: Timestamp,
) -> Result<Value, AdminError> {
    if !(60..=MAX_LIFE_S).contains(&life_s) {
        return Err(AdminError::Refused(
            "a code lives 60 to 86400 seconds".to_owned(),
        ));
    }
    let (id, code) = (Uuid::now_v7(), Code::random()?);
    let expires_at = after(now, life_s);
    tx.execute(
        "insert into claim_codes (id, organization_id, code_hash, device_name, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        &[
            &id,
            &organization,
            &key.hash_code("claim", code.expose()),
            &device_name,
            &now,
            &expires_at,
        ],
    )
    .await?;
    let after =
        json!({ "after": { "device_name": device_name, "expires_at": expires_at, "code": "***" } });
    record(
        tx,
        organization,
        "CREATE",
        "claim_code",
        &id.to_string(),
        after,
    )
    .await?;
    Ok(
        json!({ "id": id, "claim_code": code.expose_for_people(), "expires_at": expires_at, "device_name": device_name }),
    )
}

/// Looks a code up; none for one that is no code, unknown, used or too old.
pub(super) async fn find(
    app: &App,
    tx: &Transaction<'_>,
    text: &str,
    now: Timestamp,
) -> Result<Option<Found>, DbError> {
    let Some(code) = Code::parse(text) else {
        return Ok(None);
    };
    let hash = app.wrapping_key.hash_code("claim", code.expose());
    db::set_local(tx, "app.claim_code_hash", &hash).await?;
    let row = tx
        .query_opt(
            "select id, organization_id, device_name, claim_id from claim_codes
             where code_hash = $1 and status = 'active' and expires_at > $2",
            &[&hash, &now],
        )
        .await?;
    Ok(row.map(|row| Found {
        id: row.get(0),
        organization: row.get(1),
        device_name: row.get(2),
        held_by: row.get(3),
    }))
}
