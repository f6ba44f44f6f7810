//! The admin API's evidence: where to fetch a recording or a picture, and who is told of alerts.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use uuid::Uuid;

use super::App;
use super::admin::{Key, ListQuery, answer, authenticate, forbidden, list};
use crate::db::{self, DbError};
use crate::notify::endpoint::{self, Wanted};
use crate::problem::Problem;

/// Life of an address that a person is sent to.
const LIFE: Duration = Duration::from_secs(300);

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/v1/recordings/{uid}/content", get(recording))
        .route("/admin/v1/snapshots/{uid}/content", get(snapshot))
        .route("/admin/v1/webhooks", post(create).get(webhooks))
        .route("/admin/v1/webhooks/{id}", delete(disable))
}

async fn recording(
    state: State<Arc<App>>,
    Path(uid): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let sql = "select status, object_key from recordings where recording_uid = $1 order by id desc limit 1";
    content(&state, uid, &headers, sql).await
}

async fn snapshot(
    state: State<Arc<App>>,
    Path(uid): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let sql =
        "select status, object_key from snapshots where snapshot_uid = $1 order by id desc limit 1";
    content(&state, uid, &headers, sql).await
}

/// 302 to the storage, for five minutes; 409 while it is not available.
async fn content(
    app: &App,
    uid: Uuid,
    headers: &HeaderMap,
    sql: &str,
) -> Result<Response, Problem> {
    let key = authenticate(app, headers).await?;
    // The role matrix of section 12: a viewer looks live and plays nothing.
    if key.role == "viewer" {
        return Err(forbidden());
    }
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    let row = tx.query_opt(sql, &[&uid]).await.map_err(DbError::from)?;
    let row = row.ok_or_else(Problem::not_found)?;
    let status: String = row.get(0);
    let (Some(storage), Some(object), "available") = (
        &app.storage,
        row.get::<_, Option<String>>(1),
        status.as_str(),
    ) else {
        let detail = format!("it is {status}");
        return Err(Problem::new(StatusCode::CONFLICT, "not-available", detail));
    };
    let url = storage.get_url(&object, LIFE, jiff::Timestamp::now());
    let no_store = (header::CACHE_CONTROL, "no-store".to_owned());
    Ok((StatusCode::FOUND, [(header::LOCATION, url), no_store]).into_response())
}

async fn administrator(app: &App, headers: &HeaderMap) -> Result<Key, Problem> {
    let key = authenticate(app, headers).await?;
    if key.role == "admin" {
        Ok(key)
    } else {
        Err(forbidden())
    }
}

async fn webhooks(
    state: State<Arc<App>>,
    headers: HeaderMap,
    query: Query<ListQuery>,
) -> Result<Response, Problem> {
    list(state, Path("webhooks".to_owned()), headers, query).await
}

async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| Problem::malformed(format!("the body: {error}")))?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    let made = endpoint::create(&tx, &app.wrapping_key, key.organization_id, &wanted).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(answer(StatusCode::CREATED, &made))
}

async fn disable(
    State(app): State<Arc<App>>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = administrator(&app, &headers).await?;
    let mut client = app.db.client().await?;
    let tx = client.transaction().await.map_err(DbError::from)?;
    db::set_tenant(&tx, key.organization_id).await?;
    endpoint::disable(&tx, id, "switched off").await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
