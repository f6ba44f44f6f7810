//! A person says "this box is mine": by the user code that the box shows, or by its entry in the list of windows
//! open where the person is, and then by pressing its button as often as the person was told.
//!
//! Two organizations that want the same box both lose it: whoever is in front of it opens a new window.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::approve;
use super::code::Code;
use super::limits::{self, Guesser, Limits};
use super::queue::{self, Claim, Standing};
use crate::admin::record;
use crate::db::{self, Db, DbError};
use crate::problem::Problem;
use crate::secret::{WrappingKey, random};
use axum::http::StatusCode;

/// How often a person may press before the claim is denied.
pub const TRIES: i16 = 2;

/// Who binds, and as what.
#[derive(Debug)]
pub struct Binder<'a> {
    /// The organization.
    pub organization: Uuid,
    /// Name of the device; the box's model when there is none.
    pub device_name: Option<&'a str>,
    /// Network of the person; none for the operator, who sees every window.
    pub network: Option<&'a str>,
}

fn gone() -> Problem {
    let detail = "there is no such claim window, or its time is over";
    Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
}

fn conflict() -> Problem {
    let detail =
        "somebody else wants this box too, so nobody gets it; open a new window at the box";
    Problem::new(StatusCode::CONFLICT, "conflict", detail)
}

/// Binds the box that shows this user code.
///
/// # Errors
/// 403 for a wrong code, 429 for too many, 409 for a second claimant; 403 when the licence is full or the box is
/// somebody else's.
pub async fn by_user_code(
    db: &Db,
    key: &WrappingKey,
    limits: &Limits,
    binder: &Binder<'_>,
    text: &str,
    now: Timestamp,
) -> Result<Value, Problem> {
    let guesser = Guesser {
        network: binder.network.unwrap_or("operator").to_owned(),
        name: binder.organization.to_string(),
    };
    let mut client = db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    limits::may_guess(&tx, limits, &guesser, now).await?;
    let found = match Code::parse(text) {
        Some(code) => look_up(&tx, &key.hash_code("user", code.expose())).await?,
        None => None,
    };
    let claim = match found {
        Some(id) => queue::load(&tx, id).await?,
        None => None,
    };
    let Some(mut claim) = claim.filter(|claim| claim.standing(now) != Standing::Expired) else {
        limits::count_wrong(&tx, limits, &guesser, now).await?;
        tx.commit().await.map_err(DbError::from)?;
        return Err(super::open::wrong_code());
    };
    let bound = bind(&tx, &mut claim, binder, "U", now).await;
    finish(tx, bound).await
}

/// Wants the box of a list entry: the answer says how often its button is to be pressed.
///
/// # Errors
/// As `by_user_code`; 404 for a window that is not open where the person is.
pub async fn by_list_entry(
    db: &Db,
    binder: &Binder<'_>,
    id: Uuid,
    now: Timestamp,
) -> Result<Value, Problem> {
    let mut client = db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    if let Some(network) = binder.network {
        db::set_local(&tx, "app.claim_id", &id.to_string()).await?;
        let sql =
            "select 1 from device_claiming_queue where claim_id = $1 and network = $2::text::inet";
        if tx
            .query_opt(sql, &[&id, &network])
            .await
            .map_err(DbError::from)?
            .is_none()
        {
            return Err(gone());
        }
    }
    let claim = queue::load(&tx, id).await?;
    let mut claim = claim
        .filter(|claim| claim.standing(now) != Standing::Expired)
        .ok_or_else(gone)?;
    let bound = bind(&tx, &mut claim, binder, "B", now).await;
    finish(tx, bound).await
}

/// A conflict is committed, although it is an error to the one who asks.
async fn finish(tx: Transaction<'_>, bound: Result<Value, Problem>) -> Result<Value, Problem> {
    if bound.as_ref().is_ok()
        || bound
            .as_ref()
            .is_err_and(|problem| problem.code == "conflict")
    {
        tx.commit().await.map_err(DbError::from)?;
    }
    bound
}

