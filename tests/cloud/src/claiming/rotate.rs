//! A new key beside the old one (section 3.6): sealed to the device, `next` until the device has signed with it,
//! then current, with the old one good for another 24 h. Whatever breaks in between, one of the two works.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::seal;
use crate::admin::record;
use crate::credentials::new_edge_key;
use crate::db::{self, DbError};
use crate::edge::verify::Caller;
use crate::http::App;
use crate::problem::Problem;
use crate::secret::Secret;
use axum::http::StatusCode;

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
pub async fn confirm(app: &App, caller: &Caller) -> Result<Value, Problem> {
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
        "update edge_credentials set state = 'retired', retired_at = now() where device_id = $1 and state = 'current'",
        &[&caller.device_id],
    )
    .await
    .map_err(DbError::from)?;
    tx.execute(
        "update edge_credentials set state = 'current', confirmed_at = now() where edge_key = $1",
        &[&caller.edge_key()],
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
