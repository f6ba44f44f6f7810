//! Unclaim by the owner (section 8.7): the device is asked by command, wipes itself and says `succeeded`; then the
//! claim ends here too. A device that says nothing for 24 h is unclaimed without its word.
//!
//! Only the record counts, not its copy over MQTT: a broker must not be able to end a claim. `devices.unclaim_due`
//! stands while an unclaim is asked for, and a new claim clears it, so that an old `succeeded` that arrives with the
//! outbox of a box that was claimed again ends nothing.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::issue::{self, Wanted};
use crate::admin::{self, AdminError};
use crate::db::{self, Db, DbError};
use crate::edge::verify::Caller;

/// The command's type.
pub const UNCLAIM: &str = "unclaim";
/// So long the device may take to say that it is done.
pub const PATIENCE_S: i64 = 86_400;
/// Most devices of one pass of the due-job; the next takes the rest.
const MAX_DUE: i64 = 100;

/// What the device wipes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wipe {
    /// Its keys; records and clips stay for whoever has the box.
    #[default]
    Credentials,
    /// Its records, clips and logs too.
    All,
}

/// Asks the device to unclaim itself; returns the command.
///
/// # Errors
/// As `send`.
pub async fn ask(
    tx: &Transaction<'_>,
    edge_id: &str,
    wipe: Wipe,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let wipe = match wipe {
        Wipe::Credentials => "credentials",
        Wipe::All => "all",
    };
    let wanted = Wanted {
        command_type: UNCLAIM.to_owned(),
        args: json!({ "wipe": wipe }),
        expires_in_s: PATIENCE_S,
    };
    issue::send(tx, edge_id, &wanted, now).await
}

/// An unclaim was sent: from now on the device has 24 h.
pub(super) async fn asked(
    tx: &Transaction<'_>,
    device: Uuid,
    issued: Timestamp,
) -> Result<(), DbError> {
    let due = issued
        .checked_add(SignedDuration::from_secs(PATIENCE_S))
        .unwrap_or(Timestamp::MAX);
    tx.execute(
        "update devices set unclaim_due = least(unclaim_due, $2) where id = $1",
        &[&device, &due],
    )
    .await?;
    Ok(())
}

/// An unclaim was taken back before anybody had it; without another one, the device stays.
pub(super) async fn taken_back(tx: &Transaction<'_>, id: Uuid) -> Result<(), DbError> {
    tx.execute(
        "update devices d set unclaim_due = null from commands c
         where c.id = $1 and c.command_type = $2 and d.id = c.device_id
           and not exists (select from commands o where o.device_id = c.device_id and o.command_type = $2
                           and o.completed_at is null)",
        &[&id, &UNCLAIM],
    )
    .await?;
    Ok(())
}

/// A record says that this command succeeded: if it is an unclaim that is asked for, the claim ends.
///
/// # Errors
/// When a statement fails.
pub async fn done(tx: &Transaction<'_>, caller: &Caller, command: Uuid) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached(
            "select 1 from commands c join devices d on d.id = c.device_id
             where c.id = $1 and c.device_id = $2 and c.command_type = $3 and d.unclaim_due is not null",
        )
        .await?;
    let (device, unclaim) = (&caller.device_id, &UNCLAIM);
    if tx
        .query_opt(&statement, &[&command, device, unclaim])
        .await?
        .is_some()
    {
        admin::end_claim(tx, &caller.edge_id, "the device has unclaimed itself").await?;
        tracing::info!(edge_id = caller.edge_id, "unclaimed");
    }
    Ok(())
}

/// Unclaims devices of all tenants that were asked to and have said nothing in time; returns how many.
///
/// # Errors
/// When the database does not answer; the next pass does it.
pub async fn due(db: &Db, now: Timestamp) -> Result<usize, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "select organization_id, edge_id from devices
             where unclaim_due <= $1 order by unclaim_due limit $2 for update skip locked",
        )
        .await?;
    let rows = tx.query(&statement, &[&now, &MAX_DUE]).await?;
    for row in &rows {
        let edge_id: &str = row.get(1);
        db::set_tenant(&tx, row.get(0)).await?;
        admin::end_claim(&tx, edge_id, "the device said nothing for 24 hours").await?;
        tracing::warn!(edge_id, "unclaimed without the device's word");
    }
    tx.commit().await?;
    Ok(rows.len())
}
