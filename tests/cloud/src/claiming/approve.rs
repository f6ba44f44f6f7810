//! Who may have a box, and the credentials that are made for it.
//!
//! Credentials exist in the claim's row only, wrapped, until the device has signed with them. A box that the
//! organization has had before keeps its `edge_id`, so its records go on where they were.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::codes::Found;
use super::queue::{self, Claim};
use super::{after, seal};
use crate::admin::record;
use crate::credentials::{new_edge_id, new_edge_key};
use crate::db::{self, DbError};
use crate::http::App;
use crate::license;
use crate::problem::Problem;
use crate::secret::Secret;
use axum::http::StatusCode;

/// A box that the organization has or had.
struct Known {
    device_id: Uuid,
    edge_id: String,
    claimed: bool,
}

/// Whether the organization, which the transaction has named, may have this box: it is active, the box is not
/// claimed by another, and the licence has room. The organization's lock is held until the transaction ends, so
/// two boxes cannot take one place.
///
/// # Errors
/// 403 with a sentence for people.
pub(super) async fn may_have(
    tx: &Transaction<'_>,
    claim: &Claim,
    organization: Uuid,
    now: Timestamp,
) -> Result<(), Problem> {
    license::lock(tx, organization).await?;
    let active = tx
        .query_opt(
            "select 1 from organizations where id = $1 and status = 'active' and deleted_at is null",
            &[&organization],
        )
        .await
        .map_err(DbError::from)?;
    if active.is_none() {
        let detail = "the organization is suspended";
        return Err(Problem::new(StatusCode::FORBIDDEN, "suspended", detail));
    }
    if let Some(serial) = &claim.serial {
        db::set_local(tx, "app.claim_serial", serial).await?;
        let other = tx
            .query_opt(
                "select 1 from devices where serial_number = $1 and organization_id <> $2
                   and status <> 'unclaimed' and deleted_at is null",
                &[serial, &organization],
            )
            .await
            .map_err(DbError::from)?;
        db::set_local(tx, "app.claim_serial", "").await?;
        if other.is_some() {
            let detail = "another organization has claimed a box with this serial number; it must unclaim it first";
            return Err(Problem::new(StatusCode::FORBIDDEN, "owned", detail));
        }
    }
    let again = known(tx, claim, organization)
        .await?
        .is_some_and(|known| known.claimed);
    let limits = license::limits_beside(tx, organization, claim.id, now).await?;
    limits.one_more_box(again).map_err(license::refusal)
}

async fn known(
    tx: &Transaction<'_>,
    claim: &Claim,
    organization: Uuid,
) -> Result<Option<Known>, DbError> {
    let row = tx
        .query_opt(
            "select id, edge_id, status <> 'unclaimed' from devices
             where organization_id = $1 and serial_number = $2 and deleted_at is null
             order by status = 'unclaimed', claimed_at desc nulls last limit 1",
            &[&organization, &claim.serial],
        )
        .await?;
    Ok(row.map(|row| Known {
        device_id: row.get(0),
        edge_id: row.get(1),
        claimed: row.get(2),
    }))
}

/// Binds a claim by the code that the box brought. A code is held by one claim at a time, the newest: a box that
/// lost power before it had its credentials comes again.
pub(super) async fn bind_by_code(
    tx: &Transaction<'_>,
    id: Uuid,
    code: &Found,
    now: Timestamp,
) -> Result<(), Problem> {
    db::set_tenant(tx, code.organization).await?;
    if let Some(held_by) = code.held_by
        && let Some(mut earlier) = queue::load(tx, held_by).await?
        && earlier.claim_code == Some(code.id)
    {
        earlier.end(tx, "denied").await?;
    }
    let claim = queue::load(tx, id).await?.ok_or_else(Problem::not_found)?;
    super::bind::check_method(tx, &claim, code.organization, "K").await?;
    may_have(tx, &claim, code.organization, now).await?;
    let name = code
        .device_name
        .as_deref()
        .or(claim.model.as_deref())
        .unwrap_or("camera");
    tx.execute(
        "update device_claiming_queue set state = 'bound', organization_id = $2, method = 'K', device_name = $3,
                claim_code_id = $4
         where claim_id = $1",
        &[&id, &code.organization, &name, &code.id],
    )
    .await
    .map_err(DbError::from)?;
    tx.execute(
        "update claim_codes set claim_id = $2 where id = $1",
        &[&code.id, &id],
    )
    .await
    .map_err(DbError::from)?;
    let changes = json!({ "after": { "method": "K", "state": "bound" } });
    record(
        tx,
        code.organization,
        "BIND",
        "claim",
        &id.to_string(),
        changes,
    )
    .await?;
    Ok(())
}

