//! What a box hears while it waits, and its answer to a challenge. Both want the claim's token.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::queue::{self, Claim, Standing};
use super::{after, approve, bind};
use crate::db::DbError;
use crate::http::App;
use crate::problem::Problem;
use crate::secret::sha256_hex;
use axum::http::StatusCode;
use deadpool_postgres::Transaction;

/// What a network may add to the time of a challenge.
const GRACE_S: i64 = 10;
/// A poll may come this much early.
const EARLY_MS: i128 = 500;
/// RFC 8628 section 3.5.
const SLOWER_S: i32 = 5;

/// An answer of RFC 8628: a problem whose `error` is its code.
fn waiting(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail).with("error", code)
}

fn denied(reason: &'static str) -> Problem {
    let detail = match reason {
        "conflict" => "two organizations wanted this box, so nobody gets it; open a new window",
        "presses" => "the button was not pressed as often as it should have been",
        "license" => "the organization's licence has no room for this box",
        _ => "the claim was refused",
    };
    waiting("access_denied", detail).with("reason", reason)
}

fn expired() -> Problem {
    waiting("expired_token", "the claim window is over; open a new one")
}

/// The same for a claim that is not there and a token that is not its own.
async fn load(tx: &Transaction<'_>, id: Uuid, token: &str) -> Result<Claim, Problem> {
    let claim = queue::load(tx, id).await?;
    let hash = sha256_hex(token.as_bytes());
    claim
        .filter(|claim| claim.token_hash == hash)
        .ok_or_else(|| {
            Problem::unauthorized("unknown-claim", "there is no such claim with this token")
        })
}

/// The 200's body, the same each time; anything else is a problem.
///
/// # Errors
/// The codes of section 8.3.
pub async fn poll(app: &App, id: Uuid, token: &str, now: Timestamp) -> Result<String, Problem> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let mut claim = load(&tx, id, token).await?;
    let heard = match claim.standing(now) {
        Standing::Approved => claim.answer.clone().ok_or_else(Problem::unavailable),
        Standing::Bound => match approve::approve(app, &tx, &claim, now).await {
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                let reason = if problem.code == "license" {
                    "license"
                } else {
                    "refused"
                };
                claim.end(&tx, "denied").await?;
                Err(denied(reason))
            }
            Err(problem) => return Err(problem),
            approved => approved,
        },
        Standing::Challenge => challenged(app, &tx, &mut claim, now).await,
        Standing::Open => Err(pending(&tx, &claim, now).await?),
        Standing::Denied => Err(denied(if claim.tries >= bind::TRIES {
            "presses"
        } else {
            "refused"
        })),
        Standing::Conflict => Err(denied("conflict")),
        Standing::Expired => {
            if claim.answer.is_some() {
                claim.delete(&tx).await?;
            }
            Err(expired())
        }
    };
    if heard
        .as_ref()
        .is_err_and(|problem| problem.status.is_server_error())
    {
        return heard;
    }
    tx.commit().await.map_err(DbError::from)?;
    heard
}

async fn pending(tx: &Transaction<'_>, claim: &Claim, now: Timestamp) -> Result<Problem, DbError> {
    let since = claim
        .last_polled_at
        .map(|last| now.duration_since(last).as_millis());
    let fast =
        since.is_some_and(|ms| (0..i128::from(claim.interval_s) * 1000 - EARLY_MS).contains(&ms));
    let interval = if fast {
        (claim.interval_s + SLOWER_S).min(600)
    } else {
        claim.interval_s
    };
    tx.execute(
        "update device_claiming_queue set last_polled_at = $2, interval_s = $3 where claim_id = $1",
        &[&claim.id, &now, &interval],
    )
    .await?;
    Ok(if fast {
        waiting("slow_down", "ask less often").with("interval", interval)
    } else {
        waiting("authorization_pending", "nobody has bound this box yet")
    })
}

/// The time of a challenge starts when the box first hears of it; one without an answer is a wrong answer.
async fn challenged(
    app: &App,
    tx: &Transaction<'_>,
    claim: &mut Claim,
    now: Timestamp,
) -> Result<String, Problem> {
    if claim.challenge_until.is_some_and(|until| now > until) {
        wrong(tx, claim).await?;
        if claim.standing(now) == Standing::Denied {
            return Err(denied("presses"));
        }
    }
    if claim.challenge_until.is_none() {
        let until = after(now, app.claiming.challenge_s + GRACE_S);
        tx.execute(
            "update device_claiming_queue set challenge_until = $2 where claim_id = $1",
            &[&claim.id, &until],
        )
        .await
        .map_err(DbError::from)?;
    }
    Err(waiting(
        "challenge",
        "press the button as often as the person was told",
    )
    .with("challenge_id", claim.challenge.map(|id| id.to_string()))
    .with("window_s", app.claiming.challenge_s))
}

/// Counts a wrong answer: a new challenge, or the end.
async fn wrong(tx: &Transaction<'_>, claim: &mut Claim) -> Result<(), Problem> {
    claim.tries += 1;
    tx.execute(
        "update device_claiming_queue set tries = $2 where claim_id = $1",
        &[&claim.id, &claim.tries],
    )
    .await
    .map_err(DbError::from)?;
    if claim.tries >= bind::TRIES {
        claim.end(tx, "denied").await?;
        return Ok(());
    }
    bind::challenge(tx, claim).await
}

/// How often the button was pressed.
#[derive(Debug, Deserialize)]
pub struct Count {
    challenge_id: Uuid,
    count: u8,
}

/// Compares a count; the number itself is never sent.
///
/// # Errors
/// 400 `wrong_count` when there is another try (the next poll has it), `access_denied` when there is none.
pub async fn count(
    app: &App,
    id: Uuid,
    token: &str,
    count: &Count,
    now: Timestamp,
) -> Result<Value, Problem> {
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let mut claim = load(&tx, id, token).await?;
    let bound = json!({ "status": "bound" });
    let this = claim.challenge == Some(count.challenge_id);
    match claim.standing(now) {
        Standing::Challenge => {}
        // The answer was lost; the count was right.
        Standing::Bound | Standing::Approved if this => return Ok(bound),
        Standing::Denied => return Err(denied("presses")),
        Standing::Conflict => return Err(denied("conflict")),
        Standing::Expired => return Err(expired()),
        _ => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "no-challenge",
                "nobody asked for presses",
            ));
        }
    }
    let in_time = claim.challenge_until.is_some_and(|until| now <= until);
    if !this || !in_time {
        return Err(waiting(
            "wrong_count",
            "that challenge is over; poll for the next",
        ));
    }
    if claim.presses == Some(i16::from(count.count)) {
        tx.execute(
            "update device_claiming_queue set state = 'bound' where claim_id = $1",
            &[&id],
        )
        .await
        .map_err(DbError::from)?;
        tx.commit().await.map_err(DbError::from)?;
        return Ok(bound);
    }
    wrong(&tx, &mut claim).await?;
    let ended = claim.standing(now) == Standing::Denied;
    tx.commit().await.map_err(DbError::from)?;
    Err(if ended {
        denied("presses")
    } else {
        waiting(
            "wrong_count",
            "the number of presses was wrong; poll for another try",
        )
    })
}
