//! Ingest: a batch of records becomes rows in one transaction, and only then there is an answer.
//!
//! Invariants: `accepted` and `duplicate` mean that the record is committed; a batch that fails as a
//! whole leaves nothing; one bad record costs only itself. One device's batches run one after another
//! (an advisory lock), so projections may read, merge and write.
//!
//! ```text
//! items ── check ──▶ records ──▶ [set-based insert + projections] ──ok──▶ commit ──▶ answer
//!             │                        │ data error
//!             └─▶ rejected             └─▶ the same, record by record, each in a savepoint
//! ```

pub mod body;
mod idempotency;
pub mod record;
mod store;

use deadpool_postgres::Transaction;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::command::deliver;
use crate::db::{self, Db, DbError};
use crate::edge::verify::Caller;
use crate::license::cameras;
use crate::problem::Problem;
use crate::twin::store as twin;
use record::{Record, Rejection};

pub use body::{MAX_BODY_BYTES, MAX_RECORDS};
pub use idempotency::Key;

/// What became of one item.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    /// The record's id as sent, null when it had none.
    pub id: Value,
    /// `accepted`, `duplicate`, `rejected` or `retry`.
    pub status: &'static str,
    /// Why, for `rejected` and `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Outcome {
    fn of(item: &Value, status: &'static str) -> Self {
        let id = item
            .get("id")
            .filter(|id| id.is_string())
            .cloned()
            .unwrap_or(Value::Null);
        Self {
            id,
            status,
            code: None,
            detail: None,
        }
    }

    fn rejected(item: &Value, code: &'static str, detail: String) -> Self {
        Self {
            code: Some(code),
            detail: Some(detail),
            ..Self::of(item, "rejected")
        }
    }

    /// The database could not take this one now.
    pub fn retry(item: &Value) -> Self {
        Self {
            code: Some("db"),
            ..Self::of(item, "retry")
        }
    }
}

/// The body of a 200.
pub fn answer(results: Vec<Outcome>) -> Value {
    json!({ "results": results, "commands_pending": 0, "twin_version": 0 })
}

/// Tells the device what waits for it, so that it need not poll: also what was handed out, by MQTT or before, and is
/// not acknowledged, because a broker may lose what it took.
async fn hint(tx: &Transaction<'_>, caller: &Caller, answer: &mut Value) -> Result<(), DbError> {
    answer["commands_pending"] = deliver::pending(tx, caller.device_id).await?.into();
    answer["twin_version"] = twin::version(tx, caller.device_id).await?.into();
    Ok(())
}

/// Stores a batch and returns its answer, after the commit.
///
/// # Errors
/// 409 while the same key is being worked on, 422 when the key belongs to another body, 503 when the
/// database failed: then nothing of this batch is committed, as far as the cloud knows.
pub async fn ingest(
    db: &Db,
    caller: &Caller,
    items: &[Value],
    key: Option<Key<'_>>,
) -> Result<Value, Problem> {
    let mut checked: Vec<_> = items
        .iter()
        .map(|item| Record::check(item, &caller.edge_id))
        .collect();

    let mut client = db.client().await?;
    let mut tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, caller.organization_id).await?;
    if let Some(key) = &key
        && let Some(mut answer) = key.begin(&tx, caller.device_id).await?
    {
        // The results are those of then; what waits is what waits now.
        hint(&tx, caller, &mut answer).await?;
        return Ok(answer);
    }
    lock_device(&tx, caller.device_id).await?;

    let refused = cameras::refused(&tx, caller, &good(&checked)).await?;
    for check in &mut checked {
        let id = check.as_ref().ok().map(|record| record.id);
        if let Some(rejection) = id.and_then(|id| refused.get(&id)) {
            *check = Err(rejection.clone());
        }
    }
    let records = good(&checked);
    let mut stored = store_all(&mut tx, caller, &records).await?.into_iter();
    let mut results = Vec::with_capacity(items.len());
    for (item, check) in items.iter().zip(&checked) {
        results.push(match check {
            Err(rejection) => Outcome::rejected(item, rejection.code, rejection.detail.clone()),
            Ok(_) => match stored.next() {
                Some(Stored::New) => Outcome::of(item, "accepted"),
                Some(Stored::Known) => Outcome::of(item, "duplicate"),
                Some(Stored::Refused(detail)) => Outcome::rejected(item, "schema", detail),
                Some(Stored::Failed) | None => Outcome::retry(item),
            },
        });
    }
    let final_answer = results.iter().all(|outcome| outcome.status != "retry");
    let accepted = results
        .iter()
        .filter(|outcome| outcome.status == "accepted")
        .count();
    let mut answer = answer(results);
    hint(&tx, caller, &mut answer).await?;
    if let Some(key) = &key
        && final_answer
    {
        key.finish(&tx, caller, &answer).await?;
    }
    tx.commit().await.map_err(DbError::from)?;
    tracing::debug!(
        edge_id = caller.edge_id,
        records = items.len(),
        accepted,
        "batch committed"
    );
    Ok(answer)
}

fn good(checked: &[Result<Record, Rejection>]) -> Vec<&Record> {
    checked
        .iter()
        .filter_map(|check| check.as_ref().ok())
        .collect()
}

/// What became of one checked record.
enum Stored {
    New,
    Known,
    /// The database refused its data.
    Refused(String),
    /// The database failed on it for another reason.
    Failed,
}

/// The happy path for all; when the data of one breaks it, each on its own.
async fn store_all(
    tx: &mut Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<Vec<Stored>, DbError> {
    let together = tx.savepoint("batch").await?;
    match store::store(&together, caller, records).await {
        Ok(stored) => {
            together.commit().await?;
            return Ok(stored);
        }
        Err(error) if error.is_data() => together.rollback().await?,
        Err(error) => return Err(error),
    }
    tracing::warn!(
        edge_id = caller.edge_id,
        records = records.len(),
        "batch stored record by record"
    );
    let mut stored = Vec::with_capacity(records.len());
    for record in records {
        let alone = tx.savepoint("record").await?;
        stored.push(match store::store(&alone, caller, &[*record]).await {
            Ok(mut one) => {
                alone.commit().await?;
                one.pop().unwrap_or(Stored::Failed)
            }
            Err(error) if error.is_data() => {
                tracing::warn!(id = %record.id, error = &error as &dyn std::error::Error, "record refused");
                alone.rollback().await?;
                Stored::Refused("the database refused its data".into())
            }
            Err(error) => {
                tracing::error!(id = %record.id, error = &error as &dyn std::error::Error, "record failed");
                alone.rollback().await?;
                Stored::Failed
            }
        });
    }
    Ok(stored)
}

/// One batch of a device at a time, until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_device(tx: &Transaction<'_>, device_id: Uuid) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached("select pg_advisory_xact_lock(hashtextextended($1, 1))")
        .await?;
    tx.execute(&statement, &[&device_id.to_string()]).await?;
    Ok(())
}
