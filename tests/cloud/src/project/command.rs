//! `command.status` records → `commands`; the same for their copies over MQTT, as hints.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Payload, Ranks, check_not_negative};
use crate::command::leave;
use crate::command::state::{Effect, Now, Status, Way, decide};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;

/// `data` of `command.status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Data {
    /// `jti` of the command.
    pub command_id: Uuid,
    /// Counts up with each word about the command.
    pub rev: i64,
    /// The state's word.
    pub state: Status,
    /// Why, as a word.
    pub code: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
    /// How far it is.
    pub progress: Option<Value>,
    /// What came of it.
    pub result: Option<Value>,
}

impl Data {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Which member is out of range.
    pub fn check(&self) -> Result<(), String> {
        check_not_negative("rev", Some(self.rev))?;
        if !self.state.is_a_devices() {
            return Err(format!("state {} is not a device's", self.state.word()));
        }
        Ok(())
    }
}

/// A later word first fills what an earlier, lost one would have said.
const APPLY: &str = "
    update commands set
      status = $2, epoch_rank = $3, rev = $4, hinted = $5, code = $6,
      progress = coalesce($7, progress), result = coalesce($8, result),
      error = case when $2 in ('failed', 'timed_out', 'canceled', 'rejected', 'expired') then $9 end,
      completed_at = case when $10 then $11::timestamptz end,
      updated_at = now()
    where id = $1";

const TIMES: &str = "
    update commands set
      acknowledged_at = case when $2 then least(acknowledged_at, $4) else acknowledged_at end,
      started_at = case when $3 then least(started_at, $4) else started_at end
    where id = $1";

/// Applies a batch's words, in any order.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
    ranks: &Ranks,
) -> Result<(), DbError> {
    for record in records {
        if let Payload::Command(data) = &record.payload {
            let rank = ranks.get(&record.epoch).copied().unwrap_or_default();
            apply(tx, caller.device_id, data, rank, record.time, Way::Record).await?;
        }
    }
    // After all words of the batch: the end of a claim ends what is open.
    for record in records {
        if let Payload::Command(data) = &record.payload
            && data.state == Status::Succeeded
        {
            leave::done(tx, caller, data.command_id).await?;
        }
    }
    Ok(())
}

/// Applies one word to the command it is about, if that is this device's.
///
/// # Errors
/// When a statement fails.
pub async fn apply(
    tx: &Transaction<'_>,
    device_id: Uuid,
    data: &Data,
    rank: i32,
    time: Timestamp,
    way: Way,
) -> Result<(), DbError> {
    let select = tx
        .prepare_cached(
            "select status, epoch_rank, rev, hinted from commands
             where id = $1 and device_id = $2 for update",
        )
        .await?;
    let Some(row) = tx
        .query_opt(&select, &[&data.command_id, &device_id])
        .await?
    else {
        tracing::warn!(command_id = %data.command_id, "word about a command that is not the device's");
        return Ok(());
    };
    let Some(status) = Status::from_word(row.get(0)) else {
        return Ok(());
    };
    let now = Now {
        status,
        place: (row.get(1), row.get(2)),
        hinted: row.get(3),
    };
    let effect = decide(now, data.state, (rank, data.rev), way);
    if effect == Effect::Late {
        let late = tx
            .prepare_cached(
                "update commands set late_status = $2, updated_at = now() where id = $1",
            )
            .await?;
        tx.execute(&late, &[&data.command_id, &data.state.word()])
            .await?;
        return Ok(());
    }
    if effect == Effect::Apply {
        let statement = tx.prepare_cached(APPLY).await?;
        tx.execute(
            &statement,
            &[
                &data.command_id,
                &data.state.word(),
                &rank,
                &data.rev,
                &(way == Way::Hint),
                &data.code.as_deref().map(|code| first(code, 64)),
                &data.progress,
                &data.result,
                &data.detail.as_deref().map(|detail| first(detail, 512)),
                &data.state.is_end(),
                &time,
            ],
        )
        .await?;
    }
    let took_it = !matches!(data.state, Status::Rejected | Status::Expired);
    let began_it = took_it && data.state != Status::Acknowledged;
    let times = tx.prepare_cached(TIMES).await?;
    tx.execute(&times, &[&data.command_id, &took_it, &began_it, &time])
        .await?;
    Ok(())
}

/// At most so many characters.
fn first(text: &str, chars: usize) -> &str {
    text.char_indices()
        .nth(chars)
        .map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}
