//! `agent.*` records → `devices`.
//!
//! The newest record (by epoch's rank and sequence) decides `status` and replaces what it says; an
//! older one only fills what nobody has said yet. `last_seen_at` is the cloud's own clock.

use std::net::IpAddr;

use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Payload, Place, Ranks};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;

/// `data` of `agent.started`, `stopping`, `heartbeat`, `health`; all of it is optional.
#[derive(Debug, Clone, Deserialize)]
pub struct Data {
    /// The agent's version.
    #[serde(alias = "agent_version", alias = "app_version", alias = "agent")]
    pub version: Option<String>,
    /// aarch64, debian 12, …
    pub platform: Option<String>,
    /// The machine's name.
    pub hostname: Option<String>,
    /// As the device sees itself; whatever is no address is left out.
    #[serde(alias = "ip_address")]
    pub ip: Option<String>,
    /// `degraded` when the device says that it is.
    pub status: Option<String>,
}

const SAVE: &str = "
    update devices d set
      status = case when d.status = 'unclaimed' or not n.newer then d.status else $3 end,
      app_version = case when n.newer then coalesce($4, d.app_version) else coalesce(d.app_version, $4) end,
      platform = case when n.newer then coalesce($5, d.platform) else coalesce(d.platform, $5) end,
      hostname = case when n.newer then coalesce($6, d.hostname) else coalesce(d.hostname, $6) end,
      ip_address = case when n.newer then coalesce($7, d.ip_address) else coalesce(d.ip_address, $7) end,
      health = case when n.newer or d.health is null then $8 else d.health end,
      state_epoch_rank = case when n.newer then $9 else d.state_epoch_rank end,
      state_sequence = case when n.newer then $10 else d.state_sequence end,
      updated_at = now()
    from (select ($9::integer, $10::bigint) > (state_epoch_rank, state_sequence) as newer
          from devices where id = $1) n
    where d.id = $1 and d.organization_id = $2";

/// Applies a batch's agent records, in their order.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
    ranks: &Ranks,
) -> Result<(), DbError> {
    let mut said: Vec<(Place, bool, &Data, &Value)> = Vec::new();
    for record in records {
        if let Payload::Agent(stopping, data) = &record.payload {
            let rank = ranks.get(&record.epoch).copied().unwrap_or_default();
            let whole = record.envelope.get("data").unwrap_or(&Value::Null);
            said.push(((rank, record.sequence), *stopping, data, whole));
        }
    }
    said.sort_by_key(|(place, ..)| *place);
    for (place, stopping, data, whole) in said {
        let status = match (stopping, data.status.as_deref()) {
            (true, _) => "offline",
            (false, Some("degraded")) => "degraded",
            (false, _) => "online",
        };
        let ip: Option<IpAddr> = data.ip.as_deref().and_then(|ip| ip.parse().ok());
        let statement = tx.prepare_cached(SAVE).await?;
        tx.execute(
            &statement,
            &[
                &caller.device_id,
                &caller.organization_id,
                &status,
                &data.version,
                &data.platform,
                &data.hostname,
                &ip,
                &whole,
                &place.0,
                &place.1,
            ],
        )
        .await?;
    }
    Ok(())
}

/// Notes that the device spoke, whatever it said.
///
/// # Errors
/// When the statement fails.
pub async fn seen(tx: &Transaction<'_>, device_id: Uuid) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached("update devices set last_seen_at = now() where id = $1")
        .await?;
    tx.execute(&statement, &[&device_id]).await?;
    Ok(())
}