async fn look_up(tx: &Transaction<'_>, hash: &str) -> Result<Option<Uuid>, DbError> {
    db::set_local(tx, "app.user_code_hash", hash).await?;
    let row = tx
        .query_opt(
            "select claim_id from device_claiming_queue where user_code_hash = $1",
            &[&hash],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

async fn bind(
    tx: &Transaction<'_>,
    claim: &mut Claim,
    binder: &Binder<'_>,
    method: &str,
    now: Timestamp,
) -> Result<Value, Problem> {
    match claim.standing(now) {
        Standing::Denied => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "denied",
                "this claim was refused; open a new window at the box",
            ));
        }
        Standing::Conflict => return Err(conflict()),
        Standing::Expired => return Err(gone()),
        Standing::Open | Standing::Challenge | Standing::Bound | Standing::Approved => {}
    }
    match claim.organization {
        // Asking again changes nothing, unless the person now has the user code.
        Some(organization) if organization == binder.organization => {
            if !(method == "U" && claim.standing(now) == Standing::Challenge) {
                return Ok(claim.shown(now));
            }
        }
        Some(_) => {
            claim.end(tx, "conflict").await?;
            tracing::warn!(claim = %claim.id, "two organizations want the same box");
            return Err(conflict());
        }
        None => {}
    }
    db::set_tenant(tx, binder.organization).await?;
    check_method(tx, claim, binder.organization, method).await?;
    approve::may_have(tx, claim, binder.organization, now).await?;
    let name = binder
        .device_name
        .or(claim.model.as_deref())
        .unwrap_or("camera")
        .to_owned();
    tx.execute(
        "update device_claiming_queue set state = 'bound', organization_id = $2, method = $3, device_name = $4
         where claim_id = $1",
        &[&claim.id, &binder.organization, &method, &name],
    )
    .await
    .map_err(|error| data(DbError::from(error), "device_name must have 1 to 255 characters"))?;
    claim.state = "bound".to_owned();
    if method == "B" {
        challenge(tx, claim).await?;
    }
    (claim.organization, claim.device_name) = (Some(binder.organization), Some(name));
    let changes = json!({ "after": { "method": method, "state": claim.state } });
    record(
        tx,
        binder.organization,
        "BIND",
        "claim",
        &claim.id.to_string(),
        changes,
    )
    .await?;
    Ok(claim.shown(now))
}

fn data(error: DbError, detail: &str) -> Problem {
    if error.is_data() {
        Problem::malformed(detail)
    } else {
        error.into()
    }
}

/// The box must offer the method and the organization allow it.
pub(super) async fn check_method(
    tx: &Transaction<'_>,
    claim: &Claim,
    organization: Uuid,
    method: &str,
) -> Result<(), Problem> {
    let forbidden = |detail: &str| Problem::new(StatusCode::FORBIDDEN, "method", detail);
    if !claim.methods.iter().any(|offered| offered == method) {
        return Err(forbidden("the box cannot be claimed in this way"));
    }
    let allowed: bool = tx
        .query_one(
            "select $2 = any(claim_methods) from organizations where id = $1",
            &[&organization, &method],
        )
        .await
        .map_err(DbError::from)?
        .get(0);
    if !allowed {
        return Err(forbidden(
            "your organization does not allow claiming in this way",
        ));
    }
    Ok(())
}

/// A new challenge with a new number of presses.
pub(super) async fn challenge(tx: &Transaction<'_>, claim: &mut Claim) -> Result<(), Problem> {
    // 248 is a multiple of 8: each of 2 to 9 is equally likely.
    let [byte] = loop {
        let byte: [u8; 1] = random().map_err(|_| Problem::unavailable())?;
        if byte[0] < 248 {
            break byte;
        }
    };
    let (id, presses) = (Uuid::now_v7(), i16::from(byte % 8) + 2);
    tx.execute(
        "update device_claiming_queue set state = 'challenge', challenge_id = $2, presses = $3, challenge_until = null
         where claim_id = $1",
        &[&claim.id, &id, &presses],
    )
    .await
    .map_err(DbError::from)?;
    claim.state = "challenge".to_owned();
    (claim.challenge, claim.presses, claim.challenge_until) = (Some(id), Some(presses), None);
    Ok(())
}

/// Refuses a claim that the organization has bound, or whose window is open where the person is.
///
/// # Errors
/// 404 when there is none.
pub async fn deny(db: &Db, organization: Uuid, id: Uuid, now: Timestamp) -> Result<Value, Problem> {
    let mut client = db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let claim = queue::load(&tx, id).await?;
    let mut claim = claim
        .filter(|claim| claim.organization == Some(organization))
        .ok_or_else(gone)?;
    db::set_tenant(&tx, organization).await?;
    claim.end(&tx, "denied").await?;
    record(
        &tx,
        organization,
        "DENY",
        "claim",
        &id.to_string(),
        json!({}),
    )
    .await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(claim.shown(now))
}

/// One claim, as the organization that has bound it sees it.
///
/// # Errors
/// 404 for a claim of nobody or of somebody else.
pub async fn show(db: &Db, organization: Uuid, id: Uuid, now: Timestamp) -> Result<Value, Problem> {
    let mut client = db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let claim = queue::load(&tx, id).await?;
    let claim = claim
        .filter(|claim| claim.organization == Some(organization))
        .ok_or_else(gone)?;
    Ok(claim.shown(now))
}

/// Windows that are open where the person is, and those that the organization has bound, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    tx: &Transaction<'_>,
    organization: Option<Uuid>,
    network: Option<&str>,
    now: Timestamp,
) -> Result<Vec<Value>, DbError> {
    if let Some(organization) = organization {
        db::set_tenant(tx, organization).await?;
    }
    db::set_local(tx, "app.claim_network", network.unwrap_or_default()).await?;
    let rows = tx
        .query(
            "select claim_id from device_claiming_queue
             where coalesce(confirm_by, expires_at) > $1
               and ($2::uuid is null or organization_id = $2
                    or organization_id is null and 'B' = any(methods) and network = $3::text::inet)
             order by created_at desc limit 100",
            &[&now, &organization, &network],
        )
        .await?;
    let mut listed = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(claim) = queue::load(tx, row.get(0)).await? {
            listed.push(claim.shown(now));
        }
    }
    Ok(listed)
}