/// Makes credentials for a bound claim and seals them; returns the poll's answer, which from now on is the same.
///
/// # Errors
/// As `may_have`: the licence may have been used up since.
pub(super) async fn approve(
    app: &App,
    tx: &Transaction<'_>,
    claim: &Claim,
    now: Timestamp,
) -> Result<String, Problem> {
    let organization = claim.organization.ok_or_else(Problem::unavailable)?;
    db::set_tenant(tx, organization).await?;
    may_have(tx, claim, organization, now).await?;
    let tenant: String = tx
        .query_one(
            "select name from organizations where id = $1",
            &[&organization],
        )
        .await
        .map_err(DbError::from)?
        .get(0);
    let known = known(tx, claim, organization).await?;
    let (device_id, edge_id) = match known {
        Some(known) => (known.device_id, known.edge_id),
        None => (Uuid::now_v7(), new_edge_id()),
    };
    let no_random = |_| Problem::unavailable();
    let (edge_key, secret) = (
        new_edge_key().map_err(no_random)?,
        Secret::random().map_err(no_random)?,
    );
    let password = Secret::random().map_err(no_random)?;
    let confirm_by = after(now, app.claiming.confirm_s);
    let mqtt = app.mqtt.as_ref().map(|mqtt| {
        json!({
            "host": mqtt.host, "port": mqtt.port, "client_id": edge_id, "username": edge_id,
            "password": password.expose_base64url(),
        })
    });
    let plain = json!({
        "v": 1, "edge_id": edge_id, "edge_key": edge_key, "edge_secret": secret.expose_base64(), "mqtt": mqtt,
        "api_base": format!("https://{}", app.authority), "tenant": { "id": organization, "name": tenant },
        "device_name": claim.device_name, "stream_hosts": [],
    });
    let kem_pk: [u8; seal::KEM_PK_LEN] = claim
        .kem_pk
        .as_slice()
        .try_into()
        .map_err(|_| Problem::unavailable())?;
    let sealed = seal::seal(
        &kem_pk,
        &seal::claim_info(claim.id, &kem_pk),
        plain.to_string().as_bytes(),
    )
    .map_err(|_| Problem::unavailable())?;
    let answer = json!({
        "sealed": BASE64_URL_SAFE_NO_PAD.encode(sealed),
        "confirm_by": format!("{confirm_by:.3}"),
    })
    .to_string();
    let wrapped = app
        .wrapping_key
        .wrap(&edge_id, &secret)
        .map_err(no_random)?;
    let password_wrapped = match &app.mqtt {
        Some(_) => {
            Some(super::mqtt::wrap(&app.wrapping_key, &edge_id, &password).map_err(no_random)?)
        }
        None => None,
    };
    // An earlier claim of the same box that was not confirmed: the newest window counts.
    tx.execute(
        "update device_claiming_queue set state = 'denied', device_id = null, edge_id = null, edge_key = null,
                secret_wrapped = null, mqtt_secret_wrapped = null, answer = null, confirm_by = null
         where organization_id = $1 and device_id = $2",
        &[&organization, &device_id],
    )
    .await
    .map_err(DbError::from)?;
    tx.execute(
        "update device_claiming_queue set state = 'approved', device_id = $2, edge_id = $3, edge_key = $4,
                secret_wrapped = $5, mqtt_secret_wrapped = $6, answer = $7, confirm_by = $8
         where claim_id = $1",
        &[&claim.id, &device_id, &edge_id, &edge_key, &wrapped, &password_wrapped, &answer, &confirm_by],
    )
    .await
    .map_err(DbError::from)?;
    Ok(answer)
}
