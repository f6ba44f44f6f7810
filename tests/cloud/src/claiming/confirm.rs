//! The signed confirm: the box has its credentials, so from now on they count.
//!
//! One transaction makes the device, its key and its wish for an MQTT client, uses up the code and deletes the
//! claim's row with everything sealed or wrapped in it. A repeated confirm finds the key and is answered alike.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::queue::{self, Standing};
use crate::admin::record;
use crate::db::{self, DbError};
use crate::edge::verify::Caller;
use crate::http::App;
use crate::problem::Problem;
use axum::http::StatusCode;

/// 410: the credentials were never active, and are gone. Needs no signature (section 8.3, step 6).
pub fn gone() -> Problem {
    let detail =
        "there is nothing to confirm: the claim is over, and its credentials were never active";
    Problem::new(StatusCode::GONE, "claim-gone", detail)
}

/// Activates what was approved.
///
/// # Errors
/// 410 `claim-gone` when it was not confirmed in time or the claim died.
pub async fn confirm(
    app: &App,
    caller: &Caller,
    id: Uuid,
    now: Timestamp,
) -> Result<Value, Problem> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, caller.organization_id).await?;
    let answer = json!({ "edge_id": caller.edge_id, "status": "claimed" });
    if caller.claim.is_none() {
        return if was_confirmed(&tx, caller, id).await? {
            Ok(answer)
        } else {
            Err(gone())
        };
    }
    let Some(claim) = queue::load(&tx, id).await? else {
        // Between the check of the signature and here the same confirm may have been processed.
        return if was_confirmed(&tx, caller, id).await? {
            Ok(answer)
        } else {
            Err(gone())
        };
    };
    if claim.standing(now) != Standing::Approved {
        return Err(gone());
    }
    activate(&tx, caller, id, now).await?;
    claim.delete(&tx).await?;
    let changes = json!({ "after": { "edge_id": caller.edge_id, "edge_key": caller.edge_key(), "edge_secret": "***" } });
    record(
        &tx,
        caller.organization_id,
        "CLAIM",
        "device",
        &caller.edge_id,
        changes,
    )
    .await?;
    tx.commit().await.map_err(DbError::from)?;
    tracing::info!(edge_id = caller.edge_id, "claimed");
    Ok(answer)
}

async fn was_confirmed(tx: &Transaction<'_>, caller: &Caller, id: Uuid) -> Result<bool, DbError> {
    let row = tx
        .query_opt(
            "select 1 from edge_credentials where edge_key = $1 and claim_id = $2 and state in ('current', 'retired')",
            &[&caller.edge_key(), &id],
        )
        .await?;
    Ok(row.is_some())
}

async fn activate(
    tx: &Transaction<'_>,
    caller: &Caller,
    id: Uuid,
    now: Timestamp,
) -> Result<(), DbError> {
    // A box that is claimed again keeps its row; its name is what the person chose now.
    tx.execute(
        "insert into devices (id, organization_id, edge_id, name, mac_address, serial_number, claimed_at)
         select device_id, organization_id, edge_id, device_name, mac_address, serial_number, $2
         from device_claiming_queue where claim_id = $1
         on conflict (id) do update set name = excluded.name, mac_address = excluded.mac_address,
             status = case when devices.status = 'unclaimed' then 'offline' else devices.status end,
             claimed_at = excluded.claimed_at, unclaimed_at = null, unclaim_due = null,
             updated_at = now()",
        &[&id, &now],
    )
    .await?;
    // Whoever has an older key lost it or is a copy.
    tx.execute(
        "delete from edge_credentials where device_id = $1 and state = 'next'",
        &[&caller.device_id],
    )
    .await?;
    tx.execute(
        "update edge_credentials set state = 'revoked', retired_at = coalesce(retired_at, now())
         where device_id = $1 and state in ('current', 'retired')",
        &[&caller.device_id],
    )
    .await?;
    tx.execute(
        "insert into edge_credentials (id, organization_id, device_id, edge_key, secret_wrapped, state, claim_id, confirmed_at)
         select $2, organization_id, device_id, edge_key, secret_wrapped, 'current', claim_id, now()
         from device_claiming_queue where claim_id = $1",
        &[&id, &Uuid::now_v7()],
    )
    .await?;
    super::mqtt::want_present(tx, id).await?;
    tx.execute(
        "update claim_codes c set status = 'claimed', claimed_at = $2, claimed_by_device_id = q.device_id
         from device_claiming_queue q where q.claim_id = $1 and c.id = q.claim_code_id and c.status = 'active'",
        &[&id, &now],
    )
    .await?;
    Ok(())
}
