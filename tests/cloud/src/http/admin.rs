//! The admin API under `/admin/v1`: what an organization's own programs may read and make.
//!
//! A Bearer key names its organization; from then on row-level security decides what exists. No answer
//! carries a secret but the one that creates a device.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use deadpool_postgres::{Client, Transaction};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use crate::admin::{self, AdminError, Listing};
use crate::db::{self, DbError};
use crate::problem::Problem;
use crate::secret::sha256_hex;

/// Most rows of one answer.
const MAX_LIMIT: i64 = 1000;

/// The routes of the admin API.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/devices", get(list_devices).post(create_device))
        .route("/admin/v1/{listing}", get(list))
}

/// Who the key belongs to.
pub(super) struct Key {
    pub(super) organization_id: uuid::Uuid,
    pub(super) role: String,
}

pub(super) fn forbidden() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "the key's role does not allow it",
    )
}

pub(super) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Key, Problem> {
    let unknown = || Problem::unauthorized("unknown-key", "a valid Bearer key is needed");
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|key| key.len() <= 128)
        .ok_or_else(unknown)?;
    let hash = sha256_hex(bearer.as_bytes());
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_local(&tx, "app.api_key_hash", &hash).await?;
    let row = tx
        .query_opt(
            "select k.organization_id, r.name from api_keys k join roles r on r.id = k.role_id
             where k.key_hash = $1 and k.is_active and (k.expires_at is null or k.expires_at > now())",
            &[&hash],
        )
        .await
        .map_err(DbError::from)?
        .ok_or_else(unknown)?;
    let key = Key {
        organization_id: row.get(0),
        role: row.get(1),
    };
    db::set_tenant(&tx, key.organization_id).await?;
    tx.execute(
        "update api_keys set last_used_at = now() where key_hash = $1",
        &[&hash],
    )
    .await
    .map_err(DbError::from)?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(key)
}

/// Only an administrator configures, and users, keys and claims are the administrator's (section 12).
pub(super) async fn administrator(app: &App, headers: &HeaderMap) -> Result<Key, Problem> {
    let key = authenticate(app, headers).await?;
    if key.role == "admin" {
        Ok(key)
    } else {
        Err(forbidden())
    }
}

/// A transaction that sees what the key's organization has.
pub(super) async fn begin<'a>(
    client: &'a mut Client,
    key: &Key,
) -> Result<Transaction<'a>, Problem> {
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    Ok(tx)
}

/// Commits, and only then answers.
pub(super) async fn finish(
    tx: Transaction<'_>,
    status: StatusCode,
    value: &Value,
) -> Result<Response, Problem> {
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer(status, value))
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    limit: Option<i64>,
}

async fn list_devices(
    state: State<Arc<App>>,
    headers: HeaderMap,
    query: Query<ListQuery>,
) -> Result<Response, Problem> {
    list(state, Path("devices".to_owned()), headers, query).await
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(listing): Path<String>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let key = authenticate(&app, &headers).await?;
    let listing = Listing::from_word(&listing).ok_or_else(Problem::not_found)?;
    let limit = query.limit.unwrap_or(100).clamp(1, MAX_LIMIT);
    let mut client = app.db.client().await?;
    let tx = begin(&mut client, &key).await?;
    let rows = admin::list(&tx, listing, None, limit).await?;
    Ok(answer(StatusCode::OK, &json!({ listing.word(): rows })))
}

#[derive(Debug, Deserialize)]
struct CreateDevice {
    name: String,
}

async fn create_device(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: CreateDevice = serde_json::from_slice(&body)
        .map_err(|_| Problem::malformed("the body must be {\"name\": …}"))?;
    let base = format!("https://{}", app.authority);
    let wrapping = &app.wrapping_key;
    let created =
        admin::create_device(&app.db, wrapping, key.organization_id, &wanted.name, &base).await;
    let credentials = created.map_err(|error| match error {
        AdminError::Db(error) if !error.is_data() => Problem::from(error),
        other => Problem::malformed(other.to_string()),
    })?;
    let text = credentials
        .expose_json()
        .map_err(|_| Problem::unavailable())?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::CREATED, json, text).into_response())
}

pub(super) fn answer(status: StatusCode, value: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}
