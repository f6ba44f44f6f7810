//! How often windows may be opened and codes be guessed (sections 8.1 and 8.3).
//!
//! Counted by network, by what the device calls itself, and over everybody: the last is what bounds the chance of
//! a hit whatever addresses an attacker has. Attempts are committed before their answer goes out, and a lock makes
//! parallel guesses count one after another.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};

use super::after;
use crate::db::{Db, DbError};
use crate::problem::Problem;
use axum::http::{StatusCode, header};

/// The budget.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Windows a network may open in an hour.
    pub claims_per_hour: i64,
    /// Wrong codes of a network in ten minutes.
    pub wrong_per_ten_minutes: i64,
    /// Wrong codes of a device in an hour.
    pub wrong_per_device: i64,
    /// Wrong codes of everybody in an hour; then there is an alarm and no code is looked at.
    pub wrong_per_hour: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            claims_per_hour: 10,
            wrong_per_ten_minutes: 5,
            wrong_per_device: 10,
            wrong_per_hour: 100,
        }
    }
}

impl Limits {
    /// No limits, for tests that claim many devices from one address.
    pub fn none() -> Self {
        Self {
            claims_per_hour: i64::MAX,
            wrong_per_ten_minutes: i64::MAX,
            wrong_per_device: i64::MAX,
            wrong_per_hour: i64::MAX,
        }
    }
}

/// Who tries.
#[derive(Debug, Clone)]
pub struct Guesser {
    /// Network of the request.
    pub network: String,
    /// What the device calls itself, or the organization whose person types a code.
    pub name: String,
}

const EVERYBODY: &str = "all";
const HOUR: i64 = 3600;
const TEN_MINUTES: i64 = 600;
/// Makes guesses wait for each other.
const LOCK: i64 = 0x5e17_c0de;

fn too_many(seconds: i64, detail: &str) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail)
        .with_header(header::RETRY_AFTER, seconds.to_string())
}

/// Takes one window of the network's hourly budget.
///
/// # Errors
/// 429 when it is spent.
pub async fn take_window(
    db: &Db,
    limits: &Limits,
    network: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let mut client = db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    lock(&tx).await?;
    if let Some(wait) = spent(&tx, "claim", network, limits.claims_per_hour, HOUR, now).await? {
        return Err(too_many(
            wait,
            "too many claim windows were opened from this address; try again later",
        ));
    }
    note(&tx, "claim", network, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

/// Whether a code may be looked at now; holds off other guesses until the transaction ends.
///
/// # Errors
/// 429 when one of the budgets is spent, also for a right code.
pub async fn may_guess(
    tx: &Transaction<'_>,
    limits: &Limits,
    who: &Guesser,
    now: Timestamp,
) -> Result<(), Problem> {
    lock(tx).await?;
    for (subject, most, seconds) in [
        (
            format!("net:{}", who.network),
            limits.wrong_per_ten_minutes,
            TEN_MINUTES,
        ),
        (format!("by:{}", who.name), limits.wrong_per_device, HOUR),
        (EVERYBODY.to_owned(), limits.wrong_per_hour, HOUR),
    ] {
        if let Some(wait) = spent(tx, "wrong_code", &subject, most, seconds, now).await? {
            return Err(too_many(wait, "too many wrong codes; try again later"));
        }
    }
    Ok(())
}

/// Counts a wrong code; the caller commits. Raises the alarm when everybody's budget is spent by it.
///
/// # Errors
/// When the database does not answer.
pub async fn count_wrong(
    tx: &Transaction<'_>,
    limits: &Limits,
    who: &Guesser,
    now: Timestamp,
) -> Result<(), DbError> {
    for subject in [
        format!("net:{}", who.network),
        format!("by:{}", who.name),
        EVERYBODY.to_owned(),
    ] {
        note(tx, "wrong_code", &subject, now).await?;
    }
    let alarming = spent(
        tx,
        "wrong_code",
        EVERYBODY,
        limits.wrong_per_hour,
        HOUR,
        now,
    )
    .await?;
    if alarming.is_some() && spent(tx, "alarm", EVERYBODY, 1, HOUR, now).await?.is_none() {
        note(tx, "alarm", EVERYBODY, now).await?;
        tracing::error!(
            limit = limits.wrong_per_hour,
            "ALARM: claim codes are being guessed; no code is accepted for now"
        );
    }
    Ok(())
}

/// Forgets what no limit counts any more.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(tx: &Transaction<'_>, now: Timestamp) -> Result<(), DbError> {
    tx.execute(
        "delete from claim_attempts where at < $1",
        &[&after(now, -2 * HOUR)],
    )
    .await?;
    Ok(())
}

async fn lock(tx: &Transaction<'_>) -> Result<(), DbError> {
    tx.execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    Ok(())
}

async fn note(
    tx: &Transaction<'_>,
    kind: &str,
    subject: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached("insert into claim_attempts (kind, subject, at) values ($1, $2, $3)")
        .await?;
    tx.execute(&statement, &[&kind, &subject, &now]).await?;
    Ok(())
}

/// Seconds until one of the last `most` attempts is old enough; none when there is room.
async fn spent(
    tx: &Transaction<'_>,
    kind: &str,
    subject: &str,
    most: i64,
    seconds: i64,
    now: Timestamp,
) -> Result<Option<i64>, DbError> {
    let statement = tx
        .prepare_cached(
            "select count(*), min(at) from claim_attempts where kind = $1 and subject = $2 and at > $3 and at <= $4",
        )
        .await?;
    let since = after(now, -seconds);
    let row = tx
        .query_one(&statement, &[&kind, &subject, &since, &now])
        .await?;
    if row.get::<_, i64>(0) < most {
        return Ok(None);
    }
    let oldest: Option<Timestamp> = row.get(1);
    let wait = oldest.map_or(SignedDuration::ZERO, |at| at.duration_since(since));
    Ok(Some(wait.as_secs().clamp(1, seconds)))
}
