//! `twin.reported` records → `twins.reported*`; the same from `up/twin` over MQTT, as a hint.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Payload, Place, Ranks, check_not_negative};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;

/// `data` of `twin.reported`, and what `up/twin` holds.
#[derive(Debug, Clone, Deserialize)]
pub struct Data {
    /// Version that the device was asked for last; 0 for none.
    pub desired: i64,
    /// Version in force; 0 is the device's own file.
    pub applied: i64,
    /// What became of `desired`.
    pub status: Status,
}

/// The words of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In force.
    Applied,
    /// In force until it proves itself.
    Provisional,
    /// Has faults; what was in force is.
    Rejected,
    /// Did not prove itself.
    Reverted,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Provisional => "provisional",
            Self::Rejected => "rejected",
            Self::Reverted => "reverted",
        }
    }
}

impl Data {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Which member is out of range.
    pub fn check(&self) -> Result<(), String> {
        check_not_negative("desired", Some(self.desired))?;
        check_not_negative("applied", Some(self.applied))
    }
}

const INSERT: &str =
    "insert into twins (device_id, organization_id) values ($1, $2) on conflict do nothing";

const SAVE: &str = "
    update twins set reported = $2, reported_desired = $3, reported_applied = $4, reported_status = $5,
      reported_epoch_rank = $6, reported_sequence = $7, reported_at = $8, reported_hinted = false
    where device_id = $1 and ($6, $7) > (reported_epoch_rank, reported_sequence)";

/// Over MQTT there is no sequence: it is shown when it is about a version that is at least as new, and the
/// next record replaces it.
const SAVE_HINT: &str = "
    update twins set reported = $2, reported_desired = $3, reported_applied = $4, reported_status = $5,
      reported_at = $6, reported_hinted = true
    where device_id = $1 and $3 >= coalesce(reported_desired, 0) and reported is distinct from $2";

/// Applies a batch's newest word.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
    ranks: &Ranks,
) -> Result<(), DbError> {
    let newest = records
        .iter()
        .filter_map(|record| {
            let Payload::Twin(data) = &record.payload else {
                return None;
            };
            let rank = ranks.get(&record.epoch).copied().unwrap_or_default();
            let place: Place = (rank, record.sequence);
            Some((place, record, data))
        })
        .max_by_key(|(place, ..)| *place);
    let Some((place, record, data)) = newest else {
        return Ok(());
    };
    let insert = tx.prepare_cached(INSERT).await?;
    tx.execute(&insert, &[&caller.device_id, &caller.organization_id])
        .await?;
    let said = record.envelope.get("data").unwrap_or(&Value::Null);
    let statement = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &statement,
        &[
            &caller.device_id,
            said,
            &data.desired,
            &data.applied,
            &data.status.word(),
            &place.0,
            &place.1,
            &record.time,
        ],
    )
    .await?;
    Ok(())
}

/// Shows what came over MQTT.
///
/// # Errors
/// When a statement fails.
pub async fn hint(
    tx: &Transaction<'_>,
    (organization_id, device_id): (Uuid, Uuid),
    data: &Data,
    said: &Value,
    at: Timestamp,
) -> Result<(), DbError> {
    let insert = tx.prepare_cached(INSERT).await?;
    tx.execute(&insert, &[&device_id, &organization_id]).await?;
    let statement = tx.prepare_cached(SAVE_HINT).await?;
    let status = data.status.word();
    tx.execute(
        &statement,
        &[&device_id, said, &data.desired, &data.applied, &status, &at],
    )
    .await?;
    Ok(())
}
