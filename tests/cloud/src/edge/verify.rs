//! Who is calling: the verification of section 3.2, in its normative order, and the signing of 3.3.
//!
//! ```text
//! 1 label, tag, alg ─ 2 components ─ 3 keyid ─ 4 clock ─ 5 MAC ─ 6 nonce ─ 7 digest ─ (410) ─ 8 tenant
//! ```
//! `GET /edge/v1/time` is not held to rule 4: a device whose clock is wrong asks it, and believes the answer only
//! because it is signed for that very request.
//!
//! The first failure answers. Nothing is written before the MAC was right, so nobody without a key can
//! fill the nonce table; when the table cannot be written, the request fails (closed, 503).

use axum::body::Bytes;
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use ring::hmac;
use uuid::Uuid;

use crate::claiming::confirm;
use crate::clock::http_date;
use crate::db::{self, DbError};
use crate::hostile::Forge;
use crate::http::App;
use crate::jws::{self, JwsError};
use crate::problem::Problem;
use crate::signature::{self, Answering, Message};

/// Where a device learns the time.
pub const TIME_PATH: &str = "/edge/v1/time";

/// How far `created` may be from the cloud's clock.
pub const MAX_SKEW_S: u64 = 300;

/// An authenticated device and what signs its answer.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `devices.id`.
    pub device_id: Uuid,
    /// The tenant.
    pub organization_id: Uuid,
    /// The public name, as in CloudEvents `source`.
    pub edge_id: String,
    /// The claim that this key is to confirm; none for a key that counts already.
    pub claim: Option<Uuid>,
    key: hmac::Key,
    answering: Answering,
}

/// A refusal, signed when it has a destructive meaning.
#[derive(Debug)]
pub struct Refusal {
    /// The answer.
    pub problem: Problem,
    /// Who signs it: only for 410.
    pub signer: Option<Box<Caller>>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            signer: None,
        }
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Problem::from(error).into()
    }
}

/// One row of `edge_credentials` with what belongs to it.
struct Known {
    device_id: Uuid,
    organization_id: Uuid,
    edge_id: String,
    secret_wrapped: Vec<u8>,
    unclaimed: bool,
    suspended: bool,
    claim: Option<Uuid>,
}

/// The claim that a path confirms.
fn confirms(path: &str) -> Option<Uuid> {
    let id = path
        .strip_prefix("/edge/v1/claims/")?
        .strip_suffix("/confirm")?;
    Uuid::parse_str(id).ok()
}

/// Verifies a request.
///
/// # Errors
/// The answer of the first rule that the request breaks.
pub async fn verify(
    app: &App,
    parts: &Parts,
    body: &Bytes,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let message = Message {
        method: parts.method.as_str(),
        authority: &app.authority,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let claim = signature::read_request(&message, !body.is_empty())?;

    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    let mut known = look_up(&tx, &claim.keyid, now).await?;
    if known.is_none()
        && let Some(id) = confirms(message.path)
    {
        let pending = look_up_claim(&tx, &claim.keyid, id, now).await?;
        // A key that never counted and is gone: nothing of value is lost, so that needs no signature.
        known = Some(pending.ok_or_else(confirm::gone)?);
    }
    let known =
        known.ok_or_else(|| Problem::unauthorized("unknown-key", "the key is not known"))?;
    let asks_for_the_time = message.path == TIME_PATH;
    if !asks_for_the_time && now.as_second().abs_diff(claim.created) > MAX_SKEW_S {
        let problem =
            Problem::unauthorized("clock-skew", "created is too far from the cloud's clock");
        return Err(problem.with_header(header::DATE, http_date(now)).into());
    }
    let secret = app
        .wrapping_key
        .unwrap(&known.edge_id, &known.secret_wrapped)
        .map_err(|error| {
            tracing::error!(edge_id = known.edge_id, %error, "secret does not open");
            Problem::unavailable()
        })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    if !claim.verify(&key) {
        return Err(Problem::unauthorized("invalid-signature", "the signature is wrong").into());
    }
    if !first_use(&tx, &claim.keyid, &claim.nonce).await? {
        return Err(Problem::unauthorized("replayed-nonce", "the nonce was used before").into());
    }
    tx.commit().await.map_err(DbError::from)?;

    if !body.is_empty() && !signature::digest_matches(&parts.headers, body) {
        let detail = "content-digest is not the digest of the received bytes";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "digest-mismatch", detail).into());
    }
    let caller = Caller {
        device_id: known.device_id,
        organization_id: known.organization_id,
        edge_id: known.edge_id,
        claim: known.claim,
        key,
        answering: Answering {
            method: message.method.to_owned(),
            path: message.path.to_owned(),
            signature: claim.signature_text(),
            keyid: claim.keyid,
        },
    };
    if known.unclaimed {
        let detail = "the owner has given this device back";
        let problem = Problem::new(StatusCode::GONE, "unclaimed", detail);
        return Err(Refusal {
            problem,
            signer: Some(Box::new(caller)),
        });
    }
    if known.suspended {
        let detail = "the organization is suspended";
        return Err(Problem::new(StatusCode::FORBIDDEN, "suspended", detail).into());
    }
    Ok(caller)
}

