//! A new key beside the old one (section 3.6): sealed to the device, `next` until the device has signed with it,
//! then current, with the old one good for another 24 h. Whatever breaks in between, one of the two works.
//!
//! The device is asked by command (`key.rotate`): by a person, or by `old` for a key of 180 days. `retire` ends the
//! 24 h in the table; `edge::verify` does not wait for it.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::seal;
use crate::admin::{AdminError, record};
use crate::command;
use crate::credentials::new_edge_key;
use crate::db::{self, Db, DbError};
use crate::edge::verify::Caller;
use crate::http::App;
use crate::problem::Problem;
use crate::secret::Secret;
use axum::http::StatusCode;

/// The command's type.
pub const ROTATE: &str = "key.rotate";
/// The device may begin so long after it was asked; an old key is not asked about again before.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// A key is changed when it is so old.
const AGE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// A replaced key is good for so long.
const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// Most devices of one pass; the next takes the rest.
const MAX_DUE: i64 = 100;

/// Asks a device to change its key; returns the command.
///
/// # Errors
/// As `command::send`.
pub async fn ask(tx: &Transaction<'_>, edge_id: &str, now: Timestamp) -> Result<Value, AdminError> {
    let wanted = command::Wanted {
        command_type: ROTATE.to_owned(),
        args: json!({}),
        expires_in_s: PATIENCE.as_secs(),
    };
    command::send(tx, edge_id, &wanted, now).await
}

fn before(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// Asks the devices of all tenants whose key is 180 days old, each once a day; returns how many.
///
/// # Errors
/// When the database does not answer; the next pass does it.
pub async fn old(db: &Db, now: Timestamp) -> Result<usize, AdminError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "select d.organization_id, d.edge_id from edge_credentials k join devices d on d.id = k.device_id
             where k.state = 'current' and coalesce(k.confirmed_at, k.created_at) <= $1
               and d.status <> 'unclaimed' and d.unclaim_due is null and d.deleted_at is null
               and not exists (select from commands c where c.device_id = d.id and c.command_type = $2
                               and (c.completed_at is null or c.issued_at > $3))
             order by k.created_at limit $4",
        )
        .await?;
    let (aged, asked) = (before(now, AGE), before(now, PATIENCE));
    let rows = tx
        .query(&statement, &[&aged, &ROTATE, &asked, &MAX_DUE])
        .await?;
    let mut count = 0;
    for row in &rows {
        let edge_id: &str = row.get(1);
        db::set_tenant(&tx, row.get(0)).await?;
        match ask(&tx, edge_id, now).await {
            Ok(_) => count += 1,
            // Too many commands are open, or it was unclaimed just now: the next pass looks again.
            Err(AdminError::Conflict(why)) => tracing::debug!(edge_id, why, "no new key yet"),
            Err(error) => return Err(error),
        }
    }
    tx.commit().await?;
    Ok(count)
}

/// Revokes the keys of all tenants that were replaced 24 h ago; returns how many.
///
/// # Errors
/// When the database does not answer; the next pass does it.
pub async fn retire(db: &Db, now: Timestamp) -> Result<u64, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "update edge_credentials set state = 'revoked' where state = 'retired' and retired_at <= $1",
        )
        .await?;
    let retired = tx.execute(&statement, &[&before(now, GRACE)]).await?;
    tx.commit().await?;
    Ok(retired)
}

/// The message.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    kem_pk: String,
}

/// Locks the device and says in which state the key is that signed.
async fn state(tx: &Transaction<'_>, caller: &Caller) -> Result<String, DbError> {
    db::set_tenant(tx, caller.organization_id).await?;
    tx.execute(
        "select 1 from devices where id = $1 for update",
        &[&caller.device_id],
    )
    .await?;
    let row = tx
        .query_one(
            "select state from edge_credentials where edge_key = $1",
            &[&caller.edge_key()],
        )
        .await?;
    Ok(row.get(0))
}

/// Makes a next key; one that waited for its confirm is forgotten.
///
/// # Errors
/// 403 `not-current` unless the current key signed.
pub async fn rotate(
    app: &App,
    caller: &Caller,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Value, Problem> {
    let kem_pk = BASE64_URL_SAFE_NO_PAD
        .decode(&wanted.kem_pk)
        .ok()
        .and_then(|bytes| <[u8; seal::KEM_PK_LEN]>::try_from(bytes).ok())
        .ok_or_else(|| Problem::malformed("kem_pk must be base64url of 32 bytes"))?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    if state(&tx, caller).await? != "current" {
        let detail = "only the current key may ask for the next";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-current", detail));
    }
    let no_random = |_| Problem::unavailable();
    let (edge_key, secret) = (
        new_edge_key().map_err(no_random)?,
        Secret::random().map_err(no_random)?,
    );
    let plain = json!({
        "v": 1, "edge_key": edge_key, "edge_secret": secret.expose_base64(), "not_before": format!("{now:.3}"),
    });
    let sealed = seal::seal(
        &kem_pk,
        &seal::rotate_info(&kem_pk),
        plain.to_string().as_bytes(),
    )
    .map_err(|_| Problem::malformed("nothing can be sealed to kem_pk"))?;
    let wrapped = app
        .wrapping_key
        .wrap(&caller.edge_id, &secret)
        .map_err(no_random)?;
    tx.execute(
        "delete from edge_credentials where device_id = $1 and state = 'next'",
        &[&caller.device_id],
    )
    .await
    .map_err(DbError::from)?;
    tx.execute(
        "insert into edge_credentials (id, organization_id, device_id, edge_key, secret_wrapped, state)
         values ($1, $2, $3, $4, $5, 'next')",
        &[&Uuid::now_v7(), &caller.organization_id, &caller.device_id, &edge_key, &wrapped],
    )
    .await
    .map_err(DbError::from)?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(json!({ "sealed": BASE64_URL_SAFE_NO_PAD.encode(sealed) }))
}

/// The next key has signed: it is the current one. Asking again changes nothing.
///
/// # Errors
/// 403 `not-next` for a key that is retired.
pub async fn confirm(app: &App, caller: &Caller, now: Timestamp) -> Result<Value, Problem> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let answer = json!({ "edge_key": caller.edge_key(), "state": "current" });
    match state(&tx, caller).await?.as_str() {
        "next" => {}
        "current" => return Ok(answer),
        _ => {
            let detail = "this key was replaced";
            return Err(Problem::new(StatusCode::FORBIDDEN, "not-next", detail));
        }
    }
    tx.execute(
        "update edge_credentials set state = 'retired', retired_at = $2 where device_id = $1 and state = 'current'",
        &[&caller.device_id, &now],
    )
    .await
    .map_err(DbError::from)?;
    tx.execute(
        "update edge_credentials set state = 'current', confirmed_at = $2 where edge_key = $1",
        &[&caller.edge_key(), &now],
    )
    .await
    .map_err(DbError::from)?;
    let changes = json!({ "after": { "edge_key": caller.edge_key(), "edge_secret": "***" } });
    record(
        &tx,
        caller.organization_id,
        "ROTATE",
        "device",
        &caller.edge_id,
        changes,
    )
    .await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer)
}
