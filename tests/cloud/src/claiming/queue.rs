//! A row of `device_claiming_queue`, and what it means at a given time.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::{self, DbError};

/// A claim as it is in the database, locked until the transaction ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub(super) id: Uuid,
    pub(super) token_hash: String,
    pub(super) kem_pk: Vec<u8>,
    pub(super) serial: Option<String>,
    pub(super) model: Option<String>,
    pub(super) methods: Vec<String>,
    pub(super) state: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) last_polled_at: Option<Timestamp>,
    pub(super) interval_s: i32,
    pub(super) organization: Option<Uuid>,
    pub(super) device_name: Option<String>,
    pub(super) claim_code: Option<Uuid>,
    pub(super) challenge: Option<Uuid>,
    pub(super) presses: Option<i16>,
    pub(super) challenge_until: Option<Timestamp>,
    pub(super) tries: i16,
    pub(super) answer: Option<String>,
    pub(super) confirm_by: Option<Timestamp>,
}

/// What a claim is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has bound it.
    Open,
    /// Presses are to be counted.
    Challenge,
    /// Somebody has bound it; credentials are made when the device asks.
    Bound,
    /// Credentials wait for their confirm.
    Approved,
    /// Refused.
    Denied,
    /// Two wanted it.
    Conflict,
    /// Its time is over.
    Expired,
}

impl Standing {
    /// A pure function of the row's state and times.
    fn of(
        state: &str,
        expires_at: Timestamp,
        confirm_by: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        match state {
            "denied" => Self::Denied,
            "conflict" => Self::Conflict,
            "approved" if confirm_by.is_some_and(|by| now <= by) => Self::Approved,
            "approved" => Self::Expired,
            _ if now >= expires_at => Self::Expired,
            "challenge" => Self::Challenge,
            "bound" => Self::Bound,
            _ => Self::Open,
        }
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Challenge => "challenge",
            Self::Bound => "bound",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::Expired => "expired",
        }
    }
}

/// Names the claim that the transaction works on and locks its row.
///
/// # Errors
/// When the database does not answer.
pub async fn load(tx: &Transaction<'_>, id: Uuid) -> Result<Option<Claim>, DbError> {
    db::set_local(tx, "app.claim_id", &id.to_string()).await?;
    let statement = tx
        .prepare_cached(
            "select claim_id, token_hash, kem_pk, serial_number, model, methods, state, created_at, expires_at,
                    last_polled_at, interval_s, organization_id, device_name, claim_code_id, challenge_id, presses,
                    challenge_until, tries, answer, confirm_by
             from device_claiming_queue where claim_id = $1 for update",
        )
        .await?;
    Ok(tx.query_opt(&statement, &[&id]).await?.map(|row| Claim {
        id: row.get(0),
        token_hash: row.get(1),
        kem_pk: row.get(2),
        serial: row.get(3),
        model: row.get(4),
        methods: row.get(5),
        state: row.get(6),
        created_at: row.get(7),
        expires_at: row.get(8),
        last_polled_at: row.get(9),
        interval_s: row.get(10),
        organization: row.get(11),
        device_name: row.get(12),
        claim_code: row.get(13),
        challenge: row.get(14),
        presses: row.get(15),
        challenge_until: row.get(16),
        tries: row.get(17),
        answer: row.get(18),
        confirm_by: row.get(19),
    }))
}

impl Claim {
    /// What it is now.
    pub fn standing(&self, now: Timestamp) -> Standing {
        Standing::of(&self.state, self.expires_at, self.confirm_by, now)
    }

    /// The claim as a person may see it: never the whole serial number, never a key.
    pub fn shown(&self, now: Timestamp) -> Value {
        let mut shown = json!({
            "claim_id": self.id,
            "state": self.standing(now).word(),
            "model": self.model,
            "serial_ends_with": self.serial.as_deref().map(last_four),
            "age_s": now.duration_since(self.created_at).as_secs().max(0),
            "expires_in_s": self.expires_at.duration_since(now).as_secs().max(0),
            "device_name": self.device_name,
        });
        if self.standing(now) == Standing::Challenge {
            shown["press"] = json!(self.presses);
            shown["tries_left"] = json!(super::bind::TRIES - self.tries);
        }
        shown
    }

    /// Ends a claim for everybody; what was approved is forgotten.
    pub(super) async fn end(&mut self, tx: &Transaction<'_>, state: &str) -> Result<(), DbError> {
        let statement = tx
            .prepare_cached(
                "update device_claiming_queue set state = $2, device_id = null, edge_id = null, edge_key = null,
                        secret_wrapped = null, mqtt_secret_wrapped = null, answer = null, confirm_by = null
                 where claim_id = $1",
            )
            .await?;
        tx.execute(&statement, &[&self.id, &state]).await?;
        self.state = state.to_owned();
        (self.answer, self.confirm_by) = (None, None);
        Ok(())
    }

    pub(super) async fn delete(&self, tx: &Transaction<'_>) -> Result<(), DbError> {
        let statement = tx
            .prepare_cached("delete from device_claiming_queue where claim_id = $1")
            .await?;
        tx.execute(&statement, &[&self.id]).await?;
        Ok(())
    }
}

/// The end of a serial number, to recognise a box by.
fn last_four(serial: &str) -> String {
    let count = serial.chars().count();
    serial.chars().skip(count.saturating_sub(4)).collect()
}

/// Forgets windows that ended ten minutes ago, credentials whose confirm did not come in time, and old attempts;
/// marks codes whose time is over.
///
/// # Errors
/// When the database does not answer; the next sweep does it.
pub async fn sweep(db: &db::Db, now: Timestamp) -> Result<u64, DbError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.claim_sweep", &now.to_string()).await?;
    let swept = tx
        .execute(
            "delete from device_claiming_queue
             where confirm_by < $1 or expires_at < $1::timestamptz - interval '10 minutes' and confirm_by is null",
            &[&now],
        )
        .await?;
    tx.execute(
        "update claim_codes set status = 'expired' where status = 'active' and expires_at < $1",
        &[&now],
    )
    .await?;
    super::limits::sweep(&tx, now).await?;
    tx.commit().await?;
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_by_itself() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let of = |state, confirm_by: Option<i64>, now| {
            Standing::of(state, at(600), confirm_by.map(at), at(now))
        };
        assert_eq!(of("open", None, 599), Standing::Open);
        for state in ["open", "challenge", "bound"] {
            assert_eq!(of(state, None, 600), Standing::Expired, "{state}");
        }
        // Once approved, the window does not matter any more.
        assert_eq!(of("approved", Some(1100), 700), Standing::Approved);
        assert_eq!(of("approved", Some(1100), 1100), Standing::Approved);
        assert_eq!(of("approved", Some(1100), 1101), Standing::Expired);
        assert_eq!(of("conflict", None, 9999), Standing::Conflict);
        assert_eq!(of("denied", None, 9999), Standing::Denied);
    }

    #[test]
    fn a_serial_number_is_masked() {
        assert_eq!(last_four("10000000abcd1234"), "1234");
        assert_eq!(last_four("ä1"), "ä1");
    }
}