/// Rule 3. A key that its owner revoked, or that was retired more than 24 h ago, is like no key. One that an unclaim
/// revoked is good for the signed 410 and nothing else: a device that was away, or lost the answer, must learn of it.
async fn look_up(
    tx: &deadpool_postgres::Transaction<'_>,
    keyid: &str,
    now: Timestamp,
) -> Result<Option<Known>, DbError> {
    db::set_local(tx, "app.edge_key", keyid).await?;
    let statement = tx
        .prepare_cached(
            "select device_id, organization_id, secret_wrapped,
                    case when state = 'revoked' then retired_at end
             from edge_credentials
             where edge_key = $1 and (state in ('next', 'current', 'revoked')
                or state = 'retired' and retired_at > $2::timestamptz - interval '24 hours')",
        )
        .await?;
    let Some(credential) = tx.query_opt(&statement, &[&keyid, &now]).await? else {
        return Ok(None);
    };
    let (device_id, organization_id): (Uuid, Uuid) = (credential.get(0), credential.get(1));
    db::set_tenant(tx, organization_id).await?;
    let statement = tx
        .prepare_cached(
            "select d.edge_id, d.status = 'unclaimed',
                    o.status <> 'active' or o.deleted_at is not null or not d.is_active
             from devices d join organizations o on o.id = d.organization_id
             where d.id = $1 and d.deleted_at is null and ($2::timestamptz is null or $2 >= d.unclaimed_at)",
        )
        .await?;
    let revoked: Option<Timestamp> = credential.get(3);
    let device = tx.query_opt(&statement, &[&device_id, &revoked]).await?;
    Ok(device.map(|device| Known {
        device_id,
        organization_id,
        edge_id: device.get(0),
        secret_wrapped: credential.get(2),
        unclaimed: device.get(1),
        suspended: device.get(2),
        claim: None,
    }))
}

/// A key that was approved and waits for this very confirm.
async fn look_up_claim(
    tx: &deadpool_postgres::Transaction<'_>,
    keyid: &str,
    id: Uuid,
    now: Timestamp,
) -> Result<Option<Known>, DbError> {
    let statement = tx
        .prepare_cached(
            "select device_id, organization_id, edge_id, secret_wrapped from device_claiming_queue
             where edge_key = $1 and claim_id = $2 and state = 'approved' and confirm_by >= $3",
        )
        .await?;
    let Some(row) = tx.query_opt(&statement, &[&keyid, &id, &now]).await? else {
        return Ok(None);
    };
    let organization_id: Uuid = row.get(1);
    db::set_tenant(tx, organization_id).await?;
    let statement = tx
        .prepare_cached(
            "select status <> 'active' or deleted_at is not null from organizations where id = $1",
        )
        .await?;
    let suspended = tx.query_one(&statement, &[&organization_id]).await?.get(0);
    Ok(Some(Known {
        device_id: row.get(0),
        organization_id,
        edge_id: row.get(2),
        secret_wrapped: row.get(3),
        unclaimed: false,
        suspended,
        claim: Some(id),
    }))
}

/// Rule 6.
async fn first_use(
    tx: &deadpool_postgres::Transaction<'_>,
    keyid: &str,
    nonce: &str,
) -> Result<bool, DbError> {
    let statement = tx
        .prepare_cached(
            "insert into edge_nonces (keyid, nonce) values ($1, $2) on conflict do nothing",
        )
        .await?;
    Ok(tx.execute(&statement, &[&keyid, &nonce]).await? == 1)
}

/// Forgets nonces older than 660 s (2 × 300 + 60); returns how many.
///
/// # Errors
/// When the database does not answer; the next sweep does it.
pub async fn sweep_nonces(db: &db::Db) -> Result<u64, DbError> {
    let client = db.client().await?;
    let statement = client
        .prepare_cached("delete from edge_nonces where seen_at < now() - interval '660 seconds'")
        .await?;
    Ok(client.execute(&statement, &[]).await?)
}

impl Caller {
    /// The `keyid` that signed.
    pub fn edge_key(&self) -> &str {
        &self.answering.keyid
    }

    /// Signs a document with the key that the device has just used, so that it surely has it.
    ///
    /// # Errors
    /// When the claims are no JSON.
    pub fn document(&self, typ: &str, claims: &impl serde::Serialize) -> Result<String, JwsError> {
        jws::sign(&self.key, &self.answering.keyid, typ, claims)
    }

    /// Makes hostile documents with this caller's key, for faults.
    pub fn forge(&self, now: Timestamp) -> Forge {
        let (key, kid) = (self.key.clone(), &self.answering.keyid);
        Forge::with(key, kid, &self.edge_id, now.as_second())
    }

    /// Signs an answer to this caller: `Date`, `Content-Digest`, `Signature-Input`, `Signature`.
    pub async fn sign(&self, response: Response, now: Timestamp) -> Response {
        let (mut parts, body) = response.into_parts();
        let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
            return Problem::unavailable().into_response();
        };
        let date = http_date(now);
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let signed = signature::sign_response(
            &self.key,
            &self.answering,
            parts.status.as_u16(),
            content_type,
            &date,
            now.as_second(),
            &body,
        );
        parts.headers.extend(signed);
        if let Ok(date) = date.parse() {
            parts.headers.insert(header::DATE, date);
        }
        Response::from_parts(parts, body.into())
    }
}
